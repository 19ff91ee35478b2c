"""All experts of recipes/street.yaml over real frames, while a random worker is killed every few seconds: after a rerun
the columns are, byte for byte, those of an undisturbed run.

A slice of the frames by default; HYPERLOOM_STREET_FRAMES=530 takes them all (half an hour on two cores). Needs the
published frames and networks (docs/street.md), in the folder that HYPERLOOM_SHARED names.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import BIN, HERE
from tests.real.test_street_experts import SHARED, pytestmark  # noqa: F401  skips where there is no data

FRAMES = int(os.environ.get("HYPERLOOM_STREET_FRAMES", "16"))
EVERY = 5.0
"""Seconds between two kills, at least: on a busy machine the next one waits until a unit more is committed."""
MOST = 4 if FRAMES <= 100 else FRAMES
"""Kills: of more on so few frames, three may meet one sample, which is then rightly set aside."""


def recipe(folder: Path, root: str) -> Path:
    """recipes/street.yaml up to its labels, over some of the frames: a part of each drive, and of the 15 Hz clip."""
    text = (HERE / "recipes/street.yaml").read_text()
    text = text[: text.index("\n  votes:")] + "\n"
    images = folder / "images"
    if not images.exists():
        images.mkdir()
        found = sorted((SHARED / "data/street/images").glob("*.jpg"))
        clip = [f for f in found if re.match(r"0016E5_0[78]\d\d\d", f.name)][: FRAMES // 4]
        some = found if len(found) <= FRAMES else sorted({*found[:: len(found) // (FRAMES - len(clip))], *clip})
        for file in some:
            (images / file.name).symlink_to(file)
    text = text.replace("${HYPERLOOM_SHARED:-../shared}/data/street/images/*.jpg", f"{images}/*.jpg")
    text = re.sub(r"\n +only: \[.*?\]", "", text, flags=re.S)  # it names frames that are not in the slice
    text = text.replace("root: ./runs", f"root: {folder / root}").replace("rows: 16", "rows: 4")
    path = folder / f"{root}.yaml"
    path.write_text(text)
    return path


def run(path: Path, kill: bool) -> int:
    """Run the recipe; with `kill`, kill -9 a random worker every few seconds meanwhile. How many were killed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_FAULT", "MLFLOW_"))}
    env |= {"HYPERLOOM_SHARED": str(SHARED)}
    out = path.with_suffix(".log")
    chance, killed, units = random.Random(0), 0, 0
    with open(out, "w") as log:
        process = subprocess.Popen(
            [str(BIN / "hyperloom"), "run", str(path), "--no-mlflow"], cwd=HERE, env=env, stdout=log, stderr=log
        )
        while process.poll() is None:
            time.sleep(EVERY if kill else 0.2)
            done = sum(1 for _ in path.with_suffix("").glob("expert/*/units/*.json")) if kill else 0
            workers = labelling(process.pid) if done > units and killed < MOST else []
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed, units = killed + 1, done
    assert process.returncode == 0 or kill, out.read_text()
    return killed


def labelling(driver: int) -> list[int]:
    """Worker processes of the driver's own Ray that host experts now."""
    try:
        below = psutil.Process(driver).children(recursive=True)
        return sorted(p.pid for p in below if "ray::_Actor" in "".join(p.cmdline()))
    except psutil.NoSuchProcess:
        return []


def columns(root: Path) -> dict[str, bytes]:
    """All that was committed. What a process that died meanwhile had begun to write is of no consequence."""
    storage = Storage(str(root))
    kept = (
        p for p in storage.walk("") if "/data/" in p or "/units/" in p or "manifest.json" in p or "/quarantine/" in p
    )
    return {p: storage.read(p) for p in kept if "/.tmp-" not in p}


@pytest.mark.timeout(3600 if FRAMES > 100 else 900)  # every expert twice, on two cores
def test_workers_killed_all_the_time_leave_the_same_columns(tmp_path: Path) -> None:
    run(recipe(tmp_path, "calm"), kill=False)
    killed = run(recipe(tmp_path, "killed"), kill=True)
    assert killed >= 3
    run(recipe(tmp_path, "killed"), kill=False)
    calm, after = columns(tmp_path / "calm"), columns(tmp_path / "killed")
    assert sum("/units/" in p for p in calm) > 40
    assert after.keys() == calm.keys()
    assert [p for p in calm if after[p] != calm[p]] == []
