"""Takes the pictures of docs/images: report, look page and MLflow of a recipe that has run, in headless Chromium.

    python docs/screenshots.py RECIPE                 # those that the pages use, below 80 kB each
    python docs/screenshots.py RECIPE --all FOLDER    # every page at two widths, light and dark, to be looked at

Wants Chromium and its driver (Debian: `apt-get install chromium chromium-driver`) and the extra `test`.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
MOST_BYTES = 80_000
WIDTHS = {"desktop": (1280, 900, 1.0, False), "phone": (390, 844, 2.0, True)}
"""CSS pixels, device pixels a CSS pixel, and whether it is a phone."""
SCHEMES = ("light", "dark")
WAIT_SECONDS = 180
SWITCHES = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "hide-scrollbars", "window-size=1500,1300",
)  # fmt: skip

CLOSE = """document.querySelector('[data-component-id="mlflow.assistant.chat_panel.close"]')?.click();
[...document.querySelectorAll('button')].find(b => b.innerText === 'Show more')?.click()"""
"""What MLflow opens by itself, and what it folds."""


class WantedPage(NamedTuple):
    """Where a page is, and a script that is true once it stands; `prepare` runs before the picture is taken."""

    url: str
    ready: str
    prepare: str = ""


class Picture(NamedTuple):
    """One of docs/images."""

    page: str
    width: str
    scheme: str


PICTURES = {
    "report": Picture("report", "desktop", "light"),
    "report-phone": Picture("report", "phone", "dark"),
    "look": Picture("look", "desktop", "dark"),
    "look-phone": Picture("look", "phone", "light"),
    "mlflow-runs": Picture("mlflow-runs", "desktop", "light"),
    "mlflow-run": Picture("mlflow-run", "desktop", "light"),
}


@contextmanager
def chromium() -> Iterator[Any]:
    """Headless Chromium, which the tests drive too. Raises SystemExit where it is not installed."""
    from selenium import webdriver

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        raise SystemExit(
            "chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)"
        )
    with tempfile.TemporaryDirectory() as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for word in SWITCHES:
            options.add_argument(f"--{word}")
        options.add_argument(f"--user-data-dir={folder}")
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield browser
        finally:
            browser.quit()


@contextmanager
def served(*arguments: str) -> Iterator[dict[str, Any]]:
    """What a command of Hyperloom that serves pages says of them with `--json`, while it serves."""
    command = [sys.executable, "-m", "hyperloom.pipeline", *arguments, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield _value(process.stdout)
    finally:
        process.terminate()
        process.wait(30)


def _value(lines: Any) -> dict[str, Any]:
    """The JSON value that a stream begins with."""
    text = ""
    for line in lines:
        text += line
        try:
            answer: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            continue
        return answer
    raise SystemExit(f"the command ended: {text or 'it said nothing'}")


def pages(report: Path, look: dict[str, Any], ui: dict[str, Any]) -> dict[str, WantedPage]:
    shown = "[...document.images].every(i => i.complete) && document.body.innerText.length > 200"
    return {
        "report": WantedPage(report.as_uri(), shown),
        "report-samples": WantedPage(report.as_uri(), shown, "document.getElementById('samples')?.scrollIntoView()"),
        "report-ensembles": WantedPage(
            report.as_uri(), shown, "document.getElementById('ensembles')?.scrollIntoView()"
        ),
        "look": WantedPage(
            look["url"],
            "document.images.length > 2 && !document.querySelector('.wait')"
            " && [...document.images].every(i => i.complete)",
        ),
        "mlflow-runs": WantedPage(ui["pages"]["all runs"], "document.body.innerText.includes('verdict')", CLOSE),
        "mlflow-run": WantedPage(
            ui["pages"]["last run"],
            "[...document.images].some(i => i.src.includes('artifact') && i.naturalWidth > 50)",
            CLOSE,
        ),
    }


def taken(browser: Any, page: WantedPage, width: str, scheme: str) -> bytes:
    """A PNG of a page, once it stands."""
    wide, high, scale, mobile = WIDTHS[width]
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    metrics = {"width": wide, "height": high, "deviceScaleFactor": scale, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    until = time.monotonic() + WAIT_SECONDS
    _visited(browser, page.url, until)
    while not browser.execute_script(f"return {page.ready}"):
        if time.monotonic() > until:
            raise SystemExit(
                f"{page.url} never stood: {browser.execute_script('return document.body.innerText')[:500]}"
            )
        time.sleep(0.3)
    browser.execute_script(page.prepare or "0")
    time.sleep(2)  # what is drawn late, or moves
    image: bytes = browser.get_screenshot_as_png()
    return image


def _visited(browser: Any, url: str, until: float) -> None:
    """Open a page anew, as soon as its server listens."""
    from selenium.common.exceptions import WebDriverException

    browser.get("about:blank")
    while True:
        try:
            return browser.get(url)
        except WebDriverException:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def compressed(image: bytes) -> bytes:
    """As WebP, as good as MOST_BYTES allow."""
    from PIL import Image

    picture = Image.open(io.BytesIO(image)).convert("RGB")
    if picture.width == 2 * WIDTHS["phone"][0]:
        picture = picture.resize((WIDTHS["phone"][0], WIDTHS["phone"][1]))
    for quality in (80, 70, 60, 50, 40, 30):
        target = io.BytesIO()
        picture.save(target, "WEBP", quality=quality, method=6)
        if target.tell() < MOST_BYTES:
            break
    return target.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--all", metavar="FOLDER", type=Path)
    parser.add_argument("--only", nargs="*", metavar="PAGE", help="of these pages alone")
    given = parser.parse_args()
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory()))
        make = [sys.executable, "-m", "hyperloom.pipeline", "report", given.recipe, "--to", str(folder / "report.html")]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        look = open_.enter_context(served("look", given.recipe))
        ui = open_.enter_context(served("ui", given.recipe))
        browser, places = open_.enter_context(chromium()), pages(folder / "report.html", look, ui)
        if given.all:
            given.all.mkdir(parents=True, exist_ok=True)
            for name in given.only or places:
                for width in WIDTHS:
                    for scheme in SCHEMES:
                        image = taken(browser, places[name], width, scheme)
                        (given.all / f"{name}-{width}-{scheme}.png").write_bytes(image)
            return
        for name, picture in PICTURES.items():
            if not given.only or picture.page in given.only:
                image = compressed(taken(browser, places[picture.page], picture.width, picture.scheme))
                (HERE / "images" / f"{name}.webp").write_bytes(image)


if __name__ == "__main__":
    main()
