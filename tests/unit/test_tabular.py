"""Tables as a source, through the ingest stage: every format, values and files, bad rows, and what new rows cost."""

from __future__ import annotations

import csv
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.table import read_table, write_table
from tests.unit import inline

KNOWN = inline.modalities(
    review={"type": "text", "length": 40},
    genre={"type": "category", "classes": ["news", "mail"]},
    stars={"type": "ordinal", "levels": 5},
    price={"type": "scalar", "unit": "EUR"},
    pose={"type": "vector", "length": 2},
    topics={"type": "multilabel", "classes": ["art", "sport"]},
    pos={"type": "tags", "tags": ["DET", "NOUN", "VERB"], "length": 4},
    links={"type": "graph", "nodes": 5, "edges": 4},
    sound={"type": "audio", "rate": 8000, "seconds": 0.01, "codec": "wav"},
)
COLUMNS = {"review@human": "text", "genre@truth": "kind", "stars@truth": "stars", "price@shop": "price"}


def ingest(root: Path, source: dict[str, Any], **fields: Any) -> tuple[Manifest, Storage]:
    storage = Storage(str(root))
    value = {"stage": "ingest", "source": {"type": "table", **source}, **fields}
    stage = load("stage", "ingest").model_validate(value)
    step = inline.step(stage, storage, KNOWN)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(storage))])
    return inline.finish(step), storage


def table(made: Manifest, storage: Storage) -> dict[str, list[Any]]:
    parts = [read_table(storage, r.file.path) for r in made.records if r.files]
    return pa.concat_tables(parts).to_pydict()


def left_out(made: Manifest, storage: Storage) -> dict[str, str]:
    lists = [storage.read_json(f"{r.space}/quarantine/{r.id}.json") for r in made.records if r.quarantined]
    return {sample["key"]: sample["error"] for samples in lists for sample in samples}


ROWS = [
    {"id": "r0", "who": "ann", "text": "fine, though", "kind": "news", "stars": "4", "price": "2.5"},
    {"id": "r1", "who": "ben", "text": "naïve", "kind": "mail", "stars": "0", "price": ""},
    {"id": "r2", "who": "ann", "text": "", "kind": "", "stars": "1", "price": "7"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(f'"{v}"' for v in line) for line in [rows[0], *(row.values() for row in rows)]]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_rows_become_samples(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"reviews.{suffix}", ROWS)
    made, storage = ingest(tmp_path / "root", {"path": str(path), "columns": COLUMNS, "key": "id", "group": "who"})
    assert table(made, storage) == {
        "key": ["r0", "r2", "r1"],
        "group": ["ann", "ann", "ben"],
        "index": [0, 1, 0],
        "review@human": ["fine, though", None, "naïve"],
        "genre@truth": ["news", None, "mail"],
        "stars@truth": ["4", "1", "0"],
        "price@shop": [2.5, 7.0, None],
    }


def test_cells_may_hold_lists_and_objects(tmp_path: Path) -> None:
    row = {"pose": "1.5, 2", "topics": "art|sport", "pos": "DET NOUN", "links": "[[0, 1], [2, 3]]"}
    columns = {"pose@x": "pose", "topics@x": "topics", "pos@x": "pos", "links@x": "links"}
    made, storage = ingest(tmp_path / "root", {"path": str(write(tmp_path / "a.csv", [row])), "columns": columns})
    found = table(made, storage)
    assert np.frombuffer(found["pose@x"][0], np.float32).tolist() == [1.5, 2] and found["topics@x"] == [b"\1\1"]
    assert found["pos@x"] == [["DET", "NOUN"]] and found["links@x"][0][1] == {"from": 2, "to": 3}


def test_cells_may_name_files_and_hold_their_bytes(tmp_path: Path) -> None:
    wav = KNOWN["sound"].compress(np.arange(80, dtype=np.int16))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.wav").write_bytes(wav)
    (tmp_path / "clips/torn.wav").write_bytes(wav[:60])
    rows = [{"clip": "clips/a.wav"}, {"clip": "clips/gone.wav"}, {"clip": "clips/torn.wav"}, {"clip": ""}]
    path = write(tmp_path / "clips.csv", rows)
    made, storage = ingest(tmp_path / "root", {"path": str(path), "columns": {"sound@mic": {"file": "clip"}}})
    assert table(made, storage)["sound@mic"] == [wav, None]
    errors = left_out(made, storage)
    assert "gone.wav is not there" in errors["clips/000001"] and "ends after 16 of 160 bytes" in errors["clips/000002"]
    assert read_table(storage, made.records[0].file.path)["key"].to_pylist() == ["clips/000000", "clips/000003"]

    held = write(tmp_path / "held.parquet", [{"audio": {"bytes": wav, "path": "a.wav"}}])
    made, storage = ingest(tmp_path / "root", {"path": str(held), "columns": {"sound@mic": "audio"}})
    assert table(made, storage)["sound@mic"] == [wav]
    with pytest.raises(RecipeError, match="sound@mic: audio values come from files.*{file: clip}"):
        ingest(tmp_path / "root", {"path": str(path), "columns": {"sound@mic": "clip"}})


def test_bad_rows_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f'{good}\n{{"torn": \n[1]\n{json.dumps({**ROWS[1], "kind": "poem"})}\n')
    made, storage = ingest(tmp_path / "root", {"path": str(path), "columns": COLUMNS})
    assert table(made, storage)["key"] == ["bad/000000"]
    errors = left_out(made, storage)
    assert "no JSON" in errors["bad/000001"] and "expected a JSON object" in errors["bad/000002"]
    assert "genre@truth: expected one of news, mail, got 'poem'" in errors["bad/000003"]
    short = tmp_path / "short.csv"
    short.write_text("text,kind,stars,price\na,news,1,1\nb,news\n")
    made, storage = ingest(tmp_path / "root", {"path": str(short), "columns": COLUMNS})
    assert left_out(made, storage) == {
        "short/000001": "ValueError: expected 4 fields as the first line has (text,kind,stars,price), got 2"
    }


def test_new_rows_cost_their_own_partitions(tmp_path: Path) -> None:
    path, root = tmp_path / "reviews.csv", tmp_path / "root"
    source = {"path": str(path), "columns": COLUMNS, "key": "id", "group": "who"}
    write(path, ROWS)
    before, _ = ingest(root, source, rows=1)
    write(path, [*ROWS, {**ROWS[0], "id": "r3"}])
    after, _ = ingest(root, source, rows=1)
    old, new = ({r.id for r in made.records} for made in (before, after))
    assert old < new and len(new - old) == 1
    write(path, [{**ROWS[0], "price": "3"}, *ROWS[1:]])
    changed, _ = ingest(root, source, rows=1)
    assert len({r.id for r in changed.records} - old) == 1, "a changed cell is another sample"


def test_mistakes_are_said_plainly(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", ROWS)
    for source, words in (
        ({"columns": {"review@human": "txt"}}, "reviews.csv has no field 'txt'; it has id, who, text"),
        ({"columns": COLUMNS, "key": "who"}, "row 1 of reviews.csv and row 3 of reviews.csv have the same key 'ann'"),
        ({"columns": COLUMNS, "path": str(tmp_path / "nothing")}, "no file matches"),
    ):
        made = load("source", "table").model_validate({"type": "table", "path": str(path), **source})
        with pytest.raises(SourceError, match=words):
            made.pieces(Digests(Storage(str(tmp_path / "root"))))
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match="x.csv is UTF-16 .*encoding: utf-16"):
        ingest(tmp_path / "root", {"path": str(tmp_path / "x.csv"), "columns": COLUMNS})


def test_sentences_of_a_treebank(tmp_path: Path) -> None:
    word = "{0}\t{1}\t{1}\t{2}\t_\t_\t{3}\t{4}\t_\t_"
    lines = ["# newdoc id = news-1", "# sent_id = news-1-1", "# text = A dog's"]
    lines += [
        word.format("1", "A", "DET", 2, "det"),
        "2-3\tdog's" + "\t_" * 8,
        word.format("2", "dog", "NOUN", 0, "root"),
    ]
    lines += [
        word.format("3", "'s", "VERB", 2, "x"),
        "",
        "# sent_id = news-1-2",
        word.format("1", "B", "NOUN", 0, "root"),
    ]
    (tmp_path / "a.conllu").write_text("\n".join(lines) + "\n\n1\tbroken\n")
    columns = {"review@human": "tokens", "genre@truth": "genre", "pos@truth": "upos", "links@truth": "heads"}
    source = {"path": str(tmp_path / "a.conllu"), "columns": columns, "key": "id", "group": "document"}
    made, storage = ingest(tmp_path / "root", source)
    found = table(made, storage)
    assert found["review@human"] == ["A dog 's", "B"] and found["pos@truth"] == [["DET", "NOUN", "VERB"], ["NOUN"]]
    assert found["group"] == ["news-1"] * 2 and found["genre@truth"] == ["news"] * 2
    assert [(e["from"], e["to"]) for e in found["links@truth"][0]] == [(2, 1), (0, 2), (2, 3)]
    assert "ten fields" in left_out(made, storage)["a/000002"]


def test_a_folder_of_sounds_with_boxes_beside_them(tmp_path: Path) -> None:
    """The source `files` takes any modality that reads files, and side files any other."""
    known = {**KNOWN, **inline.modalities(boxes={"type": "boxes", "classes": ["bird"], "most": 2})}
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"in/{name}.wav").write_bytes(KNOWN["sound"].compress(np.arange(80, dtype=np.int16)))
    (tmp_path / "a.json").write_text('[{"x0": 0, "y0": 0, "x1": 1, "y1": 0.5, "class": "bird"}]')
    source = {"type": "files", "path": str(tmp_path / "in"), "column": "sound@mic"}
    source["columns"] = {"boxes@truth": str(tmp_path / "{stem}.json")}  # type: ignore[assignment]
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": source})
    storage = Storage(str(tmp_path / "root"))
    found = table(inline.finish(inline.step(stage, storage, known)), storage)
    assert found["key"] == ["a", "b"] and found["sound@mic"][0][:4] == b"RIFF"
    assert found["boxes@truth"][0][0]["class"] == "bird" and found["boxes@truth"][1] is None


def test_labels_of_a_table_are_judged(tmp_path: Path) -> None:
    """From rows to shards to figures, without a picture anywhere."""
    storage = Storage(str(tmp_path / "root"))
    rows = [
        {"kind": k, "told": t, "stars": "3", "guess": s} for k, t, s in (("news", "news", "1"), ("mail", "news", "3"))
    ]
    columns = {"genre@truth": "kind", "genre@reader": "told", "stars@truth": "stars", "stars@reader": "guess"}
    frames, _ = ingest(tmp_path / "root", {"path": str(write(tmp_path / "a.csv", rows)), "columns": columns})
    shard = load("stage", "shard").model_validate({"stage": "shard", "data": "frames"})
    shards = inline.finish(inline.step(shard, storage, KNOWN, "shards", frames=frames))
    evaluate = load("stage", "evaluate").model_validate({"stage": "evaluate", "data": "shards", "split": "train"})
    made = inline.finish(inline.step(evaluate, storage, KNOWN, "report", shards=shards))
    assert made.body["figures"]["reader"]["genre.accuracy"] == 0.5 and made.body["figures"]["reader"]["stars.mae"] == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"unit": "m"}, ""),
        ({"unit": "cm"}, "the unit of the field 'far@laser': m; of far@laser: cm"),
        ({"unit": "px"}, "the unit of the field 'far@laser': m; of far@laser: px"),
        ({"unit": "m", "range": [0, 1]}, "the range of the field 'far@laser': 0 to 9 m; of far@laser: 0 to 1 m"),
    ],
)
def test_a_table_that_hyperloom_wrote_says_its_unit(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    """Labels that were exported and come back, into a recipe in other words."""
    old = inline.modalities(
        far={"type": "scalar", "unit": "m", "range": [0, 9]}, kind={"type": "category", "classes": ["a", "b"]}
    )
    values = {"far@laser": np.array([2.5], np.float32), "kind@who": np.array(1)}
    columns = {c: old[c.partition("@")[0]].encode([value]) for c, value in values.items()}
    file = tmp_path / "labels.parquet"
    file.write_bytes(write_table(columns, [old[c.partition("@")[0]].field(c) for c in columns]))
    known = inline.modalities(far={"type": "scalar", **fields}, kind={"type": "category", "classes": ["b", "a"]})
    source = {"type": "table", "path": str(file), "columns": {c: c for c in columns}}
    stage = Ingest.model_validate({"stage": "ingest", "source": source})
    storage = Storage(str(tmp_path / "root"))
    run = inline.step(stage, storage, known, "frames")
    if problem:
        with pytest.raises(RecipeError, match=re.escape(problem)):
            inline.finish(run)
        return
    made = inline.finish(run)
    assert list(inline.column(storage, known, made, "far@laser").values()) == [2.5]
    assert list(inline.column(storage, known, made, "kind@who").values()) == [0]  # b, by its name


# -- anything at all ---------------------------------------------------------------------------------------------------
EXAMPLES = int(os.environ.get("HYPERLOOM_EXAMPLES", "8"))
"""How many random tables the property test makes."""
ANYTHING = st.characters(codec="cp1252", exclude_characters="\0")
ROW = st.fixed_dictionaries(
    {
        "text": st.text(ANYTHING, min_size=1, max_size=12).filter(lambda text: bool(text.strip())),
        "kind": st.sampled_from(["news", "mail", None]),
        "price": st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)),
    }
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(ROW, min_size=1, max_size=6),
    st.sampled_from(["csv", "tsv", "jsonl", "parquet"]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.sampled_from([".", ","]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_table_gives_what_another_writer_put_there(
    rows: list[dict[str, Any]], suffix: str, separator: str, encoding: str, decimal: str, quoting: Any, end: str
) -> None:
    import pandas

    bare = (
        quoting == csv.QUOTE_MINIMAL and end == "\n"
    )  # such a writer leaves a \r without quotes, where it ends a line
    assume(not (bare and suffix in ("csv", "tsv") and any("\r" in row["text"] for row in rows)))
    frame = pandas.DataFrame([{"id": f"r{n}", **row} for n, row in enumerate(rows)])
    how: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{suffix}"
        if suffix == "parquet":
            frame.to_parquet(path)
        elif suffix == "jsonl":
            frame.to_json(path, orient="records", lines=True, double_precision=15, force_ascii=False)
        else:
            how = {"separator": separator, "encoding": encoding, "decimal": decimal}
            written = {"sep": separator, "decimal": decimal, "quoting": quoting, "lineterminator": end}
            frame.to_csv(path, index=False, encoding=encoding, **written)
        columns = {c: COLUMNS[c] for c in ("review@human", "genre@truth", "price@shop")}
        made, storage = ingest(Path(folder) / "root", {"path": str(path), "key": "id", "columns": columns, **how})
        assert made.quarantined == 0, left_out(made, storage)
        values = table(made, storage)
    assert values["review@human"] == [row["text"] for row in rows]
    assert values["genre@truth"] == [row["kind"] for row in rows]
    for stored, row in zip(values["price@shop"], rows, strict=True):
        assert (stored is None) == (row["price"] is None)
        assert stored is None or stored == pytest.approx(row["price"], rel=1e-6, abs=1e-9)
