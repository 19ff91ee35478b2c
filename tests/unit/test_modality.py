"""Modalities: what is checked, what survives encoding, what plain readers of Parquet see."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline import plugins, registry
from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.modality import Defaults, Modality
from hyperloom.stages.table import read_table, write_table
from tests.unit.inline import modalities

KNOWN = modalities(
    rgb={"type": "image", "size": [6, 5]},
    depth={"type": "dense", "unit": "m"},
    exact={"type": "dense", "channels": 2, "storage": "float32"},
    normals={"type": "dense", "channels": 3, "direction": True, "range": [-1, 1]},
    semantic={"type": "segmentation", "classes": ["land", "water", "road"]},
    soft={"type": "soft", "of": "semantic"},
    steps={"type": "soft", "of": "semantic", "storage": "uint8"},
    pose={"type": "vector", "length": 7},
    coarse={"type": "dense", "range": [-1, 3], "storage": "uint8"},
    holes={"type": "dense", "range": [0, 8], "storage": "uint16", "unknown": 0},
    genre={"type": "category", "classes": ["news", "mail", "web"]},
    attributes={"type": "multilabel", "classes": 5},
    stars={"type": "ordinal", "levels": 5},
    age={"type": "scalar", "unit": "y"},
    boxes={"type": "boxes", "classes": ["car", "dog"], "most": 4},
    things={"type": "instances", "classes": ["car", "dog"], "most": 3, "size": [6, 5]},
    joints={"type": "keypoints", "points": ["head", "hand", "foot"]},
    review={"type": "text", "length": 24},
    pos={"type": "tags", "tags": ["NOUN", "VERB"], "length": 5},
    meaning={"type": "embedding", "length": 6},
    sound={"type": "audio", "rate": 100, "seconds": 0.2},
    heart={"type": "series", "steps": 9, "channels": 2},
    links={"type": "graph", "nodes": 6, "edges": 4},
    film={"type": "clip", "frames": 3},
)
TOLERANCE = {
    "depth": 1e-2, "normals": 1e-3, "soft": 1e-3, "steps": 0.5 / 255 + 1e-6, "coarse": 2 / 254 + 1e-6,
    "holes": 8 / 65534, "sound": 0.5 / 32768 + 1e-7,
}  # fmt: skip
CONTRACT = {
    "rgb": ("dense", "l1", "mae"),
    "depth": ("dense", "l1", "mae"),
    "normals": ("dense", "cosine", "angle"),
    "semantic": ("dense", "cross-entropy", "miou"),
    "soft": ("dense", "kl", "mae"),
    "genre": ("classify", "cross-entropy", "accuracy"),
    "attributes": ("classify", "bce", "f1"),
    "stars": ("ordinal", "cumulative", "mae"),
    "pose": ("regress", "huber", "mae"),
    "age": ("regress", "huber", "mae"),
    "boxes": ("boxes", "boxes", "map"),
    "things": ("instances", "instances", "map"),
    "joints": ("regress", "keypoints", "pck"),
    "review": ("tokens", "cross-entropy", "accuracy"),
    "pos": ("tag", "cross-entropy", "accuracy"),
    "meaning": ("embed", "cosine", "cosine"),
    "sound": ("series", "l1", "mae"),
    "heart": ("series", "huber", "mae"),
    "links": ("pair", "bce", "f1"),
    "film": ("dense", "l1", "mae"),
}


def sample(name: str, seed: int) -> np.ndarray:
    """A good value of the modality."""
    rng, modality = np.random.default_rng(seed), KNOWN[name]
    if name == "semantic":
        return rng.choice(np.array([0, 1, 2, 255], np.uint8), modality.shape)
    if name in ("rgb", "film"):
        return rng.integers(0, 256, modality.shape, np.uint8)
    if name in FRIENDLY:
        return modality.fit(FRIENDLY[name](rng))
    value = rng.random(modality.shape, np.float32)
    return value * 8 if name in ("depth", "holes") else modality.fit(value * 2 - 1) if name == "normals" else value


LETTERS = list("añ日🙂 b\x00\n")
FRIENDLY = {
    "genre": lambda rng: rng.choice(["news", "mail", "web"]).item(),
    "attributes": lambda rng: rng.choice(np.array([0, 1, 255]), 5),
    "stars": lambda rng: int(rng.integers(5)),
    "age": lambda rng: rng.normal(),
    "boxes": lambda rng: [
        {"x0": 0.1, "y0": 0.2, "x1": 0.1 + rng.random() / 2, "y1": 1, "class": rng.choice(["car", "dog"]).item()}
        for _ in range(rng.integers(5))
    ],
    "things": lambda rng: [
        {"mask": np.arange(30).reshape(6, 5) >= rng.integers(20), "class": "dog", "id": int(rng.integers(1, 2**40))}
        for _ in range(rng.integers(4))
    ],
    "joints": lambda rng: {"head": rng.random(2).tolist(), "foot": None},
    "review": lambda rng: "".join(rng.choice(LETTERS, rng.integers(7))),
    "pos": lambda rng: rng.choice(["NOUN", "VERB"], rng.integers(6)).tolist(),
    "heart": lambda rng: rng.normal(size=(rng.integers(10), 2)),
    "links": lambda rng: rng.integers(0, 6, (rng.integers(5), 2)),
}
"""What people write of those that are no plain arrays."""


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KNOWN)), st.lists(st.booleans(), max_size=6), st.integers(0, 5))
def test_values_survive_encoding(name: str, there: list[bool], skip: int) -> None:
    modality = KNOWN[name]
    values = [sample(name, i) if ok else None for i, ok in enumerate(there)]
    rows, valid = modality.decode(modality.encode(values)[skip:])  # a slice has an offset into its buffers
    assert rows.shape == (len(values[skip:]), *modality.shape) and rows.dtype == modality.dtype
    assert valid.tolist() == there[skip:]
    for row, value in zip(rows, values[skip:], strict=True):
        modality.check(row if value is not None else sample(name, 0))
        filler = np.full((1, *modality.shape), modality.missing, modality.stored)
        expected = modality.to_memory(filler)[0] if value is None else value
        assert np.allclose(row.astype(float), expected, rtol=0, atol=TOLERANCE.get(name, 0), equal_nan=True)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_type_names_its_head_objective_and_measure(name: str) -> None:
    assert (KNOWN[name].head, KNOWN[name].loss, KNOWN[name].metric) == CONTRACT[name]
    assert {KNOWN[n].type for n in CONTRACT} == set(registry.known("modality")), "the table and this test are complete"


GOLDEN = {
    "rgb": ("cd781a82b66494db", "bc6b36fe1189c317"),
    "photo": ("567967e415b8a954", "c85397a3e9755dd4"),
    "depth": ("3b45507f901bee11", "486f09967fe49a4b"),
    "normals": ("ea67c892af6b00f2", "fe9f612f6df8ea36"),
    "semantic": ("0190a6edb8b05e00", "978d50fefeecae6d"),
    "soft": ("aaf94746741b419c", "71f8c21c62d131f8"),
    "pose": ("3caf43eddeb5571a", "1cca4c3975fc0e4a"),
}
"""Digests of the identity and of the field's metadata. They move only when every stored column is to be made anew."""


def test_identities_and_metadata_stay() -> None:
    known = modalities(
        rgb={"type": "image", "size": [6, 5]},
        photo={"type": "image", "size": [6, 5], "codec": "jpeg"},
        depth={"type": "dense", "unit": "m", "range": [0, 10], "size": [6, 5]},
        normals={"type": "dense", "channels": 3, "direction": True, "size": [6, 5], "storage": "float32"},
        semantic={"type": "segmentation", "classes": ["land", "water"], "size": [6, 5]},
        soft={"type": "soft", "of": "semantic", "size": [6, 5]},
        pose={"type": "vector", "length": 7, "unit": "m"},
    )
    found = {}
    for name, modality in known.items():
        parts = sorted(modality.field(f"{name}@x").metadata.items())
        written = hashlib.sha256(b"".join(key + value for key, value in parts)).hexdigest()
        found[name] = (fingerprint(payload(modality))[:16], written[:16])
    assert found == GOLDEN


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
        ("holes", np.full((6, 5, 1), 9, np.float32), r"within \(0.0, 8.0\).*got 9 to 9"),
        ("rgb", b"no file", "image column keeps no files"),
        ("genre", np.array(3), "an id below 3, or -1 for unknown, got 3"),
        ("attributes", np.full(5, 2, np.uint8), "0, 1 or 255 for each class, got 2"),
        ("boxes", np.array([[0, 0, 2, 1, 0, 1]] + [[np.nan] * 6] * 3, np.float32), "corners in 0..1.*got 2; "),
        ("boxes", np.array([[0.5, 0, 0.1, 1, 0, 1]] + [[np.nan] * 6] * 3, np.float32), "x0 <= x1"),
        ("boxes", np.array([[0, 0, 1, 1, 2, 1]] + [[np.nan] * 6] * 3, np.float32), "class ids below 2, got 2"),
        ("boxes", np.array([[np.nan] * 6] * 3 + [[0, 0, 1, 1, 1, 1]], np.float32), "padding.*after all boxes"),
        ("joints", np.array([[0.5, 1.5, 1]] * 3, np.float32), "x and y in 0..1.*got 0.5 to 1.5"),
        ("joints", np.array([[0.5, 0.5, 2]] * 3, np.float32), "visible as 0 or 1"),
        ("review", np.array([98, 0, 98] + [0] * 21), "padding .0. after the text"),
        ("review", np.array([0xC3 + 1] + [0] * 23), "expected UTF-8"),
        ("review", np.full(24, 300), "bytes plus one.*got 300"),
        ("pos", np.array([0, 2, -1, -1, -1]), "ids below 2, or -1 for padding, got -1 to 2"),
        ("pos", np.array([-1, 1, -1, -1, -1]), "padding .-1. after the tags"),
        ("sound", np.full(20, 1.5, np.float32), "samples in -1..1, got 1.5"),
        ("heart", np.array([[1, np.nan]] * 9, np.float32), "finite numbers, or rows of NaN"),
        ("heart", np.array([[np.nan] * 2] + [[1, 1]] * 8, np.float32), "padding.*after all steps"),
        ("links", np.array([[0, 6]] + [[-1, -1]] * 3), "node numbers below 6, got 6"),
        ("links", np.array([[0, -1]] + [[-1, -1]] * 3), "pairs of node numbers"),
        ("film", np.zeros((2, 6, 5, 3), np.uint8), r"expected shape \(3, 6, 5, 3\)"),
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
    assert modality.channels == CHANNELS.get(name, 3) and isinstance(modality.words(sample(name, 3)), str)


CHANNELS = {
    "depth": 1, "coarse": 1, "holes": 1, "exact": 2, "pose": 7, "attributes": 5, "stars": 5, "age": 1, "boxes": 6,
    "things": 6, "review": 257, "pos": 2, "meaning": 6, "sound": 1, "heart": 2, "links": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("genre", "poem", "expected one of news, mail, web, got 'poem'"),
        ("stars", 1.5, "a name or an id, got 1.5"),
        ("attributes", ["9"], "some of 0, 1, 2, 3, 4, got '9'"),
        ("age", "old", "expected 1 numbers, got 'old'"),
        ("boxes", [{"x0": 0, "y0": 0, "x1": 1, "y1": 1, "class": "cat"}], "the class one of car, dog, got"),
        ("boxes", np.zeros((5, 6)), "at most 4 boxes, got 5; a larger `most` holds them"),
        ("joints", {"nose": [0, 0]}, "points among head, hand, foot, got 'nose'"),
        ("review", "x" * 25, "at most 24 bytes, got 25; a larger `length`"),
        ("pos", "NOUN ADJ", "expected one of NOUN, VERB, or an id, got 'ADJ'"),
        ("pos", ["NOUN"] * 6, "at most 5 tags, got 6"),
        ("sound", np.zeros(21), r"at most 0.2 s \(20 samples\), got 0.21 s"),
        ("heart", np.zeros((10, 2)), "at most 9 steps, got 10"),
        ("links", np.zeros((5, 2), int), "at most 4 edges, got 5"),
        ("film", [np.zeros((6, 5, 3), np.uint8)], "expected 3 frames, got 1"),
    ],
)
def test_what_does_not_fit_is_said_and_never_cut(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        KNOWN[name].fit(value)


def test_cutting_is_a_choice() -> None:
    known = modalities(
        text={"type": "text", "length": 4, "cut": True}, sound={"type": "audio", "rate": 10, "seconds": 1, "cut": True}
    )
    assert known["text"].words(known["text"].fit("aa日日")) == "aa", "never half a character"
    assert known["sound"].fit(np.ones(15)).sum() == 10


@pytest.mark.parametrize(
    ("name", "kind", "plain"),
    [
        ("genre", "string", lambda v: v in ("news", "mail", "web")),
        ("stars", "string", lambda v: v in "01234"),
        ("age", "float", lambda v: isinstance(v, float)),
        ("review", "string", lambda v: isinstance(v, str)),
        ("pos", "list<item: string>", lambda v: set(v) <= {"NOUN", "VERB"}),
        ("boxes", "list<item: struct<x0: float, ", lambda v: all(b["class"] in ("car", "dog") for b in v)),
        ("things", "list<item: struct<id: int64, class: ", lambda v: all(b["class"] in ("car", "dog") for b in v)),
        ("links", "list<item: struct<from: int64, to: int64>>", lambda v: all(set(e) == {"from", "to"} for e in v)),
    ],
)
def test_native_columns_are_words_and_numbers_to_anybody(name: str, kind: str, plain: Any) -> None:
    array = KNOWN[name].encode([sample(name, seed) for seed in range(9)] + [None])
    assert str(array.type).replace("element", "item").startswith(kind) and array.null_count == 1
    assert all(plain(v) for v in array.to_pylist()[:-1])


def test_a_foreign_word_in_a_column_is_named() -> None:
    with pytest.raises(ValueError, match="one of news, mail, web, got 'poem'"):
        KNOWN["genre"].unpack(pa.array(["news", None, "poem"]))
    with pytest.raises(ValueError, match="expected string .* got int64"):
        KNOWN["genre"].unpack(pa.array([1]))
    with pytest.raises(ValueError, match="at most 5 tags, got 6"):
        KNOWN["pos"].unpack(pa.array([["NOUN"] * 6], KNOWN["pos"].arrow()))


def test_unknown_pixels_are_no_numbers() -> None:
    raw = np.zeros((12, 10), np.float32)
    raw[:, 4:] = 4
    value = KNOWN["holes"].fit(raw)
    assert np.isnan(value[:, 0]).all() and (value[:, 3:] == 4).all(), "4 next to a hole is 4, not a mean with 0"
    back = KNOWN["holes"].decode(KNOWN["holes"].encode([value]))[0][0]
    assert (np.isnan(back) == np.isnan(value)).all() and np.allclose(back, value, atol=1e-3, equal_nan=True)
    KNOWN["holes"].check(value)
    with pytest.raises(ValueError, match="NaN"):
        KNOWN["depth"].check(value)


@pytest.mark.parametrize("codec", ["wav", "flac"])
def test_audio_may_stay_compressed(codec: str) -> None:
    sound = modalities(s={"type": "audio", "rate": 8000, "seconds": 0.1, "codec": codec})["s"]
    value = np.sin(np.arange(700) / 9).astype(np.float32) * 0.9
    array = sound.encode([sound.fit(value), None])
    rows, valid = sound.decode(array)
    assert valid.tolist() == [True, False] and np.allclose(rows[0][:700], value, atol=1 / 32768)
    assert not rows[0][700:].any() and sound.encode([rows[0]])[0] == array[0], "the same sound, the same bytes"
    with pytest.raises(ValueError, match="no sound file"):
        sound.check(b"RIFFnonsense")


def test_files_are_kept_as_they_came_where_they_fit() -> None:
    import cv2

    kept = modalities(rgb={"type": "image", "size": [32, 24], "codec": "file"}, s={
        "type": "audio", "rate": 8000, "seconds": 0.1, "codec": "file"})  # fmt: skip
    picture = np.random.default_rng(0).integers(0, 256, (32, 24, 3), np.uint8)
    for suffix in (".jpg", ".png", ".webp"):
        data = cv2.imencode(suffix, picture)[1].tobytes()
        value = kept["rgb"].read(data, f"a{suffix}")
        kept["rgb"].check(value)
        assert value == data and kept["rgb"].encode([value])[0].as_py() == data
        assert kept["rgb"].decode(kept["rgb"].encode([value]))[0].shape == (1, 32, 24, 3)
    larger = cv2.imencode(".png", np.repeat(picture, 2, 0).repeat(2, 1))[1].tobytes()
    assert kept["rgb"].read(larger, "a.png").shape == (32, 24, 3)
    with pytest.raises(ValueError, match="a.png is (empty|not an image)"):
        kept["rgb"].read(b"", "a.png")

    other = modalities(s={"type": "audio", "rate": 8000, "seconds": 0.1, "codec": "wav"})["s"]
    wav = other.compress(np.arange(-400, 400, dtype=np.int16))
    assert kept["s"].read(wav, "a.wav") == wav
    slower = modalities(s={"type": "audio", "rate": 4000, "seconds": 0.1})["s"].read(wav, "a.wav")
    assert slower.shape == (400,) and np.allclose(slower[50:-50], np.arange(-300, 300, 2) / 32768, atol=1e-3)


def test_a_type_of_ones_own_is_a_class() -> None:
    own = modalities(hue={"type": "tests.unit.test_modality:Angle"})["hue"]
    rows, _ = own.decode(own.encode([own.fit(370.0)]))
    assert rows.tolist() == [[10.0]] and (own.head, own.metric) == ("regress", "angle")
    assert plugins.parse("modality", own.to_recipe()) == own


def test_the_documentation_names_every_type_and_its_example_works(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/modalities.md").read_text(encoding="utf-8")
    (table,) = (block for block in text.split("\n\n") if block.startswith("| type |"))
    rows = [line.split(" | ") for line in table.splitlines() if "---" not in line]
    shown = {name: [cell.strip(" |") for cell in row[3:]] for row in rows for name in row[0].strip("| ").split(", ")}
    assert set(shown) - {"type"} == set(registry.known("modality"))
    for name in CONTRACT:
        found = (KNOWN[name].head, KNOWN[name].loss, KNOWN[name].metric)
        assert all(word in cell for word, cell in zip(found, shown[KNOWN[name].type], strict=True)), name
    example = types.ModuleType("heading")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(next(block for block in blocks if "class Heading" in block), example.__dict__)
    monkeypatch.setitem(sys.modules, "heading", example)
    own = modalities(heading={"type": "heading:Heading"})["heading"]
    assert np.allclose(own.decode(own.encode([own.fit("90")]))[0], [[1, 0]], atol=1e-6) and own.metric == "mae"


class Angle(Modality):
    """(1,) float32 degrees."""

    defaults: ClassVar[Defaults] = Defaults("regress", "huber", "angle")

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,)

    def fit(self, value: Any) -> np.ndarray:
        return np.array([value % 360], np.float32)


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

    about = json.loads(pq.read_schema(tmp_path / "t.parquet").field("depth@x").metadata[b"hyperloom"])
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


def test_samples_of_every_type_fit_one_picture() -> None:
    """Also missing ones, and maps with unknown pixels, which are black."""
    import cv2

    from hyperloom.stages.evaluate.collage import WIDTH, collage

    columns = [f"{name}@x" for name in sorted(KNOWN)]
    full = {f"{name}@x": sample(name, 1) for name in KNOWN}
    drawn = collage([("there", full), ("missing", dict.fromkeys(full))], columns, KNOWN)
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == len(KNOWN) * (WIDTH + 2) and picture.shape[0] < 2000
    assert not KNOWN["holes"].picture(np.full((6, 5, 1), np.nan, np.float32)).any()
    half = KNOWN["holes"].picture(np.concatenate([np.full((6, 2, 1), np.nan), np.full((6, 3, 1), 7.0)], 1))
    assert not half[:, :2].any() and half[:, 2:].any()


def test_a_short_sound_is_silent_to_its_end_wherever_it_is_decoded_to() -> None:
    """What lay in the batch before is no part of it."""
    sound = modalities(s={"type": "audio", "rate": 8000, "seconds": 0.1, "codec": "wav"})["s"]
    short = np.arange(1, 301, dtype=np.int16)
    out = sound.decompress(sound.compress(short), np.full(sound.shape, 77, np.int16))
    assert np.array_equal(out[:300], short) and not out[300:].any()
