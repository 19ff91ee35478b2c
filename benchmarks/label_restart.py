"""What a process costs around the frames that it labels: starting, finding that all is done, going on after a kill.

The same for every tool: a process that appends to a file, at each call of the expert, how many frames it got.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.label_speed import timed


def killed(
    fresh: Callable[[int, Path], list[str]], folder: Path, frames: int, kills: int, seconds: float
) -> dict[str, Any]:
    """A process over `frames` frames is killed with all its children some time (up to `seconds`) after its first frame,
    and started again: how many frames were computed twice, and why second starts failed, if they did. `fresh` gives the
    command of a run that shares nothing with those before, by its number and the file to append to."""
    draw = random.Random(0)
    repeated, failed, before = [], [], []
    for number in range(kills):
        log = folder / f"calls{number}"
        command = fresh(number, log)
        with open(folder / f"killed{number}.txt", "w") as out:
            process = psutil.Popen(command, stdout=out, stderr=out)
        while not computed(log) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, seconds))
        assert process.poll() is None, f"it ended before it was killed: {(folder / f'killed{number}.txt').read_text()}"
        end(process)
        before.append(computed(log))
        again = subprocess.run(command, capture_output=True, text=True)
        if again.returncode:
            failed.append(next(line for line in reversed((again.stdout + again.stderr).splitlines()) if line.strip()))
        else:
            repeated.append(computed(log) - frames)
    return {"kills": kills, "frames_before": before, "repeated": repeated, "failed": len(failed), "why": failed[:1]}


def end(process: psutil.Popen) -> None:
    children = process.children(recursive=True)
    for one in (process, *children):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs([process, *children], timeout=10)


def computed(log: Path) -> int:
    return sum(int(line) for line in log.read_text().split()) if log.exists() else 0


def command(recipe: Path) -> list[str]:
    return [sys.executable, "-m", "hyperloom.pipeline", "run", str(recipe), "--no-mlflow"]


def around(folder: Path, text: Callable[[str, str, int], str], frames: int, kills: int) -> dict[str, Any]:
    """Hyperloom's, by `hyperloom run` of a process of its own: over one frame, again over `frames` that are done, and
    after kills. `text` gives a recipe by the name of its root, its expert's log (empty: none) and its frames."""

    def line(name: str, log: str = "", count: int = frames) -> list[str]:
        recipe = folder / f"{name}.yaml"
        recipe.write_text(text(name, log, count))
        return command(recipe)

    def call(words: list[str]) -> None:
        subprocess.run(words, check=True, capture_output=True)

    start = [timed(lambda n=n: call(line(f"one{n}", count=1))) for n in range(2)]
    call(line("done"))
    done = [timed(lambda: call(line("done"))) for _ in range(2)]
    after = killed(lambda number, log: line(f"again{number}", str(log)), folder, frames, kills, seconds=4)
    return {"start_s": round(statistics.median(start), 2), "done_s": round(statistics.median(done), 2), "killed": after}
