"""Random corruption of a whole root: each damage is healed by the next run, named by `verify`, or of no consequence.

A small pipeline from ingest to release runs once, in this process, and once only to its shards. Each trial copies one
of the roots, damages a file of it at random, calls some of all commands, runs again, repairs, runs again, and compares
with the undamaged root; so with a root that `import` made. `HYPERLOOM_TRIALS` sets their number (2,000 for the long
version), `HYPERLOOM_FIRST_TRIAL` the first.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.root import inventory
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import champion

TRIALS = int(os.environ.get("HYPERLOOM_TRIALS", "40"))
FIRST = int(os.environ.get("HYPERLOOM_FIRST_TRIAL", "0"))
RECIPE = """\
name: small
root: {root}
schedule: {{cron: "0 3 * * *", on: {{type: new-data}}}}
modalities:
  rgb:      {{type: image, size: [24, 32]}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  depth:    {{type: dense, unit: m}}
  normals:  {{type: dense, channels: 3, direction: true}}
  flow:     {{type: dense, channels: 2, unit: px}}
  edges:    {{type: dense, range: [0, 1]}}
  pose:     {{type: vector, length: 20}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 3, frames: 4, seed: 3}}, group: flight, rows: 4}}
  labels:
    stage: label
    data: frames
    experts:
      - {{type: edges, in: rgb@camera, out: edges@gradient}}
      - {{type: flow, in: rgb@camera, out: flow@dis}}
      - {{type: depth-from-flow, in: [flow@dis, pose@telemetry], out: depth@motion}}
  votes:
    stage: consensus
    data: [frames, labels]
    columns: {{depth@consensus: {{method: median, of: [depth@motion, depth@truth]}}}}
  shards:
    stage: shard
    data: [frames, labels, votes]
    split: {{by: flight, pin: {{train: [flight_00, flight_01], test: [flight_02]}}}}
  model: {{stage: train, data: shards, in: [rgb@camera, edges@gradient], {training}}}
  student: {{stage: distill, data: shards, in: rgb@camera, {training}}}
  report:
    stage: evaluate
    data: shards
    models: {{student: student}}
    truth: {{semantic: semantic@truth, depth: depth@truth}}
    pictures: 1
  release: {{stage: release, model: student, report: report, name: small}}
"""
TRAINING = """targets: {semantic: semantic@truth, depth: depth@consensus}, model: {trunk: {type: unet, width: 2}},
    updates: 4, batch: 4, checkpoint_every: 2"""


STOPS = {"whole": "release", "half": "votes", "sharded": "shards", "taught": "student"}
"""The last step that the root of this name has run."""
SLOT = "2030-01-{:02d}T03:00:05+00:00"
LOOKS = (
    "plan", "plan --json", "plan --rehash", "status", "failed", "release", "logs", "logs --json", "logs --list",
    "cancel --wait 0", "doctor --no-ray", "ui", "schedule list", "schedule next", "schedule history",
    "schedule history --json", "schedule pause", "schedule resume", "schedule remove", "schedule add",
    "tick --no-mlflow --at",
)  # fmt: skip
"""Commands on a recipe."""
SHOWS = ("data head", "data stats", "data show --to", "data export --layout parquet --to", "export --to")
"""Commands on a step, which show its samples."""
FINDS = ("failed", "doctor", "cancel")
"""Commands that may end with 1 without an error."""


class Rooted:
    """A copy of a root, and the commands on it, in this process."""

    def __init__(self, folder: Path, imported: Path | None = None, text: str = RECIPE):
        self.folder, self.root, self.imported = folder, folder / "root", imported
        self.recipe = folder / "small.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        self.text = text
        self.recipe.write_text(text.replace("{root}", str(self.root)) if imported else full(text, self.root))
        self.said = ""

    def __call__(self, line: str, *options: str) -> int:
        """The exit code of a command. Whatever is raised past the command line is a traceback to its user."""
        name, dashes, more = line.partition(" --")
        return self.call([*name.split(), str(self.recipe), *options, *f"{dashes}{more}".split()])

    def call(self, words: list[str]) -> int:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = cli.main(words)
        self.said = out.getvalue()
        assert "Traceback (most recent call last)" not in self.said, f"{words}: {self.said}"
        return code

    def run(self) -> int:
        """The command that made this root."""
        if self.imported is None:
            return self("run --no-mlflow")
        return self.call(["import", str(self.imported), "--recipe", str(self.recipe), "--no-mlflow"])

    def shown(self, line: str, step: str) -> tuple[int, dict[str, bytes]]:
        """The exit code of a command that shows samples, and what it shows."""
        to = self.folder / "shown" / "there"
        shutil.rmtree(to.parent, ignore_errors=True)
        name, dashes, rest = line.partition(" --")
        code = self.call([*name.split(), str(self.recipe), step, *f"{dashes}{rest}".split(), *[str(to)] * bool(rest)])
        if not rest:
            return code, {"": self.said.encode()}
        return code, {str(p.relative_to(to)): p.read_bytes() for p in [to, *to.rglob("*")] if p.is_file()}

    def artifacts(self) -> dict[str, bytes]:
        """What a root is for: manifests, all that they name, and who is champion."""
        storage = Storage(str(self.root))
        named = {f.path for m in verify.manifests(storage) for f in m.all_files()}
        kept = {p: storage.read(p) for p in storage.walk("") if p in named or p.endswith("/manifest.json")}
        with contextlib.suppress(Torn):
            line = [asdict(one) for one in champion.line(storage, "small")]
            kept["release/champion-small"] = json.dumps(line, sort_keys=True).encode()
        return kept


def full(text: str, root: Path) -> str:
    return text.format(root=root, training=TRAINING)


@contextlib.contextmanager
def here() -> Iterator[None]:
    """Inside the block units run in this process, and nobody serves MLflow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "connect", lambda loaded: None)
        patch.setattr("hyperloom.pipeline.tracking.store.serve", lambda uri, *_, **__: print(f"served {uri}"))
        yield


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rooted]:
    """The root of a pipeline that ran to its end, of three that were stopped before, and of an import."""
    with here():
        return stopped(tmp_path_factory.mktemp("roots"))


def stopped(folder: Path) -> dict[str, Rooted]:
    roots = {name: Rooted(folder / name) for name in STOPS}
    for name, last in STOPS.items():
        assert roots[name]("run --no-mlflow", "--step", last) == 0, roots[name].said
        for line in ("schedule add", f"tick --no-mlflow --at {SLOT.format(1)}") if name == "whole" else ():
            assert roots[name](line) == 0, roots[name].said
    words = ["export", str(roots["half"].recipe), "frames", "--to", str(folder / "vre"), "--columns", "rgb@camera"]
    assert roots["half"].call(words) == 0, roots["half"].said
    first = folder / "first.yaml"
    words = ["import", str(folder / "vre"), "--recipe", str(first), "--root", str(folder / "import"), "--no-mlflow"]
    assert roots["half"].call(words) == 0, roots["half"].said
    text = re.sub(r"(?m)^root: .*$", "root: {root}", first.read_text())
    roots["imported"] = Rooted(folder / "imported", folder / "vre", text)
    assert roots["imported"].run() == 0, roots["imported"].said
    return roots


def damage(root: Path, draw: random.Random) -> tuple[str, str]:
    """Damage one file; its path, and how."""
    kinds: dict[str, list[str]] = {}
    for path in Storage(str(root)).walk(""):
        kind = inventory.kind(path)
        kinds.setdefault(kind.pattern if kind else path.rpartition(".")[2], []).append(path)
    alike = kinds[draw.choice(sorted(kinds))]
    path = draw.choice(alike)
    how = draw.choice(sorted(WAYS))
    WAYS[how](root / path, root / draw.choice(alike), draw)
    return path, how


def _flip(file: Path, other: Path, draw: random.Random) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 2, 8))):
        if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def _zero(file: Path, other: Path, draw: random.Random) -> None:
    data = bytearray(file.read_bytes())
    start = draw.randrange(len(data) + 1)
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    file.write_bytes(data)


def _swap(file: Path, other: Path, draw: random.Random) -> None:
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two)
    other.write_bytes(one)


def _folder(file: Path, other: Path, draw: random.Random) -> None:
    file.unlink()
    file.mkdir()
    if draw.random() < 0.5:
        (file / "inside").write_text("something")


WAYS: dict[str, Callable[[Path, Path, random.Random], object]] = {
    "append": lambda file, other, draw: file.write_bytes(file.read_bytes() + draw.randbytes(draw.randrange(1, 99))),
    "copy": lambda file, other, draw: shutil.copy(file, file.with_name(f"copy-{file.name}")),
    "cut": lambda file, other, draw: os.truncate(file, draw.randrange(max(1, file.stat().st_size))),
    "delete": lambda file, other, draw: file.unlink(),
    "empty": lambda file, other, draw: file.write_bytes(b""),
    "flip": _flip,
    "folder": _folder,
    "json": lambda file, other, draw: file.write_bytes(
        draw.choice((b"{}", b"[]", b"null", b'{"a": [1]}', b'"x"', b"7"))
    ),
    "other": lambda file, other, draw: shutil.copy(other, file) if other != file else file.unlink(),
    "swap": _swap,
    "zero": _zero,
}


@functools.cache
def _expected(root: Rooted) -> dict[str, bytes]:
    return root.artifacts()


@functools.cache
def _shown(root: Rooted, line: str, step: str) -> dict[str, bytes]:
    return root.shown(line, step)[1]


def look(root: Rooted, sound: Rooted, draw: random.Random, about: str) -> None:
    """Some commands: each does as it would, or ends with a line that says what to do."""
    steps = ["frames", "labels", "votes", "shards"] if root.imported is None else ["frames"]
    for line in ["plan", *draw.sample(LOOKS, 4)]:
        code = root(f"{line} {SLOT.format(draw.randrange(2, 29))}" if line.startswith("tick") else line)
        assert code in (0, 1, 2, 4), f"{about}: {line}: {root.said}"
        assert code == 0 or "Next: " in root.said or line.split()[0] in FINDS, f"{about}: {line}: {root.said}"
    line, step = draw.choice(SHOWS), draw.choice(steps)
    code, files = root.shown(line, step)
    assert "Next: " in root.said if code else files == _shown(sound, line, step), f"{about}: {line} {step}: {root.said}"


def trial(number: int, roots: dict[str, Rooted], folder: Path) -> str:
    """One trial; what came of it. Raises AssertionError where something was believed that is not so."""
    draw = random.Random(number)
    which = draw.choice(("half", "sharded", "taught", "imported", *["whole"] * 12))
    whole = roots["imported" if which == "imported" else "whole"]
    expected = _expected(whole)
    shutil.rmtree(folder, ignore_errors=True)
    root = Rooted(folder, whole.imported, whole.text)
    shutil.copytree(roots[which].root, root.root)
    path, how = damage(root.root, draw)
    about = f"trial {number}: {how} {path} of the {which} root"
    named = root("verify") == 1
    assert named == (" problem" in root.said), f"{about}: {root.said}"
    look(root, roots[which], draw, about)
    code = root.run()
    story = root.said
    after = {} if code else root.artifacts()
    root("verify")
    wrong = [p for p in expected if after.get(p) != expected[p] and p not in root.said] if code == 0 else []
    assert not wrong, f"{about}: wrong and not named: {wrong}\n{story}\n{root.said}"
    assert code == 0 or "Next: " in story, f"{about}: {story}"
    assert root("verify --repair") == 0, f"{about}: {root.said}"
    assert root.run() == 0, f"{about}: after the repair: {root.said}"
    last = root.artifacts()
    assert {p: last.get(p) == expected[p] for p in expected} == dict.fromkeys(expected, True), about
    return "named" if named else "healed" if story.count("done in") else "of no consequence"


def test_random_damage_is_healed_named_or_of_no_consequence(roots: dict[str, Rooted], tmp_path: Path) -> None:
    with here():
        results = Counter(trial(FIRST + n, roots, tmp_path / "trial") for n in range(TRIALS))
    assert sum(results.values()) == TRIALS and results["named"]
    print(dict(results))


def test_a_champion_that_is_gone_is_made_again_by_the_next_run(roots: dict[str, Rooted], tmp_path: Path) -> None:
    root = Rooted(tmp_path / "trial")
    shutil.copytree(roots["whole"].root, root.root)
    shutil.rmtree(root.root / "release" / "champion-small")
    with here():
        assert root("plan") == 0 and "has no champion any more" in root.said
        assert root("run --no-mlflow") == 0
    assert root.artifacts() == roots["whole"].artifacts()
