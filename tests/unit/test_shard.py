"""Sharding: the join, the splits, what new data costs, and the statistics."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Unit, execute
from hyperloom.pipeline.errors import IntegrityError, RecipeError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.root.events import Events, read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.modality import Modality
from hyperloom.stages.shard.content import content, doubles
from hyperloom.stages.shard.splits import Split
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.shard.statistics import PAIRS, ColumnCounter, code_counts, merged
from hyperloom.stages.table import read_table, write_table
from tests.unit.inline import finish, ingested, modalities, step

KNOWN = modalities(
    rgb={"type": "image", "size": [4, 4]},
    depth={"type": "dense", "range": [0, 10]},
    semantic={"type": "segmentation", "classes": ["land", "water"]},
)
RGB, DEPTH, VOTES = "rgb@camera", "depth@midas", "semantic@vote"
KEYS = [f"{group}/{i:03d}" for group in ("a1", "b2") for i in range(5)]


def frames(storage: Storage, *groups: str, count: int = 6) -> Manifest:
    """`count` samples a group, in partitions of four; a sample's pixels tell which one it is."""
    made = {g: [{RGB: np.full((4, 4, 3), int(g[-1]) * 20 + i, np.uint8)} for i in range(count)] for g in groups}
    return ingested(storage, KNOWN, made)


def labelled(storage: Storage, data: Manifest, column: str, values: dict[str, Any], reverse: bool = False) -> Manifest:
    """What a label step would have made: `values` by key, null for others; `reverse` writes the rows backwards."""
    modality = KNOWN[column.partition("@")[0]]
    records = []
    for record in data.records:
        keys = read_table(storage, record.file.path, ["key"])["key"].to_pylist()
        keys = keys[::-1] if reverse else keys
        columns = {"key": pa.array(keys), column: modality.encode([values.get(k) for k in keys])}
        content = write_table(columns, [pa.field("key", pa.string()), modality.field(column)])
        records.append(execute(storage, Ready(content, len(keys)), Unit(f"label/{column}", record.id, "label"), 1))
    about = {"space": f"label/{column}", "fingerprint": fingerprint(column), "about": {"type": "test"}}
    body = {"columns": {column: about}, "partitions": data.body["partitions"]}
    return Manifest("label", fingerprint([column, [r.file.sha256 for r in records]]), {}, tuple(records), (), body)


class Ready:
    """A worker that has the bytes already."""

    def __init__(self, data: bytes, rows: int):
        self.data, self.rows = data, rows

    def run(self, unit: Unit, out: Any) -> None:
        out.rows = self.rows
        out.write("parquet", self.data)


def shards(storage: Storage, data: Manifest, *labels: Manifest, **config: Any) -> Manifest:
    inputs = {"frames": data, **{f"labels{i}": m for i, m in enumerate(labels)}}
    stage = Shard.model_validate({"stage": "shard", "data": list(inputs), **config})
    return finish(step(stage, storage, KNOWN, "shards", **inputs))


def test_labels_join_their_frames_by_key(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data = frames(storage, "a1", "b2")
    depth = {f"a1/{i:03d}": np.full((4, 4, 1), i, np.float32) for i in (0, 2, 5)} | {"c9/000": np.zeros((4, 4, 1))}
    made = shards(storage, data, labelled(storage, data, DEPTH, depth, reverse=True), split={"pin": {"test": ["b2"]}})

    assert [(s["group"], s["split"], s["rows"]) for s in made.body["shards"]] == [("a1", "train", 6), ("b2", "test", 6)]
    table = read_table(storage, made.body["shards"][0]["path"])
    assert table["key"].to_pylist() == [f"a1/{i:03d}" for i in range(6)]
    assert table["index"].to_pylist() == list(range(6))
    rows, valid = KNOWN["depth"].decode(table[DEPTH])
    assert valid.tolist() == [True, False, True, False, False, True]
    assert rows[valid][:, 0, 0, 0].tolist() == [0, 2, 5]
    assert KNOWN["rgb"].decode(table[RGB])[0][:, 0, 0, 0].tolist() == [20, 21, 22, 23, 24, 25]
    assert read_table(storage, made.body["shards"][1]["path"])[DEPTH].null_count == 6
    assert made.body["schema"][DEPTH] == {"modality": "depth", "type": "dense", "range": [0, 10], "size": [4, 4]}
    assert made.body["columns"][DEPTH]["about"] == {"type": "test"}


def test_a_partition_that_nobody_labelled_is_null(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data, half = frames(storage, "a1", "b2"), frames(storage, "a1")
    labels = labelled(storage, half, DEPTH, {"a1/001": np.ones((4, 4, 1))})
    made = shards(storage, data, labels)
    nulls = [read_table(storage, s["path"])[DEPTH].null_count for s in made.body["shards"]]
    assert nulls == [5, 6] and made.body["gaps"] == {DEPTH: 2}
    with pytest.raises(RecipeError, match="depth@midas was made for none of the 2 partitions of these frames"):
        shards(storage, frames(storage, "c3"), labels)


def test_texts_of_which_the_end_is_not_read_are_counted(tmp_path) -> None:
    words = {"type": "words", "most": 3, "min_count": 1}
    known = {**KNOWN, **modalities(title={"type": "text", "length": 40, "tokenizer": words})}
    storage, texts = Storage(str(tmp_path)), ["one", "one two three", "one two three four", "a b c d e"]
    data = ingested(storage, known, {"g": [{"title@web": known["title"].fit(text)} for text in texts]})
    stage = Shard.model_validate({"stage": "shard", "data": ["frames"], "split": {"pin": {"train": ["g"]}}})
    made = finish(step(stage, storage, known, "shards", frames=data))
    (remark,) = [text for text in made.body["remarks"] if "tokens" in text]
    assert remark.startswith("2 samples: title@web: a text has more than 3 tokens, and its end is not read (most of")


def test_equal_samples_in_two_splits_are_counted_and_named(tmp_path) -> None:
    """A clip that was copied: other names and other truth, the same pictures."""
    storage = Storage(str(tmp_path))
    pictures = [np.full((4, 4, 3), 9 * i, np.uint8) for i in range(8)]
    clip = [{RGB: p, DEPTH.replace("midas", "truth"): np.ones((4, 4, 1), np.float32)} for p in pictures[:4]]
    copy = [{RGB: p, DEPTH.replace("midas", "truth"): np.zeros((4, 4, 1), np.float32)} for p in pictures[:4]]
    other = [{**clip[0], RGB: p} for p in pictures[4:]]
    data = ingested(storage, KNOWN, {"flight": clip, "flight_copy": copy, "other": other})
    for pinned, words in (
        ("flight_copy", "4 of 4 samples of the split `test` are samples of `train` too, byte for byte (flight_copy/000 "
         "= flight/000, flight_copy/001 = flight/001, flight_copy/002 = flight/002, ..)"),
        ("other", ""),
    ):  # fmt: skip
        stage = Shard.model_validate({"stage": "shard", "data": ["frames"], "split": {"pin": {"test": [pinned]}}})
        one = step(stage, storage, KNOWN, "shards", frames=data)
        one.events = Events(storage, pinned, "driver")
        made = finish(one)
        one.events.flush()
        notes = [e["text"] for e in read(storage, pinned) if e["kind"] == "note"]
        assert [words in note for note in notes] == ([True] if words else []), notes
        assert made.body["telling"] == [RGB] and len({len(content(r)) for r in made.records}) == 1


def test_absent_pictures_are_not_equal(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data = ingested(
        storage, KNOWN, {g: [{RGB: None}, {RGB: np.full((4, 4, 3), i, np.uint8)}] for i, g in enumerate("ab")}
    )
    made = shards(storage, data, split={"pin": {"test": ["b"]}})
    assert all((content(r) == 0).tolist() == [True, False] for r in made.records)
    assert not doubles(storage, made.records, {"a": "train", "b": "test"})


def test_any_reader_of_parquet_understands_a_shard(tmp_path) -> None:
    made = shards(Storage(str(tmp_path)), frames(Storage(str(tmp_path)), "a1"))
    frame = pq.read_table(tmp_path / made.body["shards"][0]["path"]).to_pandas()
    assert frame.columns.tolist() == ["key", "group", "index", RGB] and frame["group"].unique().tolist() == ["a1"]
    assert np.frombuffer(frame[RGB][3], np.uint8).reshape(4, 4, 3)[0, 0, 0] == 23


def test_new_groups_and_other_splits_rewrite_nothing(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    before = shards(storage, frames(storage, "a1", "b2"), shard_mb=0.0001)
    assert len(before.body["shards"]) == 4, "a partition of each is over the target"
    more = shards(storage, frames(storage, "a1", "b2", "c3"), shard_mb=0.0001, split={"pin": {"test": ["a1"]}})
    old, new = ({s["path"] for s in m.body["shards"]} for m in (before, more))
    assert old < new and len(new - old) == 2
    assert len(list(storage.walk(before.records[0].space + "/data"))) == 6


def test_the_same_inputs_give_the_same_bytes(tmp_path) -> None:
    found = []
    for name in ("one", "two"):
        storage = Storage(str(tmp_path / name))
        made = shards(storage, frames(storage, "a1"), codec="lz4")
        found.append((made.body, [storage.read(f.path) for f in made.all_files()]))
    assert found[0] == found[1]


def test_a_shard_of_several_partitions_is_one_file(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    made = shards(storage, frames(storage, "a1", "b2", count=10))
    assert [s["rows"] for s in made.body["shards"]] == [10, 10], "never two groups in one shard"


def test_a_file_of_another_type_is_named(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data = frames(storage, "a1")
    labels = labelled(storage, data, DEPTH, {})
    wide = modalities(rgb={"type": "image", "size": [4, 4]}, depth={"type": "dense", "storage": "float32"})
    stage = Shard.model_validate({"stage": "shard", "data": ["frames", "labels"]})
    run = step(stage, storage, wide, "shards", frames=data, labels=labels)
    with pytest.raises(IntegrityError, match=r"label/depth@midas/data.*: expected depth@midas as .*64.*, got .*32.*"):
        finish(run)
    other = modalities(rgb={"type": "image", "size": [4, 4]}, depth={"type": "dense", "range": [0, 20]})
    run = step(stage, storage, other, "shards", frames=data, labels=labels)
    with pytest.raises(IntegrityError, match=r"with range \[0.0, 20.0\], got range \[0.0, 10.0\]"):
        finish(run)


def test_a_column_of_two_makers_is_refused(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data = frames(storage, "a1")
    one = labelled(storage, data, DEPTH, {})
    other = replace(one, body={**one.body, "columns": {DEPTH: {"space": "label/x", "fingerprint": "another"}}})
    with pytest.raises(RecipeError, match="both 'labels0' and 'labels1' offer depth@midas, and not the same"):
        shards(storage, data, one, other)
    assert shards(storage, data, one, other, columns=[RGB]).body["schema"].keys() == {RGB}
    assert shards(storage, data, one, one).rows == 6, "one and the same step may be listed twice"


@settings(max_examples=8, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), st.tuples(st.booleans(), st.booleans())), st.booleans(), st.booleans())
def test_any_labels_join_their_frames(made: dict[str, tuple[bool, bool]], depth_back: bool, votes_back: bool) -> None:
    """Whatever was labelled by whom, in whatever order: each row gets its own labels, and null for the rest."""
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        data = frames(storage, "a1", "b2", count=5)
        depth = {k: np.full((4, 4, 1), KEYS.index(k) / 2, np.float32) for k, (there, _) in made.items() if there}
        votes = {k: np.full((4, 4), KEYS.index(k) % 2, np.uint8) for k, (_, there) in made.items() if there}
        labels = [labelled(storage, data, DEPTH, depth, depth_back), labelled(storage, data, VOTES, votes, votes_back)]
        listed = shards(storage, data, *labels, shard_mb=0.0001).body["shards"]
        table = pa.concat_tables([read_table(storage, s["path"], ["key", RGB, DEPTH, VOTES]) for s in listed])
        assert table["key"].to_pylist() == KEYS
        for column, expected in {DEPTH: depth, VOTES: votes}.items():
            values, there = KNOWN[column.partition("@")[0]].decode(table[column])
            assert there.tolist() == [key in expected for key in KEYS]
            assert all((value == expected[key]).all() for key, value, ok in zip(KEYS, values, there) if ok)
        assert KNOWN["rgb"].decode(table[RGB])[0][:, 0, 0, 0].tolist() == [20, 21, 22, 23, 24, 40, 41, 42, 43, 44]


def test_row_groups_have_the_size_that_is_asked_for(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data = frames(storage, "a1", count=12)
    made = shards(storage, data, row_group_mb=220 / 2**20)
    assert made.body["shards"][0]["row_group"] == 3
    meta = pq.read_metadata(tmp_path / made.body["shards"][0]["path"])
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [3, 3, 3, 3]
    assert made.records[0].space != shards(storage, data).records[0].space


def test_mistakes_are_said_plainly(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data = frames(storage, "a1", "b2")
    with pytest.raises(RecipeError, match="'frames0?' has no column 'depth@x'"):
        shards(storage, data, columns=["depth@x"])
    with pytest.raises(RecipeError, match=r"none fell into 'test'.*pin"):
        shards(storage, data, split={"test": 0.0001})
    with pytest.raises(RecipeError, match="no group 'z9'; known: a1, b2"):
        shards(storage, data, split={"pin": {"test": ["z9"]}})
    with pytest.raises(RecipeError, match="split by 'flight', but ingest groups by 'group'"):
        shards(storage, data, split={"by": "flight"})
    for wrong in ({"split": {"tets": 0.2}}, {"columns": ["rgb"]}, {"split": {"pin": {"val": ["a"], "test": ["a"]}}}):
        with pytest.raises(ValidationError):
            Shard.model_validate({"stage": "shard", "data": "frames", **wrong})


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2), st.text(min_size=1, max_size=8), st.text(max_size=3))
def test_a_new_group_moves_no_old_one(groups: set[str], newcomer: str, salt: str) -> None:
    split = Split(test=0.3, val=0.2, salt=salt)
    before = {g: split.of(g) for g in groups}
    assert {g: split.of(g) for g in {*groups, newcomer}}.items() >= before.items()


STRATA = st.dictionaries(st.text(min_size=1, max_size=6), st.sampled_from("abc"), min_size=1, max_size=40)


@given(STRATA, st.text(min_size=7, max_size=8), st.sampled_from("abc"), st.text(max_size=3))
def test_a_new_group_moves_at_most_one_over_each_border_of_its_stratum(
    groups: dict[str, str], newcomer: str, kind: str, salt: str
) -> None:
    split = Split(test=0.3, val=0.2, salt=salt)
    order = {"test": 0, "val": 1, "train": 2}
    before, after = split._within(groups), split._within({**groups, newcomer: kind})
    moved = {g for g in groups if before[g] != after[g]}
    assert {groups[g] for g in moved} <= {kind}
    for border in (0, 1):
        assert sum((order[before[g]] > border) != (order[after[g]] > border) for g in moved) <= 1
    for stratum in "abc":
        mine = [after[g] for g, s in {**groups, newcomer: kind}.items() if s == stratum]
        assert abs(mine.count("test") - 0.3 * len(mine)) < 1 and abs(mine.count("train") - 0.5 * len(mine)) < 1


def test_strata_come_from_what_the_shards_hold(tmp_path) -> None:
    """Ten groups of land and ten of water, half of them tested: five of each, though names say nothing."""
    storage = Storage(str(tmp_path))
    names = [f"{kind}{i}" for kind in "gh" for i in range(6)]
    data = frames(storage, *names, count=1)
    votes = {f"{n}/000": np.full((4, 4), n[0] == "h", np.uint8) for n in names}
    labels = labelled(storage, data, VOTES, votes)

    def tested(made: Manifest) -> list[str]:
        return sorted(name[0] for name in made.body["splits"]["test"]["groups"])

    made = shards(storage, data, labels, split={"test": 0.5, "stratify": VOTES})
    assert tested(made) == ["g"] * 3 + ["h"] * 3
    assert made.body["statistics"][VOTES]["classes"] == {"land": 48, "water": 48}
    black = np.zeros((4, 4, 3), np.uint8)
    uneven = {n: [{RGB: black + 200 * (n[0] == "h")}] * (1 + 8 * (n[0] == "h")) for n in names}
    for by in (RGB, "size"):
        made = shards(storage, ingested(storage, KNOWN, uneven), split={"test": 0.5, "stratify": by})
        assert tested(made) == ["g"] * 3 + ["h"] * 3, by
    with pytest.raises(RecipeError, match="stratify: neither 'size' nor a column of the shards is 'depth@x'"):
        shards(storage, data, split={"test": 0.5, "stratify": "depth@x"})


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-9, 1e9])
def test_strata_of_numbers_do_not_depend_on_the_unit(tmp_path, unit: float) -> None:
    """Groups of currents in amperes were all of one stratum, and so were those of large numbers."""
    known, storage = modalities(current={"type": "scalar"}), Storage(str(tmp_path))
    random = np.random.default_rng(0)
    sizes = {f"{kind}{i}": 20.0 ** "ghk".index(kind) for kind in "ghk" for i in range(6)}
    groups = {
        n: [{"current@meter": np.array([unit * random.normal(s, s / 9)], np.float32)} for _ in range(4)]
        for n, s in sizes.items()
    }
    groups |= {
        f"z{i}": [{"current@meter": np.array([unit * s], np.float32)} for s in (-1, 1, 1e-4 * i)] for i in range(6)
    }
    stage = Shard.model_validate(
        {"stage": "shard", "data": "frames", "split": {"test": 0.5, "stratify": "current@meter"}}
    )
    made = finish(step(stage, storage, known, "shards", frames=ingested(storage, known, groups)))
    tested = [name[0] for name in made.body["splits"]["test"]["groups"]]
    assert {kind: tested.count(kind) for kind in "ghkz"} == dict.fromkeys("ghkz", 3)


def test_shares_hold_on_average_and_pins_always() -> None:
    split = Split(test=0.3, val=0.2, pin={"train": ("g7",), "test": ("g8",)})
    places = split.assign(f"g{i}" for i in range(2000))
    count = [sum(p == name for p in places.values()) / 2000 for name in ("train", "val", "test")]
    assert np.allclose(count, [0.5, 0.2, 0.3], atol=0.04) and (places["g7"], places["g8"]) == ("train", "test")
    tighter = Split(test=0.3, val=0.1).assign(f"g{i}" for i in range(2000))
    assert all(tighter[g] == "test" for g, p in places.items() if p == "test" and g != "g8"), "the test split stays"


@pytest.mark.parametrize(
    ("name", "low", "high"), [("rgb", 0, 256), ("depth", 0, 10), ("exact", -3, 5), ("embedding", -1, 1), ("soft", 0, 1)]
)
def test_statistics_are_those_of_numpy(name: str, low: float, high: float) -> None:
    known = {**KNOWN, **modalities(
        rgb={"type": "image", "size": [4, 4]},
        exact={"type": "dense", "channels": 2, "storage": "float32"},
        embedding={"type": "vector", "length": 5},
        soft={"type": "soft", "classes": ["a", "b", "c"]},
    )}  # fmt: skip
    modality: Modality = known[name]
    values = np.random.default_rng(0).uniform(low, high, (9, *modality.shape)).astype(modality.dtype)
    if modality.soft:
        values /= values.sum(-1, keepdims=True)
    figures = []
    for part in (slice(0, 4), slice(4, 9)):
        tally = ColumnCounter(modality)
        tally.add(*modality.unpack(modality.encode([*values[part], None])))
        figures.append(tally.figures())
    found = merged(modality, figures)
    kept = modality.decode(modality.encode(values))[0].astype(np.float64).reshape(-1, modality.channels)
    assert found["rows"] == 11 and found["missing"] == 2 / 11
    for key, figure in {"mean": kept.mean(0), "std": kept.std(0), "min": kept.min(0), "max": kept.max(0)}.items():
        assert np.allclose(found[key], figure, atol=1e-6), key
    assert sum(found["histogram"]["counts"]) == kept.size
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["counts"]) + 1


@pytest.mark.parametrize(
    ("definition", "values", "expected"),
    [
        ({"type": "category", "classes": ["a", "b"]}, ["a", "b", "a"], {"classes": {"a": 2, "b": 1}, "unknown": 0}),
        ({"type": "ordinal", "levels": 2}, [1, 1], {"classes": {"0": 0, "1": 2}, "unknown": 0}),
        ({"type": "multilabel", "classes": 2}, [[1, 255], [1, 0]], {"classes": {"0": 2, "1": 0}, "unknown": 1}),
        ({"type": "tags", "tags": ["x", "y"], "length": 3}, ["x y", "y"], {"classes": {"x": 1, "y": 2}, "unknown": 0}),
        ({"type": "boxes", "classes": ["x", "y"], "most": 2}, [[[0, 0, 1, 1, 1]], []], {"classes": {"x": 0, "y": 1}}),
        ({"type": "text", "length": 9}, ["é", "four"], {"mean": [3.0], "std": [1.0], "min": [2.0], "max": [4.0]}),
        ({"type": "graph", "nodes": 3, "edges": 3}, [[[0, 1]], []], {"mean": [0.5], "max": [1.0]}),
        ({"type": "scalar"}, [1.0, 2.0], {"mean": [1.5], "min": [1.0]}),
        ({"type": "series", "steps": 3, "channels": 2}, [[[1, 10]], [[3, 30], [5, 20]]], {"mean": [3.0, 20.0]}),
        ({"type": "keypoints", "points": 2}, [[[0.5, 1, 1], [0, 0, 0]]], {"mean": [0.5, 1.0], "min": [0.5, 1.0]}),
        ({"type": "audio", "rate": 4, "seconds": 1}, [[0.5, -0.5]], {"mean": [0.0], "max": [0.5], "min": [-0.5]}),
        ({"type": "clip", "frames": 1, "size": [1, 1]}, [np.full((1, 1, 1, 3), 7, np.uint8)], {"mean": [7.0] * 3}),
    ],
    ids=lambda v: v["type"] if isinstance(v, dict) and "type" in v else "",
)
def test_every_type_is_counted(definition: dict[str, Any], values: list[Any], expected: dict[str, Any]) -> None:
    modality = modalities(m=definition)["m"]
    figures = []
    for value in [*values, None]:
        tally = ColumnCounter(modality)
        tally.add(*modality.unpack(modality.encode([None if value is None else modality.fit(value)])))
        figures.append(tally.figures())
    found = merged(modality, figures)
    assert found["missing"] == 1 / (len(values) + 1)
    assert {name: found[name] for name in expected} == expected


def test_unknown_pixels_are_left_out_of_statistics() -> None:
    for storage in ("float16", "uint8"):
        depth = modalities(d={"type": "dense", "size": [1, 4], "range": [0, 4], "unknown": 0, "storage": storage})["d"]
        tally = ColumnCounter(depth)
        tally.add(*depth.unpack(depth.encode([depth.fit(np.array([[0, 2, 4, 0]]))])))
        found = merged(depth, [tally.figures()])
        assert (found["mean"], found["min"], sum(found["histogram"]["counts"])) == ([3.0], [2.0], 2)


def test_classes_counted_by_twos_are_the_same() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (PAIRS + 3, 1)).astype(np.uint8)
    assert (code_counts(ids, 256)[0] == np.bincount(ids[:, 0], minlength=256)).all()


def test_statistics_come_from_the_training_split(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    data = frames(storage, "a1", "b9")
    votes = {"a1/000": np.array([[0, 0, 1, 255]] * 4, np.uint8), "b9/000": np.ones((4, 4), np.uint8)}
    made = shards(storage, data, labelled(storage, data, VOTES, votes), split={"pin": {"test": ["b9"]}})
    assert made.body["statistics"][VOTES] == {
        "rows": 6, "missing": 5 / 6, "classes": {"land": 8, "water": 4}, "unknown": 4,
    }  # fmt: skip
    assert made.body["statistics"][RGB]["mean"] == [22.5] * 3
    assert made.body["splits"]["test"] == {"rows": 6, "shards": 1, "groups": ["b9"]}


@pytest.mark.parametrize("where", ["memory", "folder"])
@pytest.mark.parametrize("native", [False, True])
def test_every_form_on_disk_reaches_a_batch(tmp_path: Any, where: str, native: bool) -> None:
    """Structs, lists, strings, compressed sound, steps of 8 bits and tensors, from a folder and by byte ranges."""
    from hyperloom.stages.shard.loader import Loader

    known = modalities(
        boxes={"type": "boxes", "classes": ["car", "dog"], "most": 3},
        pos={"type": "tags", "tags": ["NOUN", "VERB"], "length": 4},
        depth={"type": "dense", "size": [2, 2], "range": [0, 254], "unknown": 0, "storage": "uint8"},
        sound={"type": "audio", "rate": 100, "seconds": 0.1, "codec": "wav"},
        review={"type": "text", "length": 9},
        links={"type": "graph", "nodes": 4, "edges": 3},
        stars={"type": "ordinal", "levels": 5},
    )
    storage = Storage(f"memory://every-form-{native}" if where == "memory" else str(tmp_path))
    written = [
        {
            "boxes": [[0, 0, 0.5, 0.5, 1]] * (i % 3), "pos": "NOUN VERB", "depth": np.array([[0, i], [2, 3]]),
            "sound": np.full(8, 0.5), "review": f"hé{i}", "links": [[0, i % 4]], "stars": i % 5,
        }
        for i in range(1, 8)
    ]  # fmt: skip
    samples = [{f"{n}@a": known[n].fit(v) if i else None for n, v in row.items()} for i, row in enumerate(written)]
    data = ingested(storage, known, {"g": samples})
    stage = Shard.model_validate({"stage": "shard", "data": "frames", "row_group_mb": 0.0005})
    made = finish(step(stage, storage, known, "shards", frames=data))
    loader = Loader(storage, made, known, list(samples[0]), "train", batch=7, shuffle=False, native=native)
    (batch,) = list(loader)
    for column in samples[0]:
        assert batch[f"{column}?"].tolist() == [False] + [True] * 6
        got, expected = batch[column][1:].numpy(), np.stack([sample[column] for sample in samples[1:]])
        assert np.allclose(got, expected, atol=1e-4, equal_nan=True), column
