"""The expert `python`: functions and classes of a user's module, through the label stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import hyperloom
from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError, StepFailed
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.label.stage import Label
from tests.unit.inline import column, finish, ingested, modalities, step
from tests.unit.test_label import frame

KNOWN = modalities(
    rgb={"type": "image", "size": [4, 6]},
    value={"type": "dense", "channels": 1, "storage": "float32"},
    pair={"type": "vector", "length": 2},
    text={"type": "text", "length": 20},
    mood={"type": "category", "classes": ["good", "bad"]},
    tags={"type": "tags", "tags": ["short", "long"], "length": 4},
)
MODULE = """\
import numpy as np

made = []


def red(batch, gain=1.0):
    return (batch["rgb@camera"][..., :1] * gain).astype(np.float32)


def both(batch):
    return {"value@x": red(batch), "pair@x": batch["rgb@camera"][:, 0, 0, :2].astype(np.float32)}


def one(rgb):
    mark = int(rgb[0, 0, 0])
    if mark == 1:
        raise ZeroDivisionError("one")
    return None if mark == 2 else [mark, 0.5] if mark != 3 else [1.0]


def two(rgb):
    return np.zeros((4, 6, 1), np.float32), (7.0, 8.0)


def mood(batch):
    return ["good" if "love" in text else "Bad." if text else None for text in batch["text@review"]]


def shout(text):
    return text.upper() + "!", ["long" if len(word) > 4 else "short" for word in text.split()]


class Adding:
    def __init__(self, amount, modalities):
        made.append(amount)
        self.amount, self.shape = amount, modalities["value"].shape

    def __call__(self, batch):
        assert self.shape == (4, 6, 1)
        return red(batch) + np.float32(self.amount)


def adder(amount):
    made.append(amount)
    return lambda batch: red(batch) + np.float32(amount)
"""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    (tmp_path / "their").mkdir()
    (tmp_path / "their/__init__.py").write_text("raise ImportError('a plan must not import it')")
    (tmp_path / "mine_of_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine_of_test", raising=False)
    return Storage(str(tmp_path / "root"))


def label(storage: Storage, out: str | list[str], name: str, **fields: Any) -> Any:
    data = ingested(storage, KNOWN, {"g": [frame(i) for i in range(6)]})
    expert = {"type": "python", "call": f"mine_of_test:{name}", "in": "rgb@camera", "out": out, **fields}
    return step(Label(stage="label", data="frames", experts=[expert]), storage, KNOWN, frames=data)


def reds(storage: Storage, name: str, **fields: Any) -> list[float]:
    made = finish(label(storage, "value@x", name, **fields))
    return [float(v[0, 0, 0]) for v in column(storage, KNOWN, made, "value@x").values() if v is not None]


def test_a_function_of_a_batch(storage: Storage) -> None:
    assert reds(storage, "red") == [0, 1, 2, 3, 4, 5]
    assert reds(storage, "red", options={"gain": 2}) == [0, 2, 4, 6, 8, 10]
    made = finish(label(storage, ["value@x", "pair@x"], "both"))
    assert [v.tolist() for v in column(storage, KNOWN, made, "pair@x").values()] == [[i, 0] for i in range(6)]


def test_texts_come_and_go_as_strings(storage: Storage) -> None:
    texts = ["I love héron", "never again", ""]
    data = ingested(storage, KNOWN, {"g": [{"text@review": KNOWN["text"].fit(t)} for t in texts]})
    experts = [
        {"type": "python", "call": "mine_of_test:mood", "in": "text@review", "out": "mood@mine"},
        {"type": "python", "call": "mine_of_test:shout", "in": "text@review", "out": ["text@loud", "tags@mine"],
         "per": "sample"},
    ]  # fmt: skip
    made = finish(step(Label(stage="label", data="frames", experts=experts), storage, KNOWN, frames=data))
    assert made.quarantined == 0
    moods = column(storage, KNOWN, made, "mood@mine").values()
    assert [None if v is None else int(v) for v in moods] == [0, 1, None]
    loud = [KNOWN["text"].words(v) for v in column(storage, KNOWN, made, "text@loud").values() if v is not None]
    assert loud == ["I LOVE HÉRON!", "NEVER AGAIN!", "!"]
    tags = [v.tolist() for v in column(storage, KNOWN, made, "tags@mine").values() if v is not None]
    assert tags[0] == [0, 0, 1, -1] and tags[1] == [1, 1, -1, -1]


@pytest.mark.parametrize("name, fields", [("Adding", {}), ("adder", {"factory": True})])
def test_a_factory_is_called_once(storage: Storage, name: str, fields: dict[str, Any]) -> None:
    assert reds(storage, name, options={"amount": 10}, **fields) == [10, 11, 12, 13, 14, 15]
    assert sys.modules["mine_of_test"].made == [10]


def test_a_function_of_a_sample_answers_for_itself_alone(storage: Storage) -> None:
    made = finish(label(storage, "pair@x", "one", per="sample"))
    values = column(storage, KNOWN, made, "pair@x")
    assert [None if v is None else v.tolist() for v in values.values()] == [
        [0, 0.5], None, None, None, [4, 0.5], [5, 0.5],
    ]  # fmt: skip
    (record,) = [r for r in made.records if r.quarantined]
    listed = {q["key"]: q["error"] for q in storage.read_json(f"{record.space}/quarantine/{record.id}.json")}
    assert (
        "ZeroDivisionError: one (mine_of_test.py, line 17)" in listed["g/001"]
        and "expected 2 numbers" in listed["g/003"]
        and len(listed) == 2
    )
    made = finish(label(storage, ["value@x", "pair@x"], "two", per="sample"))
    assert [v.tolist() for v in column(storage, KNOWN, made, "pair@x").values()] == [[7, 8]] * 6


def test_changed_code_is_another_expert(storage: Storage, tmp_path: Path) -> None:
    def space(**fields: Any) -> str:
        todo = label(storage, "value@x", "red", **fields)
        return next(iter(todo.stage.units(todo)[0])).space

    first = space()
    assert space(batch=2, cpus=2) == first != space(options={"gain": 2})
    (tmp_path / "mine_of_test.py").write_text(MODULE + "\n\nmore = 1\n")
    assert space() != first
    assert "mine_of_test" not in sys.modules, "a plan must not import it"


def test_code_that_changes_while_a_step_runs_does_not_answer_for_what_it_was(storage: Storage, tmp_path: Path) -> None:
    """The answers of the newer file were kept as those of the one that was planned."""
    todo, file = label(storage, "value@x", "red"), tmp_path / "mine_of_test.py"
    run_units = todo.run_units

    def late(units: Any, workers: Any) -> Any:
        file.write_text(MODULE.replace("gain=1.0", "gain=3.0"))
        return run_units(units, workers)

    todo.run_units = late
    with pytest.raises(SourceError, match=r"mine_of_test\.py is another file than when this step began"):
        finish(todo)
    assert reds(storage, "red") == [0, 3, 6, 9, 12, 15]


def test_code_that_changes_between_plan_and_step_does_not_answer_for_what_it_was(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step kept the identity of the code that it was planned with: brought back, that code was taken for done."""
    expert = {"type": "python", "call": "mine_of_test:red", "in": "rgb@camera", "out": "value@x"}
    rendered = {"type": "flights", "flights": 1, "frames": 2, "columns": ["rgb@camera"]}
    recipe = {
        "name": "late",
        "root": str(storage),
        "modalities": {"rgb": {"type": "image", "size": [4, 6]}, "value": {"type": "dense"}},
        "steps": {
            "frames": {"stage": "ingest", "source": rendered},
            "labels": {"stage": "label", "data": "frames", "experts": [expert]},
        },
    }
    ingest, file = Ingest.run, tmp_path / "mine_of_test.py"

    def slow(stage: Ingest, run: Any) -> Any:
        file.write_text(MODULE.replace("gain=1.0", "gain=3.0"))
        return ingest(stage, run)

    pipeline = hyperloom.load(recipe)
    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "run", slow)
        with pytest.raises(StepFailed, match="code of value@x are others than when the run began"):
            pipeline.run(ray=False, mlflow=False, progress=False, report=False)
    assert pipeline.run(ray=False, mlflow=False, progress=False, report=False).states["labels"] == "done"


def test_mistakes_are_said(storage: Storage) -> None:
    with pytest.raises(ValidationError, match="module:callable"):
        label(storage, "value@x", "red", call="mine_of_test.red")
    todo = label(storage, "value@x", "red", call="their.part:red")
    with pytest.raises(PluginError, match=r"no module 'their.part'"):
        todo.stage.units(todo)
    for name, fields, error in (
        ("blue", {}, "has no attribute 'blue'"),
        ("Adding", {"options": {"much": 1}}, r"does not take the options \['much'\]"),
        ("made", {}, "cannot be called"),
    ):
        with pytest.raises((PluginError, RecipeError), match=error):
            finish(label(storage, "value@x", name, **fields))


BROKEN = [
    ("def f(batch):\n    return batch.mean()\n", "'dict' object has no attribute 'mean' (broken_0.py, line 3)"),
    ("def f(batch):\n    return batch['rgb']\n", "KeyError: 'rgb' (broken_1.py, line 3). It is given a batch"),
    ("def f(a, b):\n    return a\n", "missing a required argument: 'b'"),
    ("def f():\n    return 1\n", "too many positional arguments"),
    ("def f(batch):\n    return None\n", "returned nothing (is there a return?)"),
    ("def f(batch):\n    yield 1\n", "has a yield"),
    ("async def f(batch):\n    return 1\n", "is async, and nobody awaits it"),
    ("async def g():\n    pass\nf = lambda batch: g()\n", "returned a coroutine"),
    ("def f(batch):\n    return 3.0\n", "returned a float as value@x of a batch"),
    ("def f(batch):\n    return {'value': [1]}\n", "returned a dict of 'value', without value@x"),
    ("def f(batch):\n    raise SystemExit(3)\n", "SystemExit: 3"),
    ("def f(batch)\n    return 1\n", "cannot be imported here: SyntaxError"),
    ("f = 1 / 0\n", "ZeroDivisionError: division by zero (broken_12.py, line 2)"),
    ("class f:\n    def __init__(self):\n        open('/nope')\n", "'/nope' (broken_13.py, line 4)"),
]


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_what_a_function_is_given_is_said(storage: Storage, tmp_path: Path, number: int) -> None:
    """Mistakes of every call end the step; what the code raises about its samples is in quarantine with its line."""
    code, text = BROKEN[number]
    (tmp_path / f"broken_{number}.py").write_text(f"import numpy as np\n{code}")
    try:
        made = finish(label(storage, "value@x", "f", call=f"broken_{number}:f"))
    except (PluginError, RecipeError) as error:
        assert text in str(error)
        return
    (record, *_) = [r for r in made.records if r.quarantined]
    reasons = {q["error"] for q in storage.read_json(f"{record.space}/quarantine/{record.id}.json")}
    assert any(text in reason for reason in reasons), reasons


OTHER = """\
class Tensor:
    def __init__(self, array):
        self.array = array

    def __array__(self, *_, **__):
        if self.array is None:
            raise RuntimeError("call detach() first")
        return self.array

    def __len__(self):
        return 6

    def detach(self):
        return Tensor(x)

    def cpu(self):
        return self


def f(batch):
    global x
    x = batch["rgb@camera"][..., :1]
    return """


@pytest.mark.parametrize(
    ("returned", "expected"),
    [("x.astype(int)", 4.0), ("Tensor(None)", 4.0), ("x > 2", 1.0)],
    ids=["int", "other", "bool"],
)
def test_the_same_numbers_in_another_dtype_are_taken(
    storage: Storage, tmp_path: Path, returned: str, expected: float
) -> None:
    module = f"same_{len(returned)}"
    (tmp_path / f"{module}.py").write_text(f"{OTHER}{returned}\n")
    assert reds(storage, "f", call=f"{module}:f")[4] == expected


PLUGIN = """\
from hyperloom.stages.label.expert import Expert
class F(Expert):
"""
BODY = "    def build(self, modalities, storage):\n        "


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("    pass\n", "has no build()"),
        ("    def build(self):\n        return print\n", "Next: def build(self, modalities, storage)"),
        (BODY + "pass\n", "is None, which cannot be called"),
        (BODY + "return modalities['nope']\n", "build() raised KeyError: 'nope' (plugin_"),
        (BODY + "raise SystemExit(2)\n", "build() raised SystemExit: 2"),
        (
            "    def offsets(self):\n        return ['rgb@camera']\n" + BODY + "return print\n",
            "F.offsets() returned ['rgb",
        ),
        (
            "    def offsets(self):\n        return {'rgb@camera': -1}\n" + BODY + "return print\n",
            "Next: return a dict of",
        ),
        ("    def offsets(self):\n        return {'rgb@camera': ('a',)}\n" + BODY + "return print\n", "whole numbers"),
        ("    def offsets(self):\n        return 1 / 0\n" + BODY + "return print\n", "division by zero (plugin_"),
        ("    def weights(self):\n        return 'w.pt'\n" + BODY + "return print\n", "F.weights() returned 'w.pt'"),
        (
            "    def weights(self):\n        return self.path\n" + BODY + "return print\n",
            "F.weights() raised AttributeError",
        ),
        (BODY + "import nothing_like_it\n", "nothing_like_it'. Next: install it on every node"),
        (BODY + "return lambda a, b: a\n", "missing a required argument: 'b'"),
        (BODY + "return lambda batch: {'value': 1}\n", "without value@x"),
        (BODY + "return lambda batch: None\n", "returned nothing"),
        ("    def offsets(self):\n        return {'rgb': (-1,)}\n" + BODY + "return print\n", "offsets of rgb"),
        ("    gain = 1.0\n", "A non-annotated attribute"),
        ("    x ==\n", "cannot be imported: SyntaxError"),
    ],
)
def test_a_plug_in_that_breaks_its_contract_ends_the_step(
    storage: Storage, tmp_path: Path, body: str, text: str
) -> None:
    module = f"plugin_{abs(hash(text)) % 10**8}"
    (tmp_path / f"{module}.py").write_text(PLUGIN + body)
    data = ingested(storage, KNOWN, {"g": [frame(i) for i in range(2)]})
    with pytest.raises((PluginError, RecipeError, ValidationError)) as caught:
        expert = {"type": f"{module}:F", "in": "rgb@camera", "out": "value@x"}
        finish(step(Label(stage="label", data="frames", experts=[expert]), storage, KNOWN, frames=data))
    assert text in str(caught.value)
