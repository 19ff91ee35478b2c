"""Folders of arrays as a source: one folder a representation, one `.npz` (or `.npy`, or image) a frame.

This is how Video Representations Extractor and Dronescapes keep what they computed:

    DIR/{representation}/npz/{frame}.npz            VRE, one directory a video
    DIR/{representation}/{scene}_{frame}.npz        Dronescapes, all scenes in one directory

A sample is every frame that any representation has; where one lacks it, its column is null. No representation leads,
so a frame is not lost because the file of one of them is. `*_extra.npz`, VRE's notes beside a frame, are left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.frame import Frame
from hyperloom.stages.ingest.sidefile import SideFiles, fetch
from hyperloom.stages.ingest.source import IMAGES, Item, Piece, Read, Source, Values, one_by_one, path_safe, stem
from hyperloom.stages.modality import imagefile
from hyperloom.stages.modality.formats import decode_array

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.root.digests import Digests, FileDigest

ARRAYS = (".npz", ".npy")
BELOW = ("npz", "npy", "png", "jpg", "")
"""Where a representation's frames lie below its folder; arrays win over pictures of them, the first of each counts."""
FRAME = r"^(?P<group>.*?)_?(?P<index>\d+)$"


class Arrays(Source):
    """`{type: arrays, path: scenes, columns: {rgb@camera: rgb, depth@marigold: depth_marigold}}`.

    `path` may be a pattern: `videos/*` takes a VRE directory for each video. `columns` maps a column to its folder
    below `path`, or to a side file's mapping with `path`, `remap`, `void`, `scale`, `offset`, `array`. `group` is a
    regular expression on a frame's name with `(?P<group>...)` and `(?P<index>\\d+)`; where the group is empty (VRE
    names frames by number alone) it is the directory's name.
    Integers become classes through `remap` and `void`; numbers (H, W, classes) become classes by the largest, or, for
    a soft modality, probabilities (through a softmax where they are logits). Raises SourceError.
    """

    revision: ClassVar[int] = 2
    path: str = placement()
    columns: SideFiles = Field(min_length=1)
    group: str = FRAME

    @field_validator("group")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            if not {"group", "index"} <= set(re.compile(value).groupindex):
                raise ValueError(r"group needs the parts (?P<group>...) and (?P<index>\d+)")
        except re.error as error:
            raise ValueError(f"group is no regular expression: {error}") from error
        return value

    def offers(self) -> tuple[str, ...]:
        for column in self.columns:
            modality_of(column)
        return tuple(self.columns)

    def pieces(self, digests: Digests) -> list[Piece]:
        files: dict[str, list[FileDigest]] = {}
        sides: dict[str, dict[str, dict[str, str]]] = {}
        for column, folder in self.columns.items():
            for file in self._files(folder.path, digests):
                group, index = self._frame(file.path, folder.path)
                files.setdefault(group, []).append(replace(file, name=f"{column}/{index}"))
                sides.setdefault(group, {}).setdefault(column, {})[file.path] = file.sha256
        return [Piece(group, group, tuple(files[group]), sides[group]) for group in sorted(files)]

    def items(self, piece: Piece) -> list[Item]:
        frames: dict[int, dict[str, str]] = {}
        for column, paths in piece.sides.items():
            for path in paths:
                index = self._frame(path, self.columns[column].path)[1]
                other = frames.setdefault(index, {}).setdefault(column, path)
                if other != path:
                    raise SourceError(f"{other} and {path} are both frame {index}. Next: remove one, or mend group")
        return [
            Item(f"{piece.group}/{index:06d}", index, next(iter(sides.values())), 0, sides, self._digest(piece, sides))
            for index, sides in sorted(frames.items())
        ]

    def build(self, modalities: dict[str, Any]) -> Read:
        def values(item: Item) -> Values:
            frame = self._picture(item, modalities)
            return {c: self._value(c, item, modalities[modality_of(c)], frame) for c in self.columns}

        return one_by_one(values)

    def meaning(self, column: str) -> dict[str, Any]:
        """The folder's name and which frames there are mean nothing; how numbers are read does."""
        plain = {"type": self.type, "revision": self.revision, "column": column}
        return {**plain, "file": payload(self.columns[column])}

    def _files(self, folder: str, digests: Digests) -> list[FileDigest]:
        """One representation's frames. Raises SourceError when there are none."""
        below = f"{self.path.rstrip('/')}/{folder.strip('/')}"
        for suffixes in (ARRAYS, IMAGES):
            for subfolder in BELOW:
                try:
                    files = digests.files(f"{below}/{subfolder}".rstrip("/") + "/*")
                except SourceError:
                    continue
                frames = [f for f in files if f.name.lower().endswith(suffixes) and not stem(f.name).endswith("_extra")]
                if frames:
                    return frames
        raise SourceError(f"{below} holds no frames ({', '.join(ARRAYS)} or images). Next: check path and columns")

    def _frame(self, path: str, folder: str) -> tuple[str, int]:
        """Group and index of the frame in the file at `path`, which lies in a representation's `folder`."""
        above, name = path.rsplit("/", 1)
        match = re.search(self.group, stem(name))
        if match is None:
            raise SourceError(f"the frame {path} does not match group {self.group!r}. Next: mend that pattern")
        whole = re.sub(rf"/{re.escape(folder.strip('/'))}(/({'|'.join(filter(None, BELOW))}))?$", "", above)
        return path_safe(match["group"] or whole.rsplit("/", 1)[-1]), int(match["index"])

    def _digest(self, piece: Piece, sides: dict[str, str]) -> str:
        return fingerprint({column: piece.sides[column][path] for column, path in sides.items()})

    def _picture(self, item: Item, modalities: dict[str, Any]) -> Frame | None:
        """The sides of the frame's picture, where it has one in an image file."""
        for column, path in item.sides.items():
            modality = modalities[modality_of(column)]
            if modality.rgb and not path.endswith(ARRAYS):
                head = imagefile.header(fetch(path), path)
                return Frame(head.sides if modality.orientation == "ignore" else head.shown, head.sides)
        return None

    def _value(self, column: str, item: Item, modality: Any, frame: Frame | None) -> np.ndarray | None:
        path = item.sides.get(column)
        if path is None:
            return None
        try:
            return self._fitted(column, path, modality, frame)
        except ValueError as error:
            raise ValueError(f"{column}: {error}") from error

    def _fitted(self, column: str, path: str, modality: Any, frame: Frame | None) -> np.ndarray | None:
        import numpy as np

        file = self.columns[column]
        if not path.endswith(ARRAYS):
            return file.load(path, (), modality, frame, column)
        raw = decode_array(fetch(path), file.array, path)
        classes = len(getattr(modality, "classes", ()))
        scores = classes > 1 and raw.ndim == 3 and raw.shape[-1] == classes and raw.dtype.kind == "f"
        if scores and len(modality.shape) == 2:
            raw = _likeliest(raw)
        elif scores:
            return modality.fit(_probabilities(raw.astype(np.float32)))
        elif raw.dtype == np.uint8 and modality.dtype == np.uint8 and len(modality.shape) == 3:
            return modality.fit(raw)
        return file.value(raw, path, modality, frame, column)


def _likeliest(scores: np.ndarray) -> np.ndarray:
    """(H, W) the class of the highest of (H, W, K) scores, NaN where they favour none: all alike, or no numbers. Minus
    infinity is one: the logarithm of no chance at all."""
    import numpy as np

    known = np.isfinite(scores.max(-1)) & (scores.min(-1) < scores.max(-1))
    return np.where(known, scores.argmax(-1), np.nan)


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """(H, W, K) scores as probabilities: themselves where they are some, else their softmax. Pixels without a number,
    and among probabilities those of nothing, are unknown, which is zeros, and say nothing of what the others are."""
    import numpy as np

    finite = np.isfinite(scores.max(-1))
    filled = finite & (scores != 0).any(-1)
    known = scores[filled]
    if known.size and known.min() >= 0 and np.allclose(known.sum(-1), 1, atol=2e-2):
        return np.where(filled[..., None], scores, 0)
    scores = np.where(finite[..., None], scores, 0)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.where(finite[..., None], powers / powers.sum(-1, keepdims=True), 0)
