"""MLflow as a person sees it: a run's pages in headless Chromium. HYPERLOOM_SCREENSHOTS names a folder for pictures."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking import landing
from tests.tracking.conftest import Server, story, track

WAIT_SECONDS = 60


@pytest.mark.timeout(300)
def test_the_pages_show_the_run_its_curve_and_its_pictures(
    server: Server, client: Any, storage: Storage, browser: Any, tmp_path: Path
) -> None:
    story(storage, "seen", "pages")
    assert track(storage, "seen", server.url, "pages").wait(timeout=90) == 0
    experiment = client.get_experiment_by_name("pages").experiment_id
    runs = {r.info.run_name: r.info.run_id for r in client.search_runs([experiment])}
    shots = Path(os.environ.get("HYPERLOOM_SCREENSHOTS", tmp_path))
    base = f"{server.url}/#/experiments/{experiment}"

    pages = landing.pages(storage, "pages", server.url, server.url)
    browser.get(pages["all runs"])
    for text in ("pages seen", "verdict", "kind", "student.semantic.miou", "0.62"):
        _until(browser, text)
    browser.save_screenshot(str(shots / "experiment.png"))

    assert pages["last run"].startswith(f"{base}/runs/{runs['pages seen']}?")
    browser.get(pages["last run"])
    drawn = "return [...document.images].some(i => i.src.includes('get-artifact') && i.naturalWidth > 50)"
    _until_true(browser, drawn, "the picture of the run")
    for text in ("pages seen", "FINISHED", "student.semantic.miou", "0.62", "color"):
        _until(browser, text)
    browser.save_screenshot(str(shots / "run.png"))

    browser.get(f"{base}/runs/{runs['student']}/model-metrics")
    _until(browser, "val.semantic.miou")
    _until_true(
        browser, "return document.querySelectorAll('svg .scatterlayer path, .js-plotly-plot').length > 0", "a curve"
    )
    time.sleep(1)  # the drawing of the curve is animated
    browser.save_screenshot(str(shots / "curve.png"))

    browser.get(f"{base}/runs/{runs['report']}/artifacts/pictures/collage.png")
    _until(browser, "collage.png")
    loaded = "return [...document.images].some(i => i.complete && i.naturalWidth > 300)"
    _until_true(browser, loaded, "the collage")
    browser.save_screenshot(str(shots / "collage.png"))

    browser.get(pages["model aerial"])
    for text in ("champion", "models:/aerial@champion"):
        _until(browser, text)
    browser.save_screenshot(str(shots / "model.png"))


def _until(browser: Any, text: str) -> None:
    _until_true(browser, f"return document.body.innerText.toLowerCase().includes({text.lower()!r})", repr(text))


def _until_true(browser: Any, script: str, what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if browser.execute_script(script):
            return
        time.sleep(0.3)
    said = browser.execute_script("return document.body.innerText")[:3000]
    raise AssertionError(f"{what} never appeared at {browser.current_url}; the page says:\n{said}")
