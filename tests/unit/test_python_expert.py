"""The expert `python`: functions and classes of a user's module, through the label stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.storage import Storage
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
    assert listed["g/001"] == "ZeroDivisionError: one" and "expected 2 numbers" in listed["g/003"] and len(listed) == 2
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


def test_mistakes_are_said(storage: Storage) -> None:
    with pytest.raises(ValidationError, match="module:callable"):
        label(storage, "value@x", "red", call="mine_of_test.red")
    todo = label(storage, "value@x", "red", call="their.part:red")
    with pytest.raises(PluginError, match=r"no module 'their.part'"):
        todo.stage.units(todo)
    for name, fields, error in (
        ("blue", {}, "has no attribute 'blue'"),
        ("Adding", {"options": {"much": 1}}, r"does not take the options \['much'\]"),
        ("made", {}, "callable"),
    ):
        with pytest.raises((PluginError, RecipeError), match=error):
            finish(label(storage, "value@x", name, **fields))
