"""The source `python`, `limit:` of ingest and patterns in `split.pin`: data of one's own without a file format."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperloom.pipeline.errors import HyperloomError, PluginError, RecipeError, SourceError
from hyperloom.pipeline.host import project
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, KEY
from hyperloom.stages.ingest.generated import Generated, _listing
from hyperloom.stages.ingest.limit import limited
from hyperloom.stages.ingest.source import Item
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.results import Ingested
from hyperloom.stages.shard.splits import Split
from hyperloom.stages.table import read_table
from tests.unit import inline

KNOWN = inline.modalities(
    scan={"type": "image", "size": [4, 4]},
    digit={"type": "category", "classes": ["zero", "one"]},
    word={"type": "text", "length": 8},
)
CODE = """
import numpy as np

def digits(count=9, files=()):
    for i in range(count):
        values = {"scan@file": np.full((4, 4, 3), i, np.uint8), "digit@truth": ["zero", "one"][i % 2]}
        yield f"d{i}", f"block{i // 3}", values | ({"word@file": open(files[0]).read()} if files else {})
"""


@pytest.fixture
def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a source of the code given, anew each time, and gives the step and the manifest."""

    def run(code: str = CODE, **fields: Any) -> Any:
        (tmp_path / "generator.py").write_text(code)
        sys.modules.pop("generator", None)
        source = {"type": "python", "call": "generator:digits", "out": ["scan@file", "digit@truth", "word@file"]}
        more = {k: fields.pop(k) for k in ("limit", "rows") if k in fields}
        stage = Ingest.model_validate({"stage": "ingest", "source": {**source, **fields}, **more})
        step = inline.step(stage, Storage(str(tmp_path / f"root{len(list(tmp_path.glob('root*')))}")), KNOWN)
        return step, inline.finish(step)

    before = list(sys.path)
    project.enter(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield run
    project.enter()
    sys.path[:] = before
    sys.modules.pop("generator", None)


def _rows(step: Any) -> list[dict[str, Any]]:
    files = [record.files[0].path for record in step.records if record.files]
    columns = [KEY, GROUP, "scan@file", "digit@truth", "word@file"]
    return [row for file in files for row in read_table(step.storage, file, columns).to_pylist()]


def test_samples_of_a_function(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text("hello")
    step, _ = ingest(files=str(tmp_path / "word.txt"), options={"count": 7})
    rows = _rows(step)
    assert [(r[KEY], r[GROUP]) for r in rows] == [(f"d{i}", f"block{i // 3}") for i in range(7)]
    assert [r["digit@truth"] for r in rows] == [["zero", "one"][i % 2] for i in range(7)]
    assert len({r["scan@file"] for r in rows}) == 7 and {r["word@file"] for r in rows} == {rows[0]["word@file"]} != {
        None
    }


def test_partitions_are_known_by_what_they_hold(ingest: Any) -> None:
    """Other code that gives the same samples keeps them all; one that changes a sample costs its partition."""
    _, first = ingest()
    _, same = ingest(CODE + "\n# nothing\n")
    _, other = ingest(CODE.replace("(4, 4, 3), i,", "(4, 4, 3), i + 40 * (i == 4),"))
    pids = [[p.pid for p in Ingested.of(m).partitions] for m in (first, same, other)]
    assert pids[0] == pids[1]
    assert [a == b for a, b in zip(pids[0], pids[2], strict=True)] == [True, False, True]


@pytest.mark.parametrize("value", ["[{'mask': m}]", "{'a': (m, 1)}", "np.array([m, None], object)", "Own(m)"])
def test_arrays_inside_a_value_count_whole(ingest: Any, tmp_path: Path, value: str) -> None:
    """A pixel in the middle of a large mask is left out of the mask's own words."""
    code = """
import numpy as np

class Own:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values

def digits(lit):
    m = np.zeros((64, 64), np.uint8)
    m[32, 32] = lit
    yield "a", "g", {"scan@file": VALUE}
"""
    (tmp_path / "generator.py").write_text(code.replace("VALUE", value))
    digests = []
    for lit in (0, 0, 1):
        source = {"type": "python", "call": "generator:digits", "out": ["scan@file"], "options": {"lit": lit}}
        _listing.cache_clear()
        (piece,) = Generated.model_validate(source).pieces(Digests(Storage(str(tmp_path / "root"))))
        digests.append(piece.files[0].sha256)
    assert digests[0] == digests[1] != digests[2]


def test_what_lies_below_the_root_is_none_of_its_files(ingest: Any, tmp_path: Path) -> None:
    """It is not in the identity: the function was given it, and a run after the next kept old samples."""
    code = """
def digits(files):
    for i, file in enumerate(files):
        yield f"d{i}", "g", {"word@file": open(file).read()}
"""
    (tmp_path / "word.txt").write_text("mine")
    (tmp_path / "root1").mkdir()
    (tmp_path / "root1/other.txt").write_text("run's")
    step, manifest = ingest(code, files=f"{tmp_path}/**/*.txt", out=["word@file"])
    assert str(step.storage) == f"{tmp_path}/root1" and manifest.rows == 1
    file = next(record.files[0].path for record in step.records)
    (word,) = read_table(step.storage, file, ["word@file"])["word@file"].to_pylist()
    assert word == "mine"


def test_the_step_follows_code_options_and_files(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "word.txt").write_text("hello")

    def facts(code: str = CODE, **fields: Any) -> Any:
        step, _ = ingest(code, **fields)
        return step.stage.facts(Digests(step.storage))

    plain = facts()
    assert plain == facts() != facts(CODE + "\n#\n")
    assert facts(options={"count": 4}) != plain
    read = facts(files=str(tmp_path / "word.txt"))
    (tmp_path / "word.txt").write_text("other")
    assert facts(files=str(tmp_path / "word.txt")) != read


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("def digits():\n    yield 'a', 'g'", PluginError, r"a sample is \(key, group, \{column: value\}\)"),
        (
            "def digits():\n    yield 'a', 'g', {'wrong@x': 1}",
            PluginError,
            "gives wrong@x of 'a', which `out` does not",
        ),
        ("def digits():\n    yield 'a', 'g', {}\n    yield 'a', 'h', {}", PluginError, "gives the key 'a' twice"),
        ("def digits():\n    x = {}\n    yield x['no']", SourceError, r"KeyError: 'no' \(generator.py, line 3\)"),
        ("def digits():\n    return []", SourceError, "gives no sample"),
        ("def other():\n    pass", PluginError, "has no attribute 'digits'"),
        ("def digits(count):\n    yield 'a', 'g', {}", SourceError, "missing 1 required positional argument: 'count'"),
        ("import nothing_such\n", PluginError, "cannot be imported here"),
        (
            "import random\ndef digits():\n    yield 'a', 'g', {'digit@truth': random.random()}",
            PluginError,
            "make it give the same samples each time",
        ),
    ],
)
def test_what_is_no_source_is_said(ingest: Any, code: str, error: type[HyperloomError], says: str) -> None:
    with pytest.raises(error, match=says):
        ingest(code)


def test_a_value_that_does_not_fit_costs_its_sample(ingest: Any) -> None:
    step, manifest = ingest(CODE.replace('["zero", "one"][i % 2]', '"two" if i == 4 else "one"'))
    assert Ingested.of(manifest).quarantined == 1 and len(_rows(step)) == 8


def test_the_first_samples_of_each_group(ingest: Any) -> None:
    step, _ = ingest(limit=5)
    assert [r[KEY] for r in _rows(step)] == ["d0", "d1", "d3", "d4", "d6"]


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8), limit=st.integers(1, 40))
def test_a_limit_is_dealt_evenly(sizes: list[int], limit: int) -> None:
    groups = [f"g{i // 2}" for i in range(len(sizes))]  # two pieces a group
    items = [[Item(f"{i}/{n}", n) for n in range(size)] for i, size in enumerate(sizes)]
    kept = limited(groups, items, limit)
    assert all(left == whole[: len(left)] for left, whole in zip(kept, items, strict=True))
    have, took = Counter[str](), Counter[str]()
    for group, whole, left in zip(groups, items, kept, strict=True):
        have[group] += len(whole)
        took[group] += len(left)
    assert took.total() == min(limit, sum(sizes))
    short = [took[g] for g in have if took[g] < have[g]]
    assert not short or max(took.values()) <= min(short) + 1, "no group has more while another has to spare"


def test_groups_are_pinned_by_patterns() -> None:
    split = Split.model_validate({"pin": {"test": ["night*"], "val": ["night_3", "dusk_[12]"]}})
    groups = ["day_1", "night_1", "night_3", "dusk_1", "dusk_3"]
    assert split.assign(groups) == {
        "day_1": "train", "night_1": "test", "night_3": "val", "dusk_1": "val", "dusk_3": "train",
    }  # fmt: skip
    with pytest.raises(RecipeError, match=r"split.pin: no group rain\*"):
        Split.model_validate({"pin": {"test": ["rain*"]}}).assign(groups)
    twice = Split.model_validate({"pin": {"test": ["night*"], "val": ["*_1"]}})
    with pytest.raises(RecipeError, match="night_1 fits patterns of test and val"):
        twice.assign(groups)
    named = Split.model_validate({"pin": {"test": ["odd[1]"]}})
    assert named.assign(["odd[1]", "odd1", "plain"])["odd[1]"] == "test"


def test_numbers_of_a_type_that_holds_them(ingest: Any) -> None:
    code = "import numpy as np\ndef digits():\n    yield 'a', 'g', {'scan@file': np.zeros((4, 4, 3), np.int64)}"
    step, _ = ingest(code)
    assert len(_rows(step)) == 1 and np.uint8 == KNOWN["scan"].dtype
