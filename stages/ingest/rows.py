"""Rows: what tables of several formats hold, one mapping a row.

CSV and TSV (the first line names the fields), JSON lines, Parquet, and CoNLL-U, whose sentences become rows with the
fields id, document, genre (the id up to the first `-`), text, tokens (forms with spaces between), form, lemma, upos,
xpos, deprel (lists, one a token) and heads (pairs: number of the head, number of the token; 0 is the root).
A row that cannot be understood is the ValueError that says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hyperloom.pipeline.errors import SourceError

TableRow = dict[str, Any]
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".conllu")


def rows(data: bytes, path: str) -> list[TableRow | ValueError]:
    """All rows of a table. Raises SourceError for one that cannot be read at all."""
    suffix = path[path.rfind(".") :].lower()
    try:
        if suffix == ".parquet":
            return list(_parquet(data))
        text = data.decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as {suffix[1:]}: {error}. Next: check that file") from error
    if suffix in (".csv", ".tsv"):
        return list(_separated(text, "\t" if suffix == ".tsv" else ","))
    if suffix in (".jsonl", ".ndjson"):
        return [_json(line) for line in text.splitlines() if line.strip()]
    if suffix == ".conllu":
        return list(_sentences(text.replace("\r", "")))
    raise SourceError(f"{path} is none of {', '.join(TABLES)}. Next: give a table of one of these")


def _separated(text: str, delimiter: str) -> Iterator[TableRow | ValueError]:
    import csv
    import io

    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = next(lines, [])
    for line in lines:
        if len(line) == len(names):
            yield dict(zip(names, line, strict=True))
        elif line:
            yield ValueError(f"expected {len(names)} fields, got {len(line)}")


def _json(line: str) -> TableRow | ValueError:
    try:
        row = json.loads(line)
    except ValueError as error:
        return ValueError(f"the line is no JSON: {error}")
    return row if isinstance(row, dict) else ValueError(f"expected a JSON object, got {line[:40]}")


def _parquet(data: bytes) -> Iterator[TableRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    yield from pq.read_table(pa.BufferReader(data)).to_pylist()


def _sentences(text: str) -> Iterator[TableRow | ValueError]:
    document = ""
    for block in filter(str.strip, text.split("\n\n")):
        row = _sentence(block)
        if isinstance(row, dict):  # only a document's first sentence names it
            document = row["document"] = row["document"] or document
        yield row


def _sentence(block: str) -> TableRow | ValueError:
    """One sentence; ranges of tokens (`3-4`) and empty nodes (`5.1`) are left out."""
    notes: dict[str, str] = {}
    words: list[list[str]] = []
    for line in block.splitlines():
        if line.startswith("#"):
            name, _, value = line[1:].partition("=")
            notes[name.strip()] = value.strip()
        else:
            words.append(line.split("\t"))
    if any(len(word) != 10 for word in words):
        return ValueError("a line of the sentence has not the ten fields of CoNLL-U")
    words = [word for word in words if word[0].isdigit()]
    try:
        heads = [[int(word[6]), int(word[0])] for word in words if word[6] != "_"]
    except ValueError:
        return ValueError("a head of the sentence is no number")
    lists = {name: [word[i] for word in words] for name, i in _FIELDS.items()}
    name = notes.get("sent_id", "")
    tokens = " ".join(form.replace(" ", "\u00a0") for form in lists["form"])
    return {
        "id": name,
        "document": notes.get("newdoc id", ""),
        "genre": name.partition("-")[0],
        "text": notes.get("text", tokens),
        "tokens": tokens,
        "heads": heads,
        **lists,
    }


_FIELDS = {"form": 1, "lemma": 2, "upos": 3, "xpos": 4, "deprel": 7}
