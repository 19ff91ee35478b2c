"""What every expert that is a trained network shares: one image column in, one decoder for each column out.

A subclass names a file format by implementing `session`; the rest is the recipe's: how frames are prepared
(`preprocess`), and how each output tensor becomes a modality (`decode`). The weights' content is the identity, their
path is placement. Networks run on one thread for each CPU they ask for: labelling scales by processes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.preprocess import Preprocess, TileGrid
from hyperloom.stages.modality import Size


class Session(Protocol):
    """A loaded network. `size` and `batch` are None where the network takes any; `layout` is that of its tensors."""

    layout: str
    dtype: np.dtype[Any]
    batch: int | None
    size: Size | None

    def __call__(self, images: np.ndarray, tensors: Sequence[str | int]) -> list[np.ndarray]:
        """The named output tensors, batch first, of `images` (n, 3, h, w) or (n, h, w, 3)."""


class Network(Expert):
    """Base of the experts `onnx`, `litert` and `torch`."""

    path: str = placement()
    """The weights: a path or an fsspec URL that every node can open."""
    preprocess: Preprocess = Preprocess()
    decode: tuple[Annotated[Any, of("decoder")], ...] = Field(min_length=1)
    """One decoder, or a list with one for each column of `out`."""

    @field_validator("decode", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _shapes(self) -> Network:
        if len(self.in_) != 1:
            raise ValueError(f"in: a network reads one image column, got {list(self.in_)}")
        if len(self.decode) != len(self.out):
            raise ValueError(
                f"decode: give one decoder for each of the {len(self.out)} columns, got {len(self.decode)}"
            )
        maps = [d.type for d in self.decode if not d.spatial]
        if maps and self.preprocess.tile:
            raise ValueError(f"preprocess.tile: {maps[0]} gives boxes, which cannot be put together from tiles")
        return self

    def weights(self) -> tuple[str, ...]:
        return (self.path,)

    def session(self) -> Session:
        """Load the weights. Raises SourceError when they cannot be read, PluginError when a library is missing."""
        raise TypeError(f"the expert {self.type!r} has no session()")

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        targets = [modalities[modality_of(column)] for column in self.out]
        for decoder, target, column in zip(self.decode, targets, self.out):
            try:
                decoder.ready(target, column)
            except ValueError as error:
                raise RecipeError(f"the expert {self.type} ({self.path}): {error}") from error
        library("cv2", "vision")  # resizes frames; loaded now, so that the worker can limit its threads
        session = self.session()
        frame = modalities[modality_of(self.in_[0])].shape[:2]
        grid = self.preprocess.grid(frame, session.size)
        if session.size and grid.tile != session.size:
            raise RecipeError(
                f"{self.path} wants frames of {list(session.size)} (height, width), but the recipe's preprocess gives "
                f"{list(grid.tile)}. Next: leave preprocess.size out, or set preprocess.tile to {list(session.size)}"
            )
        return lambda batch: self._label(session, grid, targets, batch)

    def _label(self, session: Session, grid: TileGrid, targets: Sequence[Any], batch: Batch) -> Batch:
        frames = batch[self.in_[0]]
        layout = self.preprocess.layout or session.layout
        inputs = [t for f in frames for t in self.preprocess.tiles(f, grid, layout, session.dtype)]
        maps: list[list[np.ndarray]] = [[] for _ in self.decode]
        step = session.batch or max(1, len(inputs))
        for start in range(0, len(inputs), step):
            chunk = inputs[start : start + step]
            padded = chunk + [chunk[-1]] * ((session.batch or len(chunk)) - len(chunk))
            raw = session(np.stack(padded), [d.tensor for d in self.decode])
            for decoder, tensor, tiles in zip(self.decode, raw, maps):
                tiles.extend(decoder.tile(tensor[i], layout, grid.tile) for i in range(len(chunk)))
        outputs: Batch = {}
        for column, decoder, target, tiles in zip(self.out, self.decode, targets, maps):
            wholes = [grid.stitch(tiles[i : i + len(grid)]) for i in range(0, len(tiles), len(grid))]
            outputs[column] = np.stack([decoder.finish(whole, target) for whole in wholes])
        return outputs


def library(name: str, extra: str) -> Any:
    """The module `name`. Raises PluginError that names the extra to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PluginError(f"this expert needs {name} ({error}). Next: pip install 'hyperloom[{extra}]'") from error


def read_weights(path: str) -> bytes:
    """The content of a local file or an fsspec URL. Raises SourceError."""
    try:
        if "://" not in path:
            with open(os.path.expanduser(path), "rb") as file:
                return file.read()
        fsspec = library("fsspec", "s3")
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        advice = "check the path in the recipe; every node must be able to read it"
        raise SourceError(f"cannot read the weights {path}: {error}. Next: {advice}") from error
