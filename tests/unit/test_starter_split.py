"""`hyperloom init` of data that bring a split along: who dealt them knew what belongs together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperloom.stages.starter import given_split
from hyperloom.stages.starter.grouping import FOLDER_RULE
from tests.unit.test_starter import init, pictures, written  # noqa: F401  (a fixture)

Init = Callable[..., tuple[int, str]]


def table(path: Path, rows: list[tuple[str, str, str]], field: str = "split") -> None:
    """A table of words of a split, labels and speakers, with a number."""
    lines = [f"{word},{i % 7}.5,{speaker},{label}" for i, (word, label, speaker) in enumerate(rows)]
    path.write_text("\n".join([f"{field},size,speaker,label", *lines]))


def rows(*parts: tuple[str, int], silent: str = "", apart: bool = True) -> list[tuple[str, str, str]]:
    """So many rows of each word, of two classes (none of `silent`), and of four speakers: `apart` in each of them."""
    return [
        (word, "" if word == silent else "ab"[i % 2], f"{word if apart else 's'}{i % 4}")
        for word, count in parts
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("parts", "silent", "pin"),
    [
        ((("Train", 60), ("Test", 30)), "", {"test": ("Test",)}),
        ((("train", 60), ("dev", 30), ("test", 30)), "", {"test": ("test",), "val": ("dev",)}),
        ((("train", 60), ("validation", 30)), "", {"test": ("validation",)}),
        ((("train", 60), ("dev", 30), ("test", 30)), "test", {"test": ("dev",)}),
    ],
)
def test_a_field_that_deals_the_rows_is_taken_as_it_is(
    tmp_path: Path,
    init: Init,  # noqa: F811
    parts: Any,
    silent: str,
    pin: Any,
) -> None:
    """It was learned from like any other, and rows were dealt by chance. A test without labels judges nobody."""
    table(tmp_path / "t.csv", rows(*parts, silent=silent))
    code, text = init(str(tmp_path))
    assert code == 0 and "split says which rows are for training and which are held out" in text, text
    assert "both sides" not in text
    made = written(tmp_path)
    assert made.steps["rows"].source.group == "split" and made.steps["shards"].split.pin == pin
    assert made.steps["lessons"].split == made.steps["shards"].split
    assert made.steps["teacher"].inputs == ("size@table",), "nor from who they are of"
    assert "nothing is learned from speaker" in text
    assert init(str(tmp_path), "--force", "--group", "speaker")[0] == 0
    other = written(tmp_path)
    assert other.steps["rows"].source.group == "speaker" and "split@table" not in other.steps["teacher"].inputs


def test_who_lies_on_both_sides_is_said(tmp_path: Path, init: Init) -> None:  # noqa: F811
    table(tmp_path / "t.csv", rows(("train", 60), ("test", 30), apart=False))
    code, text = init(str(tmp_path))
    assert code == 0 and "4 of 4 speaker, such as s0, lie on both sides of split" in " ".join(text.split()), text


@pytest.mark.parametrize(
    ("parts", "silent", "why"),
    [
        ((("train", 60), ("test", 30)), "test", "not used: split"),
        ((("train", 60), ("test", 30)), "train", "not used: split"),
        ((("train", 60), ("ham", 30)), "", ""),
        ((("val", 60), ("test", 30)), "", ""),
    ],
)
def test_a_field_that_deals_nothing_to_learn_from_is_none(
    tmp_path: Path,
    init: Init,  # noqa: F811
    parts: Any,
    silent: str,
    why: str,
) -> None:
    table(tmp_path / "t.csv", rows(*parts, silent=silent))
    code, text = init(str(tmp_path))
    assert code == 0 and (why in text) and "taken as it is" not in text, text
    made = written(tmp_path)
    assert made.steps["rows"].source.group == "speaker"
    assert ("split@table" in made.steps["teacher"].inputs) is (not why), "words of something else are a feature"


def test_a_split_with_blanks_is_none_and_one_that_is_called_group_too(tmp_path: Path, init: Init) -> None:  # noqa: F811
    some = rows(("train", 60), ("test", 30))
    table(tmp_path / "t.csv", [("", *some[0][1:]), *some[1:]])
    code, text = init(str(tmp_path))
    assert code == 0 and "not used: split, which says nothing of 1 row" in text, text
    assert written(tmp_path).steps["teacher"].inputs == ("size@table",)
    table(tmp_path / "t.csv", rows(("train", 60), ("dev", 9), ("test", 9), silent="test")[:69], field="group")
    code, text = init(str(tmp_path), "--force")
    assert code == 0 and written(tmp_path).steps["rows"].source.group == "group", text
    table(tmp_path / "t.csv", [(w, label if w == "train" else "", s) for w, label, s in some], field="group")
    code, text = init(str(tmp_path), "--force")
    assert code == 0 and "not used: group" in text and written(tmp_path).steps["rows"].source.group == "speaker", text


def test_dates_beside_a_split_are_said(tmp_path: Path, init: Init) -> None:  # noqa: F811
    lines = [f"{'test' if i % 3 else 'train'},2025-0{1 + i % 9}-03,{i}.5,{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["split,when,size,label", *lines]))
    code, text = init(str(tmp_path))
    assert code == 0 and "when holds dates, from which nothing is learned; split holds out" in text, text


def test_the_last_field_is_not_learned_where_it_is_the_split(tmp_path: Path, init: Init) -> None:  # noqa: F811
    lines = [f"{i}.5,{'ab'[i % 2]},{'test' if i % 3 else 'train'}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["size,colour,subset", *lines]))
    code, text = init(str(tmp_path))
    assert code == 0 and "learns colour" in text, text
    assert written(tmp_path).steps["shards"].split.pin == {"test": ("test",)}


def test_folders_of_classes_in_folders_of_a_split(tmp_path: Path, init: Init) -> None:  # noqa: F811
    parts = {"train": 12, "val": 4, "test": 4}
    pictures(tmp_path, [f"{s}/{c}/{i}.jpg" for s, n in parts.items() for c in ("cat", "dog") for i in range(n)])
    code, text = init(str(tmp_path))
    assert code == 0 and "are the classes: cat, dog" in text and "group says which rows" in text, text
    made = written(tmp_path)
    assert made.modalities["label"].classes == ("cat", "dog")
    assert made.steps["rows"].source.group == "group"
    assert made.steps["shards"].split.pin == {"test": ("test",), "val": ("val",)}


def test_pictures_and_maps_in_folders_of_a_split(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """Pictures of one drive lie in both, which is for who dealt them to know."""
    names = [f"{word}/drive {i % 3}/{i}.jpg" for word, n in (("train2017", 12), ("val2017", 6)) for i in range(n)]
    pictures(tmp_path / "images", names, tmp_path / "masks")
    code, text = init(str(tmp_path), "--classes", "ground,car,tree")
    assert code == 0 and "2 groups (the folders say which pictures are for training" in " ".join(text.split()), text
    made = written(tmp_path)
    assert made.steps["shards"].split.pin == {"test": ("val2017",)}
    assert made.steps["frames"].source.group == "(?:^|/)(?P<group>train2017|val2017)/"
    assert init(str(tmp_path), "--force", "--classes", "ground,car,tree", "--group", r"(?P<group>drive \d)")[0] == 0
    assert len(written(tmp_path).steps["shards"].split.pin["test"]) == 1


def test_pictures_beside_such_folders_have_none(tmp_path: Path, init: Init) -> None:  # noqa: F811
    pictures(tmp_path / "images", ["train/1.jpg", "train/2.jpg", "test/3.jpg", "test/4.jpg", "5.jpg"], tmp_path / "m")
    code, text = init(str(tmp_path), "--classes", "ground,car,tree")
    assert code == 0 and "held out; --group" not in text, text
    assert written(tmp_path).steps["frames"].source.group in (FOLDER_RULE, r"(?P<group>[^/]+)\.[^./]+$")


def test_words_of_a_split() -> None:
    assert [given_split.place(w) for w in ("Train", "val2017", "dev ", "testing", "trains", "bus")] == [
        "train", "val", "val", "test", None, None,
    ]  # fmt: skip
    assert not given_split.is_split({"car", "bus", "train"}) and not given_split.is_split({"train"})
    words = {"a": "train", "b": "training", "c": "test", "d": "validation"}
    assert given_split.pinned(words, list("abcd")) == {"test": ["test"], "val": ["validation"]}
    assert given_split.pinned(words, list("cd")) == given_split.pinned(words, ["a"]) == {}
