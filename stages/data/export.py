"""Export: a step's columns as files that other tools read.

    vre           DIR/{group}/{modality}_{source}/npz/{index}.npz
    dronescapes   DIR/{modality}_{source}/{group}_{index:06d}.npz
    png           DIR/{modality}_{source}/{key}.png                    pictures for people, under the names of the files
    parquet       DIR/{group}-{number:04d}.parquet                     keys and columns as they are stored
    huggingface   DIR/{group}-{number:05d}.parquet                     see `stages.data.dataset_export`
    webdataset, csv, jsonl, manifest       tars, or files and a list of them: see `stages.data.collection_export`
    coco, ..      what annotation tools read: see `stages.data.tool_export`

A missing value has no file. Each file appears whole or not at all, and a repeated export replaces it with the same.
Arrays keep the numbers of memory: uint8 images and class ids (255: unknown), float32 maps.
"""

from __future__ import annotations

import io
from typing import Any, Literal, get_args

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, INDEX, KEY, modality_of, source_of
from hyperloom.stages.data.collection_export import CollectionLayout, export_collection
from hyperloom.stages.data.dataset_export import apart, export_dataset
from hyperloom.stages.data.layer import PNG, encoded
from hyperloom.stages.data.reader import SampleReader, SampleRows, modality, values
from hyperloom.stages.data.tool_export import ToolLayout, export_to_tool
from hyperloom.stages.ingest.source import path_safe

ArrayLayout = Literal["vre", "dronescapes", "png", "parquet", "huggingface"]
ExportLayout = ArrayLayout | CollectionLayout | ToolLayout


def export(reader: SampleReader, modalities: dict[str, Any], target: Storage, layout: ExportLayout) -> int:
    """Write everything that `reader` gives below `target`; returns the number of files. Raises StorageError."""
    if layout in get_args(ToolLayout):
        return export_to_tool(reader, modalities, target, layout)  # type: ignore[arg-type]
    if layout in get_args(CollectionLayout):
        return export_collection(reader, modalities, target, layout)  # type: ignore[arg-type]
    if layout == "huggingface":
        return export_dataset(reader, modalities, target)
    if layout == "parquet":
        return sum(_parquet(rows, modalities, target, number) for number, rows in enumerate(reader))
    write = _picture if layout == "png" else _npz
    apart({c: _folder(c) for c in reader.columns})
    count = 0
    for rows in reader:
        for column, array in rows.columns.items():
            kind = modality(column, modalities)
            for i, value in enumerate(values(array, kind)):
                if value is not None:
                    name = _name(column, rows.keys[i], rows.groups[i], rows.index[i], layout)
                    target.write(name, write(value, kind))
                    count += 1
    return count


def _name(column: str, key: str, group: str, index: int, layout: ExportLayout) -> str:
    folder = _folder(column)
    if layout == "vre":
        return f"{path_safe(group)}/{folder}/npz/{index}.npz"
    if layout == "png":
        return f"{folder}/{'/'.join(map(path_safe, key.split('/')))}.png"
    return f"{folder}/{path_safe(group)}_{index:06d}.npz"


def _folder(column: str) -> str:
    return path_safe(f"{modality_of(column)}_{source_of(column)}")


def _npz(value: Any, kind: Any) -> bytes:
    import numpy as np

    sink = io.BytesIO()
    np.savez_compressed(sink, np.asarray(value))
    return sink.getvalue()


def _picture(value: Any, kind: Any) -> bytes:
    return encoded(kind.picture(value), PNG)


def _parquet(rows: SampleRows, modalities: dict[str, Any], target: Storage, number: int) -> int:
    import pyarrow as pa

    from hyperloom.stages.table import write_table

    arrays: dict[str, Any] = {KEY: pa.array(rows.keys), GROUP: pa.array(rows.groups), INDEX: pa.array(rows.index)}
    fields = [pa.field(name, array.type) for name, array in arrays.items()]
    for column, array in rows.columns.items():
        field = modality(column, modalities).field(column)
        arrays[column] = pa.nulls(len(rows), field.type) if pa.types.is_null(array.type) else array
        fields.append(field)
    target.write(f"{path_safe(rows.groups[0])}-{number:04d}.parquet", write_table(arrays, fields))
    return 1
