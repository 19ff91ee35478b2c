"""The study of PHG-MAE's loop on real driving frames: what of it holds on drives that no training saw.

    python -m benchmarks.phg_mae [--data FOLDER ...] [--test DRIVE ...] [--seeds 0 1 2] [--updates 2000] [--root FOLDER]

Runs recipes/papers/phg_mae/street.yaml once for each test drive and seed, by the command itself: it goes on after any
interruption, experts label once, and nothing runs that is fresh. A folder of `--data` holds `images/`, `labels/` and
`frames.csv` (name, sequence, dense); `--test` are drives (by default each in turn). Prints one JSON line last: for `a`
to `e` the verdict, and under `figures` means, intervals and figures by drive. docs/phg_mae.md says what they mean.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.digests import Digests
from hyperloom.pipeline.manifest import Manifest
from hyperloom.pipeline.plan import plan
from hyperloom.pipeline.recipe import RecipeFile, load
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.verdict.claims import REVERSED, together
from recipes.papers.phg_mae import figures

CHECKOUT = Path(__file__).parents[1]
RECIPE = CHECKOUT / "recipes/papers/phg_mae/street.yaml"
SHARED = Path(os.environ.get("HYPERLOOM_SHARED", CHECKOUT.parent / "shared")).resolve()
TRAINED = ("teacher", "picture", "semi", "few", "student")
LABELLED = 25
KEPT = 0.9
"""Share of the ensemble's mean IoU that a student keeps at "little loss"."""
SMALL = 1_000_000
"""Parameters that a student may have."""


@dataclass(frozen=True)
class Frame:
    """A line of frames.csv. `dense`: of a clip, where flow means something."""

    name: str
    drive: str
    dense: bool


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    root = Path(given.root).resolve()
    data = gathered([Path(d) for d in given.data], root)
    frames = listed([Path(f) for f in given.frames] or [Path(d) / "frames.csv" for d in given.data])
    drives = list(dict.fromkeys(f.drive for f in frames))
    tests = given.test or drives
    if unknown := sorted(set(tests) - set(drives)):
        raise SystemExit(f"--test: no drive {', '.join(unknown)}; the frames are of {', '.join(drives)}")
    began, runs = time.time(), {}
    for seed in given.seeds:
        for test in tests:
            path = root / f"recipe-{test}-{seed}.yaml"
            recipe = variant(data, frames, test, seed, str(root), given.updates)
            path.write_text(json.dumps(recipe, indent=1), encoding="utf-8")  # JSON: a bare 0016E5 is a number in YAML
            run(path, given.steps)
            runs[test, seed] = path
    if given.steps:
        return
    result = Study(runs, tests, given.seeds, frames).result()
    print(json.dumps({"benchmark": "phg_mae", **result, "seconds": round(time.time() - began)}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[str(SHARED / "data/street")], metavar="FOLDER")
    parser.add_argument("--frames", nargs="*", default=[], metavar="CSV", help="by default frames.csv in each folder")
    parser.add_argument("--test", nargs="*", default=[], metavar="DRIVE", help="by default each drive in turn")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, help="of each training; the student's share grows alike")
    parser.add_argument("--root", default="./runs/phg_mae")
    parser.add_argument("--steps", nargs="*", default=[], help="stop after these steps of the recipe, without a result")
    return parser


# -- recipes -----------------------------------------------------------------------------------------------------------
def gathered(folders: list[Path], root: Path) -> Path:
    """One folder with `images` and `labels`: the only one given, or links to what is in all of them."""
    root.mkdir(parents=True, exist_ok=True)
    if len(folders) == 1:
        return folders[0].resolve()
    for kind in ("images", "labels"):
        (root / "frames" / kind).mkdir(parents=True, exist_ok=True)
        for file in (f for folder in folders for f in (folder / kind).iterdir()):
            link = root / "frames" / kind / file.name
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    return root / "frames"


def listed(files: Iterable[Path]) -> list[Frame]:
    """All frames, in the files' order."""
    found = []
    for path in files:
        with open(path, newline="", encoding="utf-8") as file:
            found += [Frame(r["name"], r["sequence"], r.get("dense") == "1") for r in csv.DictReader(file)]
    return found


def few(frames: Iterable[Frame], test: str, count: int = LABELLED) -> list[str]:
    """The frames that show their human label: evenly over each training drive, of clips none, as many of each drive."""
    drives: dict[str, list[str]] = {}
    for frame in frames:
        if frame.drive != test and not frame.dense:
            drives.setdefault(frame.drive, []).append(frame.name)
    each, extra = divmod(count, len(drives))
    chosen: list[str] = []
    for n, names in enumerate(drives.values()):
        mine = {names[int((i + 0.5) * len(names) / each)] for i in range(each)}
        spare = [name for name in names if name not in mine]
        mine |= {spare[int((i + 0.5) * len(spare) / extra)] for i in range(extra)} if not n else set()
        chosen += sorted(mine)
    return chosen


def variant(data: Path, frames: list[Frame], test: str, seed: int, root: str, updates: int | None = None) -> Any:
    """The recipe for one test drive and seed."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    steps, names = recipe["steps"], few(frames, test)
    recipe["root"] = root
    for ingest in ("frames", "few_frames"):
        source = steps[ingest]["source"]
        source["path"] = str(data / "images/*.jpg")
        for side in source["columns"].values():
            side["path"] = str(data / "labels/{stem}.png")
        source["columns"]["semantic@few"]["only"] = names
    steps["few_frames"]["source"]["only"] = names
    for step in steps.values():
        if "pin" in step.get("split", {}):
            step["split"] = {"by": "drive", "pin": {"test": [test]}}
    share = updates / steps["teacher"]["updates"] if updates else 1
    for name in TRAINED:
        steps[name]["updates"] = round(steps[name]["updates"] * share)
        steps[name]["seed"] = seed
    return recipe


def run(path: Path, steps: Iterable[str] = ()) -> None:
    """`hyperloom run`, its lines on stderr. Ends the study where it fails: the same command goes on."""
    wanted = [x for step in steps for x in ("--step", step)]
    command = [
        sys.executable,
        "-m",
        "hyperloom.pipeline",
        "run",
        str(path),
        "--no-mlflow",
        "--wait",
        "600",
        *wanted,
    ]
    environment = {"HYPERLOOM_SHARED": str(SHARED), **os.environ}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}; the same command goes on from there")


# -- results -----------------------------------------------------------------------------------------------------------
class Study:
    """What the finished runs amount to."""

    def __init__(self, runs: dict[tuple[str, int], Path], tests: list[str], seeds: list[int], frames: list[Frame]):
        os.environ.setdefault("HYPERLOOM_SHARED", str(SHARED))
        self.tests, self.seeds = tests, seeds
        self.clips = {f.drive for f in frames if f.dense}
        self.dense = {f.name for f in frames if f.dense}
        self.recipes: dict[tuple[str, int], RecipeFile] = {key: load(path) for key, path in runs.items()}
        self.storage = Storage(next(iter(self.recipes.values())).recipe.root)
        self.manifests = {key: self._manifests(loaded) for key, loaded in self.recipes.items()}

    def result(self) -> dict[str, Any]:
        chosen = {t: self.manifests[t, self.seeds[0]]["choice"].body["best_expert"]["semantic"] for t in self.tests}
        compared = self._compared(chosen)
        small = all(made["student"].body["parameters"] < SMALL for made in self.manifests.values())
        return {
            "a": compared["a"]["verdict"],
            "b": compared["b"]["verdict"],
            "c": together([p["verdict"] for p in (compared["c_miou"], compared["c_temporal"]) if p]),
            "d": compared["d"]["verdict"] if small else REVERSED,
            "e": compared["e"]["verdict"],
            "figures": compared,
            "miou": self._table(),
            "best_expert": {"chosen_on_the_labelled_frames": chosen, "oracle": self._oracle()},
            "speed": self._speed(),
            "parameters": {n: self.manifests[self.tests[0], self.seeds[0]][n].body["parameters"] for n in TRAINED},
            "tests": self.tests,
            "seeds": self.seeds,
        }

    def _compared(self, chosen: dict[str, str]) -> dict[str, Any]:
        def labels(name: str) -> dict[str, np.ndarray]:  # the same whatever the seed of a training
            return {t: m[:1] for t, m in self.matrices(name).items()}

        oracle = self._oracle()
        best = {t: labels(chosen[t])[t] for t in self.tests}
        top = {t: labels(oracle[t])[t] for t in self.tests}
        ensemble, picture = self.matrices("ensemble"), self.matrices("picture")
        single, student = self.matrices("single"), self.matrices("student")
        return {
            "a": figures.compared(labels("consensus"), best),
            "a_oracle": figures.compared(labels("consensus"), top),
            "b": figures.compared(single, picture),
            "b_picture_only": figures.compared(self.matrices("blind"), picture),
            "c_miou": figures.compared(ensemble, single),
            "c_temporal": self._temporal("ensemble", "single"),
            "c_temporal_student": self._temporal("student", "single"),
            "d": figures.compared(student, ensemble, np.divide, KEPT),
            "d_over_picture": figures.compared(student, picture),
            "e": figures.compared(self.matrices("semi"), self.matrices("untaught")),
            "e_three_tasks": figures.compared(picture, self.matrices("untaught")),
            "student_over_untaught": figures.compared(student, self.matrices("untaught")),
            "ensemble_over_best_expert": figures.compared(ensemble, _spread(best, len(self.seeds))),
            "student_over_best_expert": figures.compared(student, _spread(best, len(self.seeds))),
        }

    def matrices(self, name: str) -> dict[str, np.ndarray]:
        """Confusion matrices of `semantic@name` on each test drive: (seeds, stretches of frames, K, K + 1)."""
        found = {}
        for test in self.tests:
            reports = [self.manifests[test, seed]["report"] for seed in self.seeds]
            parts = [[r.meta["sums"][f"semantic@{name}"]["matrix"] for r in report.records] for report in reports]
            found[test] = np.array(parts)
        return found

    def _table(self) -> dict[str, dict[str, float]]:
        """Mean IoU by who and drive, over seeds, and the mean over drives."""
        columns = self.manifests[self.tests[0], self.seeds[0]]["report"].records[0].meta["sums"]
        rows = {}
        for name in (c.partition("@")[2] for c in columns):
            scores = {t: round(float(figures.miou(m.sum(1)).mean()), 4) for t, m in self.matrices(name).items()}
            rows[name] = scores | {"mean": round(statistics.mean(scores.values()), 4)}
        return rows

    def _oracle(self) -> dict[str, str]:
        """The best single expert by the test drive's own truth: what a choice could have reached."""
        table, names = self._table(), ("deeplab", "espnet", "pascal")
        return {t: max(names, key=lambda n: table[n][t]) for t in self.tests}

    def _temporal(self, ours: str, theirs: str) -> dict[str, Any] | None:
        """Agreement along the flow in the clips of test drives; None when no test drive has one."""
        clips = [t for t in self.tests if t in self.clips]
        if not clips:
            return None
        mine, other = (
            {t: np.stack([self._agreement(t, s, name) for s in self.seeds]) for t in clips} for name in (ours, theirs)
        )
        truth = {t: round(float(np.nanmean(self._agreement(t, self.seeds[0], "truth"))), 4) for t in clips}
        return figures.compared_numbers(mine, other) | {"truth": truth}

    def _agreement(self, test: str, seed: int, name: str) -> np.ndarray:
        from hyperloom.stages.base import KEY, modality_of
        from hyperloom.stages.table import read_table

        exam, modalities = self.manifests[test, seed]["exam"], self.recipes[test, seed].recipe.modalities
        columns = (f"semantic@{name}", "flow@dis")
        parts: list[list[np.ndarray]] = [[], []]
        for shard in (s for s in exam.body["shards"] if s["split"] == "test"):
            table = read_table(self.storage, shard["path"], [KEY, *columns])
            keep = [i for i, key in enumerate(table[KEY].to_pylist()) if key in self.dense]
            for part, column in zip(parts, columns, strict=True):
                part.append(modalities[modality_of(column)].decode(table[column])[0][keep])
        return figures.agreement(*(np.concatenate(part) for part in parts))

    def _speed(self) -> dict[str, Any]:
        from recipes.papers.phg_mae.speed import speed

        key = (self.tests[0], self.seeds[0])
        return speed(self.recipes[key].recipe, self.manifests[key], self.storage)

    def _manifests(self, loaded: RecipeFile) -> dict[str, Manifest]:
        planned = plan(loaded, self.storage, Digests(self.storage))
        return {step.name: step.manifest for step in planned if step.manifest}


def _spread(matrices: dict[str, np.ndarray], seeds: int) -> dict[str, np.ndarray]:
    return {t: np.repeat(m, seeds, 0) for t, m in matrices.items()}


if __name__ == "__main__":
    main()
