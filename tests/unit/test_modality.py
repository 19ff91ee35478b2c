"""Modalities: what is checked, what survives encoding, what plain readers of Parquet see."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import plugins
from pipeline.errors import IntegrityError
from pipeline.fingerprint import payload
from pipeline.storage import Storage
from stages.table import read_table, schema_of, write_table
from tests.unit.inline import modalities

KNOWN = modalities(
    rgb={"type": "image", "size": [6, 5]},
    depth={"type": "dense", "unit": "m"},
    exact={"type": "dense", "channels": 2, "storage": "float32"},
    normals={"type": "dense", "channels": 3, "direction": True, "range": [-1, 1]},
    semantic={"type": "segmentation", "classes": ["land", "water", "road"]},
    soft={"type": "soft", "of": "semantic"},
    pose={"type": "vector", "length": 7},
)
TOLERANCE = {"depth": 1e-2, "normals": 1e-3, "soft": 0.5 / 255 + 1e-6}


def sample(name: str, seed: int) -> np.ndarray:
    """A good value of the modality."""
    rng, modality = np.random.default_rng(seed), KNOWN[name]
    if name == "semantic":
        return rng.choice(np.array([0, 1, 2, 255], np.uint8), modality.shape)
    if name == "rgb":
        return rng.integers(0, 256, modality.shape, np.uint8)
    value = rng.random(modality.shape, np.float32)
    return value * 8 if name == "depth" else modality.fit(value * 2 - 1) if name == "normals" else value


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(KNOWN)), st.lists(st.booleans(), max_size=6), st.integers(0, 5))
def test_values_survive_encoding(name: str, there: list[bool], skip: int) -> None:
    modality = KNOWN[name]
    values = [sample(name, i) if ok else None for i, ok in enumerate(there)]
    rows, valid = modality.decode(modality.encode(values)[skip:])  # a slice has an offset into its buffers
    assert rows.shape == (len(values[skip:]), *modality.shape) and rows.dtype == modality.dtype
    assert valid.tolist() == there[skip:]
    for row, value in zip(rows, values[skip:], strict=True):
        if value is None:
            assert (row == modality.missing).all()
        else:
            assert np.abs(row.astype(float) - value).max() <= TOLERANCE.get(name, 0)


def test_raw_columns_are_read_without_a_copy() -> None:
    array = KNOWN["rgb"].encode([sample("rgb", 0), sample("rgb", 1)])
    rows, _ = KNOWN["rgb"].decode(array)
    assert rows.ctypes.data == array.buffers()[1].address


@pytest.mark.parametrize(("codec", "exact"), [("png", True), ("jpeg", False)])
def test_images_may_stay_compressed(codec: str, exact: bool) -> None:
    image = modalities(rgb={"type": "image", "size": [32, 24], "codec": codec})["rgb"]
    x, y = np.meshgrid(np.arange(24), np.arange(32))
    value = np.stack([x * 9, y * 7, (x + y) * 4], -1).astype(np.uint8)
    array = image.encode([value, None])
    assert pa.types.is_binary(array.type)
    rows, valid = image.decode(array)
    assert valid.tolist() == [True, False]
    difference = np.abs(rows[0].astype(int) - value).max()
    assert difference == 0 if exact else 0 < difference < 24


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rgb", np.zeros((5, 6, 3), np.uint8), r"expected shape \(6, 5, 3\), got \(5, 6, 3\)"),
        ("rgb", np.zeros((6, 5, 3), np.float32), "expected dtype uint8, got float32"),
        ("depth", np.full((6, 5, 1), np.nan, np.float32), "got 30 NaN or infinite of 30"),
        ("depth", np.full((6, 5, 1), 1e6, np.float32), "float16 holds"),
        ("normals", np.full((6, 5, 3), 2, np.float32), r"within \(-1.0, 1.0\).*got 2 to 2"),
        ("semantic", np.full((6, 5), 3, np.uint8), "class ids below 3 or 255, got 3"),
        ("soft", np.full((6, 5, 3), 1.5, np.float32), "probabilities in 0..1"),
        ("pose", np.zeros(6, np.float32), r"expected shape \(7,\)"),
    ],
)
def test_a_bad_value_is_named(name: str, value: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        KNOWN[name].check(value)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_good_values_pass_and_can_be_shown(name: str) -> None:
    modality = KNOWN[name]
    modality.check(sample(name, 3))
    picture = modality.picture(sample(name, 3))
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3
    assert modality.channels == {"rgb": 3, "depth": 1, "exact": 2, "pose": 7}.get(name, 3)


def test_fit_resizes_by_the_kind_of_value() -> None:
    halves = np.repeat(np.array([[0, 2]], np.uint8), 12, 0).repeat(5, 1)  # (12, 10): left 0, right 2
    assert set(np.unique(KNOWN["semantic"].fit(halves))) == {0, 2}, "classes are never mixed"
    image = KNOWN["rgb"].fit(np.dstack([halves * 100] * 3))
    assert image.shape == (6, 5, 3) and 90 < image[:, 2].mean() < 110, "the middle pixel is the mean of its area"
    assert KNOWN["depth"].fit(np.ones((12, 10))).shape == (6, 5, 1)
    normals = KNOWN["normals"].fit(np.random.default_rng(0).normal(size=(12, 10, 3)))
    assert np.allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected \(H, W, 2\)"):
        KNOWN["exact"].fit(np.ones((12, 10)))


def test_sizes_and_classes_follow_from_the_recipe() -> None:
    assert KNOWN["semantic"].size == (6, 5) and KNOWN["soft"].classes == ("land", "water", "road")
    with pytest.raises(ValueError, match="single image modality"):
        modalities(
            a={"type": "image", "size": [2, 2]},
            b={"type": "image", "size": [4, 4]},
            depth={"type": "dense"},
        )
    with pytest.raises(ValueError, match="name of a segmentation modality"):
        modalities(a={"type": "image", "size": [2, 2]}, soft={"type": "soft", "of": "a"})


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_modality_can_be_written_as_a_recipe(name: str) -> None:
    again = plugins.parse("modality", json.loads(json.dumps(KNOWN[name].to_recipe())))
    assert again == KNOWN[name] and payload(again) == payload(KNOWN[name])


def test_a_table_needs_only_parquet(tmp_path) -> None:
    value = sample("depth", 1)
    columns = {"key": pa.array(["a", "b"]), "depth@x": KNOWN["depth"].encode([value, None])}
    fields = [pa.field("key", pa.string()), KNOWN["depth"].field("depth@x")]
    data = write_table(columns, fields)
    assert data == write_table(dict(reversed(columns.items())), fields), "bytes depend on nothing but the content"
    storage = Storage(str(tmp_path))
    storage.write("t.parquet", data)

    about = json.loads(schema_of(storage, "t.parquet").field("depth@x").metadata[b"hyperloom"])
    raw = pq.read_table(tmp_path / "t.parquet").to_pylist()
    seen = np.frombuffer(raw[0]["depth@x"], about["stored"]).reshape(about["shape"])
    assert np.allclose(seen, value, atol=1e-2) and raw[1]["depth@x"] is None
    assert (about["modality"], about["source"], about["unit"]) == ("depth", "x", "m")
    frame = pq.read_table(tmp_path / "t.parquet").to_pandas()
    assert frame["key"].tolist() == ["a", "b"] and frame["depth@x"][0] == raw[0]["depth@x"]

    assert read_table(storage, "t.parquet", ["depth@x"]).column_names == ["depth@x"]
    with pytest.raises(IntegrityError, match=r"expected the columns \['rgb@x'\]"):
        read_table(storage, "t.parquet", ["rgb@x"])
    storage.write("torn.parquet", data[:-20])
    with pytest.raises(IntegrityError, match="not a whole Parquet file"):
        read_table(storage, "torn.parquet")


def test_row_groups_are_a_few_megabytes() -> None:
    image = modalities(rgb={"type": "image", "size": [512, 512]})["rgb"]
    data = write_table({"rgb@x": image.encode(np.zeros((12, 512, 512, 3), np.uint8))}, [image.field("rgb@x")])
    meta = pq.read_metadata(pa.BufferReader(data))
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [5, 5, 2]
