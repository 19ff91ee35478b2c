"""What every expert that is a trained network shares: one image column in, one decoder for each column out.

A subclass names a file format by implementing `session`; the rest is the recipe's: how frames are prepared
(`preprocess`), and how each output tensor becomes a modality (`decode`). The weights' content is the identity, their
path is placement. A local file is looked at when the recipe is planned (`examine`). Networks run on one thread for each
CPU they ask for: labelling scales by processes.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import HyperloomError, PluginError, RecipeError, SourceError
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.decode.activation import ScoreKind
from hyperloom.stages.label.decode.decoders import Decoder, of_tile, shared_out, tensors_of
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.hub.download import DIGEST, cached, downloaded, remote
from hyperloom.stages.label.runtimes import trial
from hyperloom.stages.label.runtimes.preprocess import Preprocess, TileGrid
from hyperloom.stages.label.steps import Steps
from hyperloom.stages.modality import Size

if TYPE_CHECKING:
    from hyperloom.pipeline.planning.check import StepCheck
    from hyperloom.pipeline.recipes.recipe import Where
    from hyperloom.pipeline.root.digests import Digests


class Session(Protocol):
    """A loaded network. `size` and `batch` are None where the network takes any; `layout` is that of its tensors."""

    layout: str
    dtype: np.dtype[Any]
    batch: int | None
    size: Size | None
    channels: int | None

    def ending(self, tensor: str | int) -> ScoreKind | None:
        """What the last operation before this output makes, where the file shows it."""

    def __call__(self, images: np.ndarray, tensors: Sequence[str | int]) -> list[np.ndarray]:
        """The named output tensors, batch first, of `images` (n, C, h, w) or (n, h, w, C)."""


class Network(Expert):
    """Base of the experts `onnx`, `litert` and `torch`."""

    path: str = placement()
    """The weights: a path or an fsspec URL that every node can open."""
    sha256: str = placement("", pattern=DIGEST)
    """The digest of the weights. With it a URL is fetched once by each node that needs it (`hub.download`), and another
    file is refused."""
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

    def heft(self, storage: Storage) -> int:
        files = [str(cached(p, self.sha256) or p) if self.sha256 and remote(p) else p for p in self.weights()]
        return sum(os.path.getsize(f) for f in map(os.path.expanduser, files) if os.path.isfile(f))

    def content(self, digests: Digests) -> list[str]:
        if self.sha256 and remote(self.path):
            return [self.sha256]
        content = super().content(digests)
        if self.sha256 and content[0] != self.sha256:
            raise SourceError(
                f"{self.path} is not what the recipe says it is: its sha256 is {content[0]}, wanted {self.sha256}. "
                "Next: correct `sha256:`, or bring the file anew"
            )
        return content

    def checked(self, step: StepCheck, where: Where) -> Self:
        step.later(lambda listed: self._look(step, where) if step.name not in listed.manifests else None)
        return self

    def _look(self, step: StepCheck, where: Where) -> None:
        """Note what is wrong with a local file, before anything runs; what nobody here can tell is the worker's."""
        path, source = os.path.expanduser(self.path), step.modalities.get(modality_of(self.in_[0]))
        if self.sha256 and remote(path):
            path = str(cached(path, self.sha256) or path)
        if not os.path.isfile(path):
            return
        try:
            self.examine(path, source if source is not None and source.shape else None)
        except PluginError as error:
            if "pip install 'hyperloom" not in str(error):  # the library may be on the workers alone
                step.mistake((*where, "path"), str(error))
        except HyperloomError as error:
            step.mistake((*where, "path"), str(error))

    def examine(self, path: str, source: Any | None) -> None:
        """Raise HyperloomError for what can be told of a local file without loading it; `source` is the modality of
        the frames, where it is known."""

    def session(self) -> Session:
        """Load the weights. Raises SourceError when they cannot be read, PluginError when a library is missing."""
        raise TypeError(f"the expert {self.type!r} has no session()")

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        if self.sha256 and remote(self.path):
            local = {"path": str(downloaded(self.path, self.sha256)), "sha256": ""}
            return self.model_copy(update=local).build(modalities, storage)
        targets = [modalities[modality_of(column)] for column in self.out]
        meant = tuple(d.meant(t, c) for d, t, c in zip(self.decode, targets, self.out))
        if meant != self.decode:
            return self.model_copy(update={"decode": meant}).build(modalities, storage)
        for decoder, target, column in zip(self.decode, targets, self.out):
            try:
                decoder.ready(target, column)
            except ValueError as error:
                raise RecipeError(f"the expert {self.type} ({self.path}): {error}") from error
        library("cv2", "vision")  # resizes frames; loaded now, so that the worker can limit its threads
        session, source = self.session(), modalities[modality_of(self.in_[0])]
        if any(d.whole for d in self.decode):
            session = OneByOne(session, self.decode)
        grid = self.grid(session.size, source)
        self.check_input(session.dtype, session.channels, source)
        decoders, notes = trial.settled(self, session, grid, source, targets)
        steps = self.model_copy(update={"decode": decoders}).steps(session, grid, targets)
        steps.notes = notes
        return steps

    def grid(self, size: Size | None, source: Any) -> TileGrid:
        """How frames are cut for a network that takes `size`, None for any. Raises RecipeError where it is another."""
        grid = self.preprocess.grid(source.shape[:2], size)
        if size and grid.tile != size:
            raise RecipeError(
                f"{self.path} wants frames of {list(size)} (height, width), but the recipe's preprocess gives "
                f"{list(grid.tile)}. Next: leave preprocess.size out, or set preprocess.tile to {list(size)}"
            )
        return grid

    def check_input(self, dtype: np.dtype[Any], channels: int | None, source: Any) -> None:
        """Raise RecipeError for pixels that the network cannot take, or arithmetic that it could not see."""
        own = source.shape[2] if len(source.shape) > 2 else 1
        seen = self.preprocess.seen(own)
        if channels not in (None, seen) and not (channels == 1 and own == 3):
            raise RecipeError(
                f"{self.path} wants {channels} channels, and {self.in_[0]} has {own} (preprocess.layout and "
                f"preprocess.channels say how they are given). Next: a column of {channels} channels as `in`"
            )
        if dtype.kind != "f" and (field := self.preprocess.arithmetic):
            raise RecipeError(
                f"{self.path} takes {dtype} pixels as they are, so that preprocess.{field} would do nothing. "
                f"Next: leave {field} out"
            )

    def steps(self, session: Any, grid: TileGrid, targets: Sequence[Any]) -> Steps:
        """How batches go through the loaded network."""
        return OnHost(self, session, grid, targets)


class OneByOne:
    """A session that sees one frame at a time, and gives tensors without an axis for frames that axis."""

    def __init__(self, session: Session, decoders: Sequence[Decoder]):
        if session.batch not in (None, 1):
            raise RecipeError(f"the network takes {session.batch} frames at once, so that batched: false cannot be")
        self._session, self._whole = session, [d.whole for d in decoders for _ in d.tensors]
        self.layout, self.dtype, self.size, self.channels = (
            session.layout,
            session.dtype,
            session.size,
            session.channels,
        )
        self.batch: int | None = 1

    def ending(self, tensor: str | int) -> ScoreKind | None:
        return self._session.ending(tensor)

    def __call__(self, images: np.ndarray, tensors: Sequence[str | int]) -> list[np.ndarray]:
        outputs = self._session(images, tensors)
        return [one[None] if whole else one for one, whole in zip(outputs, self._whole, strict=True)]


class OnHost(Steps):
    """Frames and maps are NumPy's: prepared and decoded by threads while the network computes."""

    def __init__(self, expert: Network, session: Session, grid: TileGrid, targets: Sequence[Any]):
        self._expert, self._session, self._grid, self._targets = expert, session, grid, targets
        self._layout = expert.preprocess.layout or session.layout

    def prepare(self, batch: Batch) -> list[tuple[np.ndarray, int]]:
        """The network's inputs, call by call, with how many of them count."""
        session, shape = self._session, self._expert.preprocess
        frames = batch[self._expert.in_[0]]
        grey = session.channels == 1
        inputs = [t for f in frames for t in shape.tiles(f, self._grid, self._layout, session.dtype, grey)]
        step = session.batch or max(1, len(inputs))
        calls = []
        for start in range(0, len(inputs), step):
            chunk = inputs[start : start + step]
            padded = chunk + [chunk[-1]] * ((session.batch or len(chunk)) - len(chunk))
            calls.append((padded[0][None] if len(padded) == 1 else np.stack(padded), len(chunk)))
        return calls

    def compute(self, prepared: list[tuple[np.ndarray, int]]) -> list[tuple[list[np.ndarray], int]]:
        tensors = tensors_of(self._expert.decode)
        computed = []
        for images, count in prepared:
            outputs = self._session(images, tensors)
            trial.check_counts(self._expert.path, outputs, tensors, len(images))
            computed.append((outputs, count))
        return computed

    def finish(self, computed: list[tuple[list[np.ndarray], int]]) -> Batch:
        outputs: Batch = {}
        decoders = self._expert.decode
        calls = [(list(shared_out(decoders, raws)), count) for raws, count in computed]
        for n, (column, decoder, target) in enumerate(zip(self._expert.out, decoders, self._targets)):
            layout = decoder.layout or self._layout
            raws = [of_tile(outputs[n], i) for outputs, count in calls for i in range(count)]
            tiles = [decoder.tile(raw, layout, self._grid.tile) for raw in raws]
            each = len(self._grid)
            wholes = [self._grid.stitch(tiles[i : i + each]) for i in range(0, len(tiles), each)]
            values = [decoder.finish(whole, target) for whole in wholes]
            outputs[column] = values[0][None] if len(values) == 1 else np.stack(values)
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
