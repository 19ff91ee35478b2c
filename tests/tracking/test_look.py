"""The look page and the report as a person sees them, in headless Chromium: nothing comes from elsewhere, no name of a
user runs, layers lie over the picture. HYPERLOOM_SCREENSHOTS names a folder for pictures."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.pipeline.tracking.listening import free_port
from tests.unit.test_report import EVIL, FOLDERS, RECIPE, write

TOKEN = "t" * 32


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Storage, list[Any]]:
    folder = tmp_path_factory.mktemp("browsed")
    write(folder / "data")
    columns = json.dumps(FOLDERS)
    text = RECIPE.format(root=folder / "root", data=folder / "data", columns=columns, evil=EVIL)
    (path := folder / "judged.yaml").write_text(text)
    loaded = recipe.load(path)
    assert runner.run(loaded, progress=Progress(io.StringIO()), track=False, paged=True).ok
    storage = Storage(loaded.recipe.root)
    return loaded, storage, opening.steps(loaded, storage)


@pytest.fixture
def viewer(judged: tuple[Any, Storage, list[Any]]) -> Any:
    from hyperloom.stages.look.viewer import Viewer

    loaded, storage, steps = judged
    return Viewer("judged", storage, loaded.recipe.modalities, lambda: steps)


@pytest.fixture
def page(viewer: Any) -> Iterator[str]:
    uvicorn = pytest.importorskip("uvicorn")
    from hyperloom.stages.look.server import application

    port = free_port("127.0.0.1", None)
    server = uvicorn.Server(uvicorn.Config(application(viewer, TOKEN, port), "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def wait(browser: Any, script: str) -> Any:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if value := browser.execute_script(f"return {script}"):
            return value
        time.sleep(0.1)
    raise AssertionError(
        f"never: {script}; the page says {browser.execute_script('return document.body.innerText')[:800]}"
    )


@pytest.mark.timeout(120)
def test_layers_lie_over_the_picture_and_samples_are_sorted(page: str, browser: Any, tmp_path: Path) -> None:
    shots = Path(os.environ.get("HYPERLOOM_SCREENSHOTS", tmp_path))
    browser.get(f"{page}/api/overview")
    assert "token" in browser.execute_script("return document.body.innerText")
    browser.get(f"{page}/in/{TOKEN}")
    assert wait(browser, "document.querySelectorAll('.tile img.layer').length >= 12 && location.pathname") == "/"
    assert TOKEN not in browser.current_url and not browser.execute_script("return document.cookie")
    assert "12 samples" in browser.find_element("id", "state").text
    loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert wait(browser, loaded)
    assert EVIL in wait(browser, "document.querySelector('.legend').innerText")
    browser.save_screenshot(str(shots / "look.png"))
    browser.execute_script(
        "const s = document.getElementById('sort'); s.value = 'error:semantic@c'; s.dispatchEvent(new Event('change'))"
    )
    shown = "[...document.querySelectorAll('.figure')]"
    figures = wait(browser, f"{shown}.length == 12 && {shown}.map(f => +f.innerText)")
    assert figures == sorted(figures, reverse=True)
    wait(browser, "document.querySelector('.frame.open')").click()
    strengths = "document.querySelectorAll('#large[open] .stack input[type=range]').length"
    assert wait(browser, strengths) == 5
    browser.save_screenshot(str(shots / "look-large.png"))
    assert [
        e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE" and "403" not in e["message"]
    ] == []


@pytest.mark.timeout(120)
def test_what_a_sample_said_is_asked_again_once_the_root_is_looked_at_again(
    page: str, viewer: Any, browser: Any
) -> None:
    """While a run goes on; the page showed what it knew, `missing` for ever, and below other keys where rows moved."""
    browser.get(f"{page}/in/{TOKEN}")
    assert wait(browser, "document.querySelectorAll('.tile img.layer').length >= 12 && location.pathname") == "/"
    gone = (
        "document.querySelectorAll('.tile img').length == 0 && document.querySelectorAll('.tile .frame').length >= 12"
    )
    viewer._look()
    viewer.shelf.value = lambda column, row: None
    browser.execute_script("page(true)")
    assert wait(browser, gone)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_a_report_is_read_from_a_file_at_any_width(
    judged: tuple[Any, Storage, list[Any]], browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    loaded, storage, _ = judged
    (path,) = [p for p in storage.walk("reports") if p.endswith(".html")]
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(Path(storage.path(path)).as_uri())
        assert wait(browser, "document.images.length > 3 && [...document.images].every(i => i.naturalWidth > 0)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        assert "1 alert" not in browser.title and loaded.recipe.name in browser.find_element("tag name", "h1").text
        dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(int(n) for n in dark[4:-1].split(",")) < 200) == (scheme == "dark")
        assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
        shots = Path(os.environ.get("HYPERLOOM_SCREENSHOTS", tmp_path))
        browser.save_screenshot(str(shots / f"report-{width}.png"))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
