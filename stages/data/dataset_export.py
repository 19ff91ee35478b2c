"""Export as a data set of Hugging Face: Parquet that their `datasets` opens with pictures, sounds and names of classes.

    DIR/{group}-{number:05d}.parquet

A field is called by its modality, or `modality_source` where a modality has several columns; `key` and `group` stand
beside. Pictures are the bytes that are stored, else PNG; maps of classes a PNG of ids (255: unknown); sounds the bytes
that are stored, else wav. Names of classes are in the file, so ids mean the same elsewhere (`ClassLabel`). What is read
back by `{type: table}` is equal to the pixel, the sample of sound and the class.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, KEY, UNKNOWN, modality_of
from hyperloom.stages.data.reader import SampleReader, modality, values
from hyperloom.stages.data.tool_export import stored_picture
from hyperloom.stages.ingest.source import path_safe
from hyperloom.stages.modality.boxes import CORNERS

Made = tuple[list[Any], Any]
"""The cells of a column, and what `datasets` calls their type."""
DatasetForm = Callable[[Any, Any], Made]
"""Given the array of a column and its modality."""


def export_dataset(reader: SampleReader, modalities: Mapping[str, Any], target: Storage) -> int:
    """Write everything that `reader` gives below `target`; returns the number of files. Raises RecipeError for columns
    that have no form there, StorageError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {c: modality(c, dict(modalities)) for c in reader.columns}
    if without := [c for c, kind in kinds.items() if dataset_form(kind) is None]:
        raise RecipeError(f"a dataset has no form for {', '.join(without)}. Next: --columns with the others")
    names = apart(field_names(reader.columns), (KEY, GROUP))
    count = 0
    for rows in reader:
        cells: dict[str, list[Any]] = {KEY: rows.keys, GROUP: rows.groups}
        types: dict[str, Any] = {name: {"dtype": "string", "_type": "Value"} for name in cells}
        for column, kind in kinds.items():
            form = dataset_form(kind)
            assert form is not None
            cells[names[column]], types[names[column]] = form(rows.columns[column], kind)
        noted = json.dumps({"info": {"features": types}}, ensure_ascii=False)
        table = pa.table({name: pa.array(listed, _arrow(types[name])) for name, listed in cells.items()})
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"huggingface": noted}), sink)
        target.write(f"{path_safe(rows.groups[0])}-{count:05d}.parquet", sink.getvalue())
        count += 1
    return count


def field_names(columns: Sequence[str]) -> dict[str, str]:
    """What the field of each column is called. Raises RecipeError where two would be called the same."""
    shared = Counter(modality_of(c) for c in columns)
    return apart({c: modality_of(c) if shared[modality_of(c)] == 1 else c.replace("@", "_") for c in columns})


def apart(names: dict[str, str], taken: Sequence[str] = ()) -> dict[str, str]:
    """The names of columns. Raises RecipeError where two are the same, or one is `taken`."""
    by_name: dict[str, str] = dict.fromkeys(taken, "the samples' own")
    for column, name in names.items():
        if (other := by_name.setdefault(name, column)) != column:
            raise RecipeError(f"{other} and {column} would both be called {name!r}. Next: --columns with one of them")
    return names


def dataset_form(kind: Any) -> DatasetForm | None:
    """What makes the cells of a column; None where there is no form for it."""
    if kind.rgb:
        return _pictures
    if kind.markup in _FORMS:
        return _FORMS[kind.markup]
    if hasattr(kind, "rate") and hasattr(kind, "compress"):
        return _sounds
    return _numbers if kind.plain_numbers or kind.measure == "embeddings" else None


def _pictures(array: Any, kind: Any) -> Made:
    cells = [stored_picture(array, i, kind) for i in range(len(array))]
    return [{"bytes": data, "path": f"{i}{end}"} if data else None for i, (data, end, _) in enumerate(cells)], {
        "_type": "Image"
    }


def _maps(array: Any, kind: Any) -> Made:
    import cv2

    files = [None if v is None else bytes(cv2.imencode(".png", np.asarray(v))[1]) for v in values(array, kind)]
    cells = [None if data is None else {"bytes": data, "path": f"{i}.png"} for i, data in enumerate(files)]
    return cells, {"_type": "Image"}


def _classes(array: Any, kind: Any) -> Made:
    ids = [None if v is None or int(v) < 0 else int(v) for v in values(array, kind)]
    return ids, {"names": list(kind.names), "_type": "ClassLabel"}


def _marks(array: Any, kind: Any) -> Made:
    """A sample of which some class is not known has no list: it would say no to it."""
    given = [None if v is None or (np.asarray(v) == UNKNOWN).any() else v for v in values(array, kind)]
    cells = [None if v is None else np.flatnonzero(v == 1).tolist() for v in given]
    return cells, {"feature": {"names": list(kind.classes), "_type": "ClassLabel"}, "_type": "Sequence"}


def _texts(array: Any, kind: Any) -> Made:
    return [None if v is None else kind.words(v) for v in values(array, kind)], {"dtype": "string", "_type": "Value"}


def _boxes(array: Any, kind: Any) -> Made:
    """In shares of the picture, the class by its name; a crowd says so."""
    cells = [
        None if v is None else [_box(row, kind) for row in v[~np.isnan(v).any(1)].tolist()] for v in values(array, kind)
    ]
    types = {**dict.fromkeys((*CORNERS, "score"), "float32"), "class": "string", "crowd": "bool"}
    return cells, [{name: {"dtype": dtype, "_type": "Value"} for name, dtype in types.items()}]


def _box(row: list[float], kind: Any) -> dict[str, Any]:
    *corners, label, score = row
    return dict(zip(CORNERS, corners, strict=True)) | {
        "class": kind.classes[int(label)],
        "score": score or 1.0,
        "crowd": not score,
    }


def _numbers(array: Any, kind: Any) -> Made:
    rows = [None if v is None else np.asarray(v, np.float32).tolist() for v in values(array, kind)]
    number = {"dtype": "float32", "_type": "Value"}
    if kind.shape == (1,):
        return [None if row is None else row[0] for row in rows], number
    return rows, {"feature": number, "_type": "Sequence"}


def _sounds(array: Any, kind: Any) -> Made:
    if kind.codec == "raw":
        wav = kind.model_copy(update={"format": "wav"})
        rows = [None if v is None else wav.compress(kind.to_stored(v).astype(np.int16)) for v in values(array, kind)]
    else:
        rows = [cell.as_py() for cell in array]
    ends = ["flac" if data and data.startswith(b"fLaC") else "wav" for data in rows]
    cells = [None if d is None else {"bytes": d, "path": f"{i}.{ends[i]}"} for i, d in enumerate(rows)]
    return cells, {"sampling_rate": kind.rate, "_type": "Audio"}


_FORMS: dict[str, DatasetForm] = {"map": _maps, "choice": _classes, "marks": _marks, "text": _texts, "boxes": _boxes}


def _arrow(feature: Any) -> Any:
    import pyarrow as pa

    if isinstance(feature, list):
        return pa.list_(pa.struct([(name, _arrow(of)) for name, of in feature[0].items()]))
    kind = feature["_type"]
    if kind in ("Image", "Audio"):
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if kind == "ClassLabel":
        return pa.int64()
    return pa.list_(_arrow(feature["feature"])) if kind == "Sequence" else pa.type_for_alias(feature["dtype"])
