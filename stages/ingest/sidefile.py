"""Side files: columns that lie in files of their own beside the main ones: label maps, depth, telemetry.

`path` is a template: `{stem}` is the main file's name without folder and suffix, `{key}` the relative name without
suffix, `{group}` its group and `{frame}` the frame's number in a video (`{frame:06d}` works). Formats: images (label
ids, 16-bit depth), `.npy`, `.npz`, and `.csv` with one row per sample, whose first field is the stem or the key (also
with a suffix), or the frame's number in a video. A file or row that is not there means the sample has no such value: a
null, never a stand-in.
"""

from __future__ import annotations

import glob
import os
import string
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from hyperloom.pipeline.config import Config, placement
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.root import filelist
from hyperloom.stages.ingest.frame import Frame, aligned, matches
from hyperloom.stages.ingest.rawarray import channelled, class_ids
from hyperloom.stages.ingest.rows import Dialect, rows
from hyperloom.stages.modality import box_files
from hyperloom.stages.modality.choice import real
from hyperloom.stages.modality.formats import decode_array
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.root.digests import Digests

NUMBERS = ("dense", "segmentation", "soft", "vector", "scalar", "embedding")
"""Types whose side files are raw numbers; the others read their files themselves."""
MEDIA = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".wav", ".flac", ".ogg", ".mp3", ".aiff", ".npy")
"""Endings of files that a row may be called by."""
SHIFT = 4096.0
"""An offset beyond it, as from seconds since 1970 or metres of a grid, is added before numbers are made float32; that
of degrees (273.15) costs no digit that counts."""
WORDS = ("category", "ordinal", "text")
"""Types whose cell of a .csv is a name, an id or a text."""


@lru_cache
def _normal(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(filelist.normal, names))


class SideFile(Config):
    """Where a column's files are and how their raw numbers become values.

    Class ids go through `remap` and `void` (ids that mean unknown); other numbers become `raw * scale + offset`.
    `only` restricts the column to the samples named there (by stem or key), as when a few human labels may be used
    for training.
    """

    path: str = placement()
    only: tuple[str, ...] = ()
    remap: dict[int, int] = Field(default_factory=dict)
    void: tuple[int, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    array: str = ""
    """The name of the array in an .npz; may be left out when there is only one."""
    fields: tuple[str, ...] = ()
    """The fields of a .csv that make the vector; all but the first by default."""
    separator: str = Field("", max_length=1)
    """What separates the fields of a .csv; by default a comma."""
    encoding: str = "utf-8"
    channels: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Which channels are taken of a file that has others too, such as flow with a mask: [0, 1]."""

    def place(self, names: dict[str, Any]) -> str:
        """The file of one sample. Raises SourceError for a placeholder that does not exist."""
        try:
            return filelist.form_that_exists(filelist.local(self.path.format(**names)), _exists)
        except (KeyError, IndexError, ValueError) as error:
            raise SourceError(f"{self.path!r} cannot be filled in ({error}); it may use {sorted(names)}") from error

    def shows(self, names: dict[str, Any]) -> bool:
        """May this sample have the column?"""
        return not self.only or bool({names["stem"], names["key"]} & _normal(self.only))

    def find(self, names: dict[str, Any], digests: Digests) -> dict[str, str]:
        """{path: sha256} of this column's files for one main file. Without `frame` in `names`, those of all frames."""
        if "frame" in names or not self._per_frame():
            path = self.place(names)
            return {path: digests.file(path).sha256} if _exists(path) else {}
        escaped = {k: glob.escape(str(v)) for k, v in names.items()}
        pattern = "".join(
            text + ("" if name is None else "*" if name == "frame" else escaped.get(name, ""))
            for text, name, _, _ in string.Formatter().parse(self.path)
        )
        try:
            return {f.path: f.sha256 for f in digests.files(pattern)}
        except SourceError:
            return {}

    def load(
        self, path: str, names: tuple[str, ...], modality: Any, frame: Frame | None = None, column: str = ""
    ) -> np.ndarray | None:
        """The value for the sample called any of `names`, whose picture is `frame`; None when a table has no row of it.

        Raises ValueError for what cannot be understood, OSError for what cannot be read.
        """
        if modality.type not in NUMBERS and not path.endswith(".csv"):
            data = fetch(path)
            sides = box_files.sides(data, path) if frame is not None and modality.markup == "boxes" else None
            if frame is not None and sides is not None:
                aligned(sides, frame, path, column)
            return understood(modality.read, data, path)
        if modality.type in WORDS and path.endswith(".csv"):
            cells: tuple[str, ...] = self._row(path, names) or ("",)
            if len(cells) > 1:
                raise ValueError(f"{os.path.basename(path)} has several fields. Next: fields: [the one of {column}]")
            return None if cells[0] == "" else understood(lambda cell: modality.fit(modality.cell(cell)), cells[0])
        raw = self._raw(path, names, modality)
        return None if raw is None else self.value(raw, path, modality, frame, column)

    def value(
        self, raw: np.ndarray, path: str, modality: Any, frame: Frame | None = None, column: str = ""
    ) -> np.ndarray:
        """The stored numbers of the file at `path` as a value of `modality`. Raises ValueError."""
        import numpy as np

        if np.dtype(modality.dtype) == np.uint8 and len(modality.shape) == 2:
            value = class_ids(raw, self.remap, self.void, path)
        elif len(modality.shape) == 3:
            value = channelled(raw, modality.shape[-1], self.channels, path)
        else:
            value = raw
        if len(modality.shape) > 1:
            matches(value, frame, path, column)
        if value.dtype.kind == "u" and modality.unit_vectors and (self.scale, self.offset) == (1.0, 0.0):
            most = np.iinfo(value.dtype).max
            raise ValueError(
                f"{os.path.basename(path)} holds directions as 0 to {most}. Next: scale: {2 / most:.6g} with "
                f"offset: -1 (0 and {most} are -1 and 1), as the file has them"
            )
        if value.dtype != np.uint8 or len(modality.shape) != 2:
            value = self._scaled(value)
        if not value.size:
            raise ValueError(f"{os.path.basename(path)} holds an array of no number, {value.shape}")
        return understood(modality.fit, np.ascontiguousarray(value))

    @property
    def shifted(self) -> bool:
        """Does an offset take away most of a number, so that float32 would keep none of what is left?"""
        return abs(self.offset) > SHIFT

    def _scaled(self, value: np.ndarray) -> np.ndarray:
        import numpy as np

        if self.shifted:
            return (value.astype(np.float64) * self.scale + self.offset).astype(np.float32)
        return value.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)

    def _raw(self, path: str, names: tuple[str, ...], modality: Any) -> np.ndarray | None:
        import numpy as np

        if path.endswith(".csv"):
            row = self._row(path, names) or ("",)
            try:
                return None if "" in row else np.array([real(x) for x in row])
            except ValueError as error:
                comma = "; numbers are written with a point" if any("," in x for x in row) else ""
                raise ValueError(f"{os.path.basename(path)}: {error}{comma}") from error
        data = fetch(path)
        if path.endswith((".npy", ".npz")):
            return decode_array(data, self.array, path)
        if path.endswith((".json", ".txt")) and modality.plain_numbers and not self.shifted:
            return np.asarray(modality.read(data, path))
        return modality.numbers(data, path)

    def _row(self, path: str, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """The cells of a .csv for the sample called any of `names`."""
        table, broken = _table(path, self.fields, Dialect(self.encoding, self.separator))
        if broken:
            remark(f"rows of {os.path.basename(path)} cannot be read and are left out ({broken})")
        row = next((table[n] for n in names if n in table), None)
        if row is None and table:
            shown = ", ".join(list(table)[:3])
            remark(f"has no row in {os.path.basename(path)}, whose rows are called {shown}, .. (by stem or key)")
        return row

    def _per_frame(self) -> bool:
        return any(name == "frame" for _, name, _, _ in string.Formatter().parse(self.path))


def _written(value: Any) -> Any:
    """A column's path alone is short for a mapping with `path`."""
    if not isinstance(value, dict):
        return value
    return {k: {"path": v} if isinstance(v, str) else v for k, v in value.items()}


SideFiles = Annotated[dict[str, SideFile], BeforeValidator(_written)]
"""Column -> its side files, as a recipe writes them."""


def understood(read: Callable[..., Any], *given: Any) -> Any:
    """What `read` makes of a person's value. Raises ValueError for whatever it says of one of another form."""
    try:
        return read(*given)
    except (TypeError, OverflowError, LookupError, AttributeError) as error:
        raise ValueError(f"it has another form than this column's values ({type(error).__name__}: {error})") from error


def fetch(path: str) -> bytes:
    """All bytes of a local file or an fsspec URL. Raises OSError."""
    if "://" in path:
        import fsspec

        with fsspec.open(path, "rb") as file:
            return file.read()
    with open(path, "rb") as file:
        return file.read()


def forget() -> None:
    """Read tables anew: a process such as a notebook's may outlive the run for which they were read."""
    _table.cache_clear()


@lru_cache(maxsize=8)
def _table(path: str, fields: tuple[str, ...], dialect: Dialect) -> tuple[dict[str, tuple[str, ...]], str]:
    """The chosen cells of each row by its first cell, and what is wrong with the first row that cannot be read."""
    name = os.path.basename(path)
    try:
        content = rows(fetch(path), path, dialect)
    except SourceError as error:
        raise ValueError(str(error).replace(" on the source", " beside its path")) from error
    broken = next((f"row {n}: {row}" for n, row in enumerate(content, 1) if isinstance(row, ValueError)), "")
    good = [row for row in content if not isinstance(row, ValueError)]
    if not good:
        return {}, broken
    first, *rest = good[0]
    chosen = fields or tuple(rest)
    missing = sorted(set(chosen) - set(good[0]))
    if missing:
        raise ValueError(f"{name} has no field {missing}; it has {list(good[0])}")
    table: dict[str, tuple[str, ...]] = {}
    for row in good:
        cells = tuple(row[f].strip() for f in chosen)
        called = filelist.normal(row[first].strip())
        called = os.path.splitext(called)[0] if called.lower().endswith(MEDIA) else called
        if table.setdefault(called, cells) != cells:
            raise ValueError(f"{name} has two rows called {called!r}, with other values. Next: leave one out")
    return table, broken


def _exists(path: str) -> bool:
    if "://" not in path:
        return os.path.isfile(path)
    import fsspec

    fs, inner = fsspec.core.url_to_fs(path)
    return fs.isfile(inner)
