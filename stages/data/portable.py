"""What the values of a column are in a collection of files: a file with an ending, or a plain value of JSON."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import PluginError
from hyperloom.stages.data.dataset_export import DatasetForm, dataset_form
from hyperloom.stages.data.reader import values

ENDINGS = {"Image": "png;jpg;webp", "Audio": "wav;flac", "Video": "mkv", "Array": "npy"}
"""What the files of a column may end in, by what `datasets` calls its type."""
PACE = 25
"""Frames a second of a film that is made of a clip."""


class FileCell(bytes):
    """The content of a file, with its `ending`."""

    ending: str

    def __new__(cls, data: bytes, ending: str) -> FileCell:
        cell = super().__new__(cls, data)
        cell.ending = ending
        return cell


class PortableField:
    """The field that a column becomes. `cells` gives a `FileCell`, a plain value or None for each row."""

    def __init__(self, name: str, kind: Any, films: bool):
        import pyarrow as pa

        form = portable(kind, films)
        assert form is not None
        self.name, self.kind, self._form = name, kind, form
        _, feature = form(pa.nulls(0, kind.field("a@b").type), kind)
        self.feature: dict[str, Any] = {"_type": "List", "feature": {}} if isinstance(feature, list) else feature

    def cells(self, array: Any) -> list[Any]:
        names = self.feature.get("names") or self.feature.get("feature", {}).get("names")
        return [_named(cell, names) for cell in self._form(array, self.kind)[0]]

    @property
    def is_file(self) -> bool:
        return self.feature["_type"] in ENDINGS

    @property
    def ending(self) -> str:
        """What its files end in where each value is one; several where pictures or sounds are kept as they came."""
        if self.is_file:
            return ENDINGS[self.feature["_type"]]
        return "txt" if self.feature["_type"] == "ClassLabel" or self.feature.get("dtype") == "string" else "json"


def portable(kind: Any, films: bool) -> DatasetForm | None:
    """What makes the cells of a column; None where there is no form for it. Clips are films, or arrays."""
    if hasattr(kind, "frames"):
        return _films if films else _arrays
    plain = kind.dtype.kind in "fiu" and len(kind.shape) > 1 and kind.markup == "" and kind.codec != "native"
    return dataset_form(kind) or (_arrays if plain else None)


def _named(cell: Any, names: Any) -> Any:
    if isinstance(cell, dict) and set(cell) == {"bytes", "path"}:
        return FileCell(cell["bytes"], cell["path"].rpartition(".")[2])
    if names is None or cell is None:
        return cell
    return [names[i] for i in cell] if isinstance(cell, list) else names[cell]


def _arrays(array: Any, kind: Any) -> tuple[list[Any], dict[str, Any]]:
    cells: list[Any] = []
    for value in values(array, kind):
        sink = io.BytesIO()
        if value is not None:
            np.save(sink, np.asarray(value))
        cells.append(None if value is None else {"bytes": sink.getvalue(), "path": "0.npy"})
    return cells, {"_type": "Array"}


def _films(array: Any, kind: Any) -> tuple[list[Any], dict[str, Any]]:
    cells = [None if v is None else {"bytes": _film(v), "path": "0.mkv"} for v in values(array, kind)]
    return cells, {"_type": "Video"}


def _film(frames: np.ndarray) -> bytes:
    """A film (FFV1, which loses nothing) of (N, H, W, 3) uint8 RGB."""
    try:
        import av
    except ImportError as error:
        raise PluginError("films are written by PyAV. Next: pip install 'hyperloom[video]'") from error
    sink = io.BytesIO()
    with av.open(sink, "w", format="matroska", options={"fflags": "+bitexact"}) as out:
        stream: Any = out.add_stream("ffv1", rate=PACE, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(stream.encode())
    return sink.getvalue()
