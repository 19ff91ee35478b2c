"""Rows: what tables of several formats hold, one mapping a row.

CSV, TSV and lists in text (the first line names the fields; `Dialect` says how they are written), JSON (a line or a
list of objects), Parquet, and CoNLL-U, whose sentences become rows with the fields id, document, genre (the id up to
the first `-`), text, tokens (forms with spaces between), form, lemma, upos, xpos, deprel (lists, one a token) and heads
(pairs: number of the head, number of the token; 0 is the root).
A row that cannot be understood is the ValueError that says why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages import column
from hyperloom.stages.ingest.rowstore import ColumnRows, LineRows, PlainRows, TableRow, TableRows, text_rows

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".conllu")
NAMED = (".json", ".txt", ".lst")
"""Endings of tables and of much else."""
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": " ", ".lst": " "}


class Dialect(NamedTuple):
    """How a table of text is written: its encoding, what separates the fields of CSV ("": by the file's suffix), and
    the names of the fields where the first line is a row (none: it has them)."""

    encoding: str = "utf-8"
    separator: str = ""
    fields: tuple[str, ...] = ()


PLAIN = Dialect()


def rows(data: bytes, path: str, dialect: Dialect = PLAIN) -> list[TableRow | ValueError]:
    """All rows of a table as objects. Raises SourceError for one that cannot be read at all, with the field to set."""
    return list(stored(data, path, dialect).each())


def stored(data: bytes, path: str, dialect: Dialect = PLAIN) -> TableRows:
    """All rows of a table, kept small. Raises SourceError for one that cannot be read at all, with the field to set."""
    suffix = path[path.rfind(".") :].lower()
    if not data:
        raise SourceError(f"{path} is empty (0 bytes). Next: check that file")
    try:
        if suffix == ".parquet":
            return _parquet(data)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as {suffix[1:]}: {error}. Next: check that file") from error
    text = _decoded(data, path, dialect.encoding)
    if suffix in SEPARATORS:
        return _separated(text, path, dialect.separator or SEPARATORS[suffix], dialect.fields)
    if suffix == ".json" and text.lstrip().startswith("["):
        return PlainRows(_array(text, path))
    if suffix == ".json" or suffix in (".jsonl", ".ndjson"):
        if text.lstrip().startswith("["):
            raise SourceError(f"{path} holds a JSON array, not an object a line. Next: write one a line")
        return LineRows([line for line in text.split("\n") if line.strip()], _json)  # splitlines would at U+2028 too
    if suffix == ".conllu":
        return PlainRows(list(_sentences(text.replace("\r", ""))))
    raise SourceError(f"{path} is none of {', '.join((*TABLES, *NAMED))}. Next: give a table of one of these")


def _decoded(data: bytes, path: str, encoding: str) -> str:
    """The text of a table, without a byte order mark."""
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise SourceError(f"{encoding!r} is no encoding. Next: correct it, as in encoding: cp1252") from error
    except UnicodeError as error:
        likely = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:100] else "cp1252"
        shown = f"is {likely.upper()}" if likely == "utf-16" else f"is no {encoding}; Windows writes {likely}"
        raise SourceError(f"{path} {shown} ({error}). Next: encoding: {likely} on the source") from error


def _array(text: str, path: str) -> list[TableRow | ValueError]:
    """A list of objects."""
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        raise SourceError(f"{path} is no JSON: {error}. Next: check that file") from error
    shown = ((row, json.dumps(row)[:40]) for row in content)
    return [row if isinstance(row, dict) else ValueError(f"expected a JSON object, got {text}") for row, text in shown]


def _separated(text: str, path: str, separator: str, fields: tuple[str, ...]) -> TableRows:
    import csv
    import io

    csv.field_size_limit(sys.maxsize)
    if text.lower().startswith("sep=") and text[5:6] in ("\r", "\n"):  # a spreadsheet's own word for it
        separator, text = text[4], text[5:].lstrip("\r\n")
    plain = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")  # a StringIO takes four times as much
    lines = csv.reader(plain, delimiter=separator, strict=True)
    header = list(fields) or _line(lines, path) or []
    if isinstance(header, ValueError):
        raise SourceError(f"{path}: {header}")
    names = [name.strip() for name in header]
    others = [s for s in ";\t|," if s != separator and len(names) == 1 and s in names[0]]
    if others:
        shown = json.dumps(others[0])
        raise SourceError(f"{path} looks separated by {shown}. Next: separator: {shown} on the source")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise SourceError(f"{path} has two fields called {twice[0]!r}. Next: rename one")
    read = _lines(lines, path, names, separator, "as `fields` names them" if fields else "as the first line has")
    return text_rows(names, read) if any(names) else PlainRows([r if isinstance(r, ValueError) else {} for r in read])


def _lines(lines: Any, path: str, names: list[str], separator: str, whose: str) -> Iterator[list[str] | ValueError]:
    """A cell for each of `names`, or why a line is no row. Empty lines are none."""
    first = separator.join(names)
    shown = first if len(first) <= 40 else f"{first[:37]}..."
    while (line := _line(lines, path)) is not None:
        if isinstance(line, ValueError) or len(line) == len(names):
            yield line
        elif line:
            yield ValueError(f"expected {len(names)} fields {whose} ({shown}), got {len(line)}")


def _line(lines: Any, path: str) -> list[str] | ValueError | None:
    """The next line of CSV, or why it is none; None behind the last. Raises SourceError for a quote that is never
    closed, which swallows all that follows it."""
    import csv

    begins = lines.line_num + 1
    try:
        return next(lines, None)
    except csv.Error as error:
        if "unexpected end" in str(error):
            what = f'a quote (") that opens in the row of line {begins} is never closed'
            raise SourceError(f'{path}: {what}. Next: close it, or write "" for one that is text') from error
        return ValueError(
            f'line {begins}: behind a closing quote (") comes text ({error}); write "" for one that is text'
        )


def _json(line: str) -> TableRow | ValueError:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except ValueError as error:
        return ValueError(f"the line is no JSON: {error}")
    return row if isinstance(row, dict) else ValueError(f"expected a JSON object, got {line[:40]}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError where a key comes twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} comes twice")
    return row


def described(data: bytes) -> dict[str, dict[str, Any]]:
    """By field of a Parquet file, what Hyperloom noted of the column that it wrote there; of others nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = pq.read_schema(pa.BufferReader(data))
    return {field.name: about for field in fields if (about := column.described(field))}


def features(data: bytes) -> dict[str, Any]:
    """By field of a Parquet file its type, where Hugging Face's `datasets` wrote it: {"_type": "ClassLabel", "names":
    [..]} and the like. Nothing of others, and where what they wrote is no JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    noted = (pq.read_schema(pa.BufferReader(data)).metadata or {}).get(b"huggingface", b"{}")
    try:
        known = json.loads(noted)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return known if isinstance(known, dict) else {}


def _parquet(data: bytes) -> TableRows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return ColumnRows(pq.read_table(pa.BufferReader(data)))


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
