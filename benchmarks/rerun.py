"""What the command costs when there is nothing to do: `python -m benchmarks.rerun [--repeats N]`.

A toy graph of eight steps is run once (in this process); then fresh processes run the command: a fully cached
`hyperloom run`, `hyperloom plan`, `hyperloom --help`, and `python -c pass` for scale. Medians, in seconds of wall time
(`*_s`) and of CPU time (`*_cpu_s`), which a busy machine changes less. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.running.runner import run

EDGES = {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "b", "c"], "e": ["d"], "f": ["a"], "g": ["d", "f"], "h": ["g"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy.yaml"
        steps = (f'  {n}: {{stage: "benchmarks.noop:Noop", count: 4, data: {json.dumps(r)}}}' for n, r in EDGES.items())
        path.write_text("\n".join([f"name: toy\nroot: {folder}/root\nmodalities: {{}}\nsteps:", *steps, ""]))
        outcome = run(recipe.load(path), progress=Progress(quiet=True), track=False)
        assert outcome.ok, outcome.problems
        command = [sys.executable, "-m", "hyperloom.pipeline"]
        result = {"benchmark": "rerun", "steps": len(EDGES), "load": round(os.getloadavg()[0], 1)}
        for name, line, expect in (
            ("rerun", [*command, "run", str(path)], "nothing to do"),
            ("plan", [*command, "plan", str(path)], "are fresh"),
            ("help", [*command, "--help"], "usage"),
            ("python", [sys.executable, "-c", "pass"], ""),
        ):
            result[f"{name}_s"], result[f"{name}_cpu_s"] = medians(line, given.repeats, expect)
    print(json.dumps(result))


def medians(command: list[str], repeats: int, expect: str) -> tuple[float, float]:
    """Median wall and CPU seconds of a command whose output holds `expect`. The first, uncounted run warms the disk."""
    wall, cpu = [], []
    for _ in range(repeats + 1):
        started, spent = time.perf_counter(), children()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wall.append(time.perf_counter() - started)
        cpu.append(children() - spent)
        assert expect in done.stdout, done.stdout
    return round(statistics.median(wall[1:]), 3), round(statistics.median(cpu[1:]), 3)


def children() -> float:
    """CPU seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
