"""The label stage, through its stage: bad samples, order of experts, neighbours, nulls, identity, repair."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.commits.units import Output, execute
from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import BadSample, RecipeError, SourceError
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.stages import remarks
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.stage import Label
from hyperloom.stages.modality.boxes import strongest
from tests.unit.inline import column, finish, ingested, modalities, step

KNOWN = modalities(
    rgb={"type": "image", "size": [4, 6]},
    value={"type": "dense", "channels": 1, "storage": "float32"},
    semantic={"type": "segmentation", "classes": ["a", "b"]},
)


class Faulty(Expert):
    """Copies the red channel; misbehaves where the recipe says, by the value of the first pixel."""

    raises: tuple[int, ...] = ()
    named: tuple[int, ...] = ()
    nan: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    short: bool = False
    room: int = 100

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            marks = batch[self.in_[0]][:, 0, 0, 0]
            if len(marks) > self.room:
                raise MemoryError("no room")
            for mark in marks:
                if mark in self.raises:
                    raise ZeroDivisionError(f"mark {mark}")
                if mark in self.named:
                    raise BadSample(f"f/{mark:03d}", "said so itself")
            made: list[Any] = []
            for mark in marks:
                value = np.full((4, 6, 1), float(mark), np.float32)
                if mark in self.nan:
                    value[1, 1] = np.nan
                made.append(None if mark in self.silent else value[:2] if mark in self.shape else value)
            return {self.out[0]: made[:-1] if self.short and len(made) > 1 else made}  # type: ignore[dict-item]

        return call


class Plus(Expert):
    """Adds one."""

    amount: float = 1.0

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        return lambda batch: {self.out[0]: batch[self.in_[0]] + np.float32(self.amount)}


class Weighing(Plus):
    """Has weights, which only identity looks at."""

    path: str = placement("")

    def weights(self) -> tuple[str, ...]:
        return (self.path,)


class Before(Expert):
    """The value of two frames ago, and how far back it really is."""

    def offsets(self) -> dict[str, tuple[int, ...]]:
        return {self.in_[0]: (-2, 1)}

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            name = self.in_[0]
            made = batch[f"{name}[-2]"][..., :1] * 1000.0 + batch[f"{name}[1]"][..., :1]
            gap = batch["index"] - batch["index[-2]"]
            made[:, 0, 0, 0] = gap
            return {self.out[0]: made.astype(np.float32)}

        return call


class Tolerant(Expert):
    """Counts the inputs that are there."""

    accepts_missing: ClassVar[bool] = True

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            there = sum(batch[f"{c}?"].astype(np.float32) for c in self.in_)
            return {self.out[0]: np.broadcast_to(there[:, None, None, None], (len(there), 4, 6, 1))}

        return call


def frame(mark: int) -> dict[str, np.ndarray]:
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = mark
    return {"rgb@camera": image}


def expert(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"{__name__}:{name}", **fields}


def label(storage: Storage, *experts: dict[str, Any], frames: int = 10, groups: tuple[str, ...] = ("f",)) -> Any:
    data = ingested(storage, KNOWN, {g: [frame(i) for i in range(frames)] for g in groups})
    return step(Label(stage="label", data="frames", experts=experts), storage, KNOWN, frames=data)


REDS = expert("Faulty", **{"in": "rgb@camera"}, out="value@a")


@pytest.fixture
def storage(tmp_path: Any) -> Storage:
    return Storage(str(tmp_path))


def quarantine(storage: Storage, made: Any) -> dict[str, str]:
    found = {}
    for record in made.records:
        if record.quarantined:
            listed = storage.read_json(f"{record.space}/quarantine/{record.id}.json")
            assert len(listed) == record.quarantined
            found |= {item["key"]: item["error"] for item in listed}
    return found


def test_exactly_the_samples_at_fault_are_left_out(storage: Storage) -> None:
    bad = expert("Faulty", **{"in": "rgb@camera"}, out="value@x", raises=[2], nan=[5], shape=[6], named=[9])
    made = finish(label(storage, bad))
    errors = quarantine(storage, made)
    assert set(errors) == {"f/002", "f/005", "f/006", "f/009"}
    assert "ZeroDivisionError: mark 2 (test_label.py, line " in errors["f/002"]
    assert "NaN" in errors["f/005"] and "value@x" in errors["f/005"]
    assert "(2, 6, 1)" in errors["f/006"]
    assert errors["f/009"] == "BadSample: said so itself"
    values = column(storage, KNOWN, made, "value@x")
    assert list(values) == [f"f/{i:03d}" for i in range(10)]
    for i, value in enumerate(values.values()):
        assert value is None if i in (2, 5, 6, 9) else (value == i).all()
    assert made.body["quarantined"] == {"value@x": 4}
    assert made.body["coverage"] == {"value@x": {"rows": 10, "missing": 4}}


def test_bytes_depend_on_neither_batch_nor_time(tmp_path: Any) -> None:
    made = []
    for name, batch in (("a", 1), ("b", 3), ("c", 64)):
        bad = expert("Faulty", **{"in": "rgb@camera"}, out="value@x", raises=[2], nan=[5], batch=batch)
        made.append(finish(label(Storage(str(tmp_path / name)), bad)))
    assert made[0].records == made[1].records == made[2].records
    assert made[0].body == made[1].body == made[2].body


def test_no_answer_is_null_and_no_fault(storage: Storage) -> None:
    made = finish(label(storage, expert("Faulty", **{"in": "rgb@camera"}, out="value@x", silent=[1, 4])))
    assert made.quarantined == 0
    assert [k for k, v in column(storage, KNOWN, made, "value@x").items() if v is None] == ["f/001", "f/004"]


def test_an_answer_of_the_wrong_length_is_bisected_to_single_samples(storage: Storage) -> None:
    made = finish(label(storage, expert("Faulty", **{"in": "rgb@camera"}, out="value@x", short=True)))
    assert made.quarantined == 0
    assert all(v is not None and (v == i).all() for i, v in enumerate(column(storage, KNOWN, made, "value@x").values()))


def test_out_of_memory_halves_the_batch_and_blames_nobody(storage: Storage) -> None:
    made = finish(label(storage, expert("Faulty", **{"in": "rgb@camera"}, out="value@x", room=1, batch=4)))
    assert made.quarantined == 0 and None not in [
        v if v is None else 0 for v in column(storage, KNOWN, made, "value@x").values()
    ]


def test_experts_follow_those_they_read_and_nulls_travel_uncounted(storage: Storage) -> None:
    late = expert("Plus", **{"in": "value@b"}, out="value@c")
    middle = expert("Plus", **{"in": "value@a"}, out="value@b")
    early = expert("Faulty", **{"in": "rgb@camera"}, out="value@a", raises=[3])
    todo = label(storage, late, middle, early)
    units, _ = todo.stage.units(todo)
    done: set[tuple[str, str]] = set()
    for unit in units:
        assert set(unit.after) <= done
        done.add(unit.key)
    assert sum(len(u.after) for u in units) == 6  # each of the later two waits for its own partition alone
    made = finish(todo)
    values = column(storage, KNOWN, made, "value@c")
    assert values["f/003"] is None and (values["f/004"] == 6).all()
    assert made.body["quarantined"] == {"value@a": 1, "value@b": 0, "value@c": 0}
    assert made.body["coverage"]["value@c"]["missing"] == 1


def test_neighbours_cross_partitions_and_stop_at_the_group(storage: Storage) -> None:
    made = finish(label(storage, expert("Before", **{"in": "rgb@camera"}, out="value@x"), frames=9, groups=("f", "g")))
    values = column(storage, KNOWN, made, "value@x")
    for group in "fg":
        for i in range(9):
            value = values[f"{group}/{i:03d}"]
            before, after = (i - 2 if i >= 2 else i), (i + 1 if i < 8 else i)
            assert value is not None and value[0, 0, 0] == i - before
            assert (value[1:] == before * 1000 + after).all()


def test_a_changed_neighbour_redoes_what_read_it_and_nothing_else(storage: Storage) -> None:
    frames = [frame(i) for i in range(12)]
    experts = [
        expert("Before", **{"in": "rgb@camera"}, out="value@x"),
        expert("Plus", **{"in": "value@x"}, out="value@y"),
        expert("Faulty", **{"in": "rgb@camera"}, out="value@z"),
    ]

    def units(samples: list[dict[str, np.ndarray]]) -> dict[str, set[str]]:
        data = ingested(storage, KNOWN, {"f": samples})
        todo = step(Label(stage="label", data="frames", experts=experts), storage, KNOWN, frames=data)
        found: dict[str, set[str]] = {}
        for unit in todo.stage.units(todo)[0]:
            found.setdefault(unit.worker, set()).add(unit.id)
        return found

    first, second = units(frames), units([frame(77), *frames[1:]])
    assert list(first) == list(second)
    assert [len(first[w] & second[w]) for w in first] == [1, 2, 1]  # x, z (graph order: x and z first), then y


def test_a_tolerant_expert_sees_what_is_missing(storage: Storage) -> None:
    made = finish(
        label(
            storage,
            expert("Faulty", **{"in": "rgb@camera"}, out="value@a", silent=[1, 2]),
            expert("Faulty", **{"in": "rgb@camera"}, out="value@b", silent=[2]),
            expert("Tolerant", **{"in": ["value@a", "value@b"]}, out="value@n"),
        )
    )
    values = column(storage, KNOWN, made, "value@n")
    assert values["f/002"] is None
    assert [float(v.max()) for k, v in values.items() if v is not None][:3] == [2.0, 1.0, 2.0]


@pytest.mark.parametrize("frames, deaths, left_out", [(4, 1, False), (4, 2, True), (1, 2, False), (1, 3, True)])
def test_a_sample_on_which_the_process_died_again_is_left_out(
    storage: Storage, frames: int, deaths: int, left_out: bool
) -> None:
    todo = label(storage, expert("Faulty", **{"in": "rgb@camera"}, out="value@x"), frames=frames)
    (unit,), workers = todo.stage.units(todo)
    suspect = f"f/{min(1, frames - 1):03d}"
    Output(storage, unit, 3).crumb("\n".join([suspect] * deaths))
    worker = workers[unit.worker]
    worker.setup()
    record = execute(storage, worker, unit, 4)
    assert record.quarantined == int(left_out)
    if left_out:
        (listed,) = storage.read_json(f"{unit.space}/quarantine/{unit.id}.json")
        assert listed["key"] == suspect and "died on this sample" in listed["error"]
    assert Output(storage, unit, 5).last_crumb() is None


class Watched(Expert):
    """Gives the red channel; keeps the order in which it saw samples, and loses its service at one of them."""

    order: ClassVar[list[int]] = []
    away: ClassVar[int | None] = None

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            for mark in (int(m) for m in batch[self.in_[0]][:, 0, 0, 0]):
                self.order.append(mark)
                if mark == self.away:
                    raise ConnectionError("the service is away")
            return {self.out[0]: batch[self.in_[0]][..., :1].astype(np.float32)}

        return call


def test_a_sample_is_not_blamed_for_what_ends_others_too(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever kills at random kills at whatever is at work: others are tried before a sample is tried again; and an
    attempt that an exception ended is no death."""
    todo = label(storage, expert("Watched", **{"in": "rgb@camera"}, out="value@x"), frames=4)
    (unit,), workers = todo.stage.units(todo)
    Output(storage, unit, 3).crumb("f/000")
    worker = workers[unit.worker]
    worker.setup()
    monkeypatch.setattr(Watched, "order", order := [])
    for attempt in (4, 5, 6):
        monkeypatch.setattr(Watched, "away", 2)
        with pytest.raises(ConnectionError):
            execute(storage, worker, unit, attempt)
        assert Output(storage, unit, attempt).last_crumb() == "f/000"
    monkeypatch.setattr(Watched, "away", None)
    order.clear()
    record = execute(storage, worker, unit, 7)
    assert order == [1, 2, 3, 0] and not record.quarantined
    assert [float(v.max()) for v in column(storage, KNOWN, finish(todo), "value@x").values()] == [0, 1, 2, 3]


def test_identity_follows_meaning(storage: Storage) -> None:
    def space(**fields: Any) -> str:
        todo = label(
            storage,
            expert("Plus", **{"in": "value@a"}, out="value@b", **fields),
            expert("Faulty", **{"in": "rgb@camera"}, out="value@a"),
        )
        return [u.space for u in todo.stage.units(todo)[0]][-1]

    assert space() == space(batch=1, cpus=2.0, memory_mb=100) == space(amount=1.0)
    assert space() != space(amount=2.0)


def test_weights_count_by_content_not_by_place(storage: Storage, tmp_path: Any) -> None:
    def space(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        apart = Storage(str(tmp_path / f"root-{name}"))
        todo = label(apart, expert("Weighing", **{"in": "value@a"}, out="value@b", path=str(tmp_path / name)), REDS)
        found = {column: (value["space"], value["about"]) for column, value in finish(todo).body["columns"].items()}
        assert found["value@b"][1]["weights"] == [sha256(content)]
        return found["value@b"][0]

    assert space("one", b"1") == space("other", b"1") != space("third", b"3")
    gone = label(storage, expert("Weighing", **{"in": "rgb@camera"}, out="value@b", path=str(tmp_path / "gone")))
    with pytest.raises(SourceError, match="gone"):
        gone.stage.facts(Digests(storage))


def test_what_is_wrong_in_the_recipe_is_said(storage: Storage) -> None:
    with pytest.raises(ValidationError, match=r"circle: value@. -> value@. -> value@."):
        label(
            storage,
            expert("Plus", **{"in": "value@a"}, out="value@b"),
            expert("Plus", **{"in": "value@b"}, out="value@a"),
        )
    with pytest.raises(ValidationError, match="two experts make the column 'value@a'"):
        label(storage, *[expert("Plus", **{"in": "rgb@camera"}, out="value@a")] * 2)
    with pytest.raises(RecipeError, match=r"no column 'depth@lidar'.*known: rgb@camera"):
        todo = label(storage, expert("Plus", **{"in": "depth@lidar"}, out="value@a"))
        todo.stage.units(todo)
    with pytest.raises(RecipeError, match="defines no modality 'depth'"):
        todo = label(storage, expert("Plus", **{"in": "rgb@camera"}, out="depth@a"))
        todo.stage.units(todo)


class Crowd(Expert):
    """As a detector: the first pixel says how many boxes; then the weakest go, and it is remarked."""

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        target = modalities["boxes"]

        def call(batch: Batch) -> Batch:
            rows = []
            for count in batch[self.in_[0]][:, 0, 0, 0]:
                boxes = [[0, 0, 0.1 * (i + 1), 1, 0, 1 - i / 20] for i in range(count)]
                rows.append(target.fit(strongest(boxes, target.most)))
            return {self.out[0]: rows}  # type: ignore[dict-item]

        return call


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_what_an_expert_leaves_out_is_counted_and_said_once(storage: Storage, batch: int) -> None:
    known = {**KNOWN, **modalities(boxes={"type": "boxes", "classes": ["car"], "most": 4})}
    data = ingested(storage, known, {g: [frame(i) for i in range(8)] for g in ("f", "g")})
    asked = [expert("Crowd", **{"in": "rgb@camera"}, out="boxes@net", batch=batch)]
    made = finish(step(Label(stage="label", data="frames", experts=asked), storage, known, frames=data))
    (said,) = [text for text in made.body["remarks"] if "boxes" in text and "left out" in text]
    assert said.startswith("6 samples: more than 4 boxes") and "a larger most: holds them" in said
    assert made.quarantined == 0


def test_classes_beyond_what_is_listed_are_said() -> None:
    from hyperloom.pipeline import plugins

    known = modalities(
        boxes={"type": "boxes", "classes": ["car", "cat"], "most": 2}, semantic={"type": "segmentation",
        "classes": ["a", "b"], "size": [2, 2]}, text={"type": "text", "length": 4, "cut": True},
    )  # fmt: skip
    with remarks.collected() as said:
        decoder = plugins.parse("decoder", {"type": "detections", "chosen": True})
        rows = np.array([[0, 0, 0.5, 0.5, 0.9, n] for n in (0, 1, 7)], np.float32)
        decoder.finish((rows, (10, 10)), known["boxes"])
        plugins.parse("decoder", {"type": "classes", "map": ["b", "a"]}).finish(
            np.array([[0, 1], [5, 1]]), known["semantic"]
        )
        known["text"].fit("longer")
    assert len(said) == 3 and all(count == 1 for count in said.values()), said
    texts = " | ".join(said)
    assert (
        "knows more classes than are listed" in texts and "beyond its map" in texts and "longer than 4 bytes" in texts
    )
