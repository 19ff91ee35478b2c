"""The documentation as a site: it builds strictly, so every link leads somewhere, and the reference has every field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed (pip install 'hyperloom[docs]')")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(CHECKOUT / "mkdocs.yml"), site_dir=str(folder)))  # strict: a broken link raises
    return folder


def test_the_site_has_all_pages_and_fetches_nothing(site: Path) -> None:
    pages = {page.stem for page in site.glob("*.html")}
    assert {path.stem for path in (CHECKOUT / "docs").glob("*.md")} <= pages
    text = (site / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"https?://(?!www\.sitemaps)[^\"]+\.(?:js|css)", text)


def test_the_reference_has_every_field(site: Path) -> None:
    train = (site / "reference/stage.html").read_text(encoding="utf-8")
    for words in ("checkpoint_every", "max_quarantine", "Changes no result", 'href="expert.html"', "started again"):
        assert words in train, words
    assert "path" in (site / "reference/expert.html").read_text(encoding="utf-8")
    errors = (site / "reference/errors.html").read_text(encoding="utf-8")
    assert errors.count("<tr>") > 200 and "hyperloom verify --repair" in errors
