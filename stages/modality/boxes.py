"""Boxes: objects in a picture, each a rectangle with a class and a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.stages import picture
from hyperloom.stages.meaning import Translation
from hyperloom.stages.modality import box_files, overlap
from hyperloom.stages.modality.base import Defaults
from hyperloom.stages.modality.choice import id_of, ids_of, lettered, numerals
from hyperloom.stages.modality.formats import parse
from hyperloom.stages.modality.geometry import carried, exchanged
from hyperloom.stages.modality.padding import filled, some
from hyperloom.stages.modality.sides import exchange
from hyperloom.stages.modality.things import Things, things_in_words
from hyperloom.stages.picture import Mark
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import torch

CORNERS = ("x0", "y0", "x1", "y1")
FAINT = 0.05
"""Predicted boxes of a lower score are no answer."""
MOST_GUESSES = 30
"""Predicted boxes that are drawn in a picture."""
ROUNDING = 1e-5
"""What arithmetic leaves beside an edge; not worth a word."""
PIXELS = 2.0
"""A corner beyond this is no share of a picture."""


class Boxes(Things):
    """(most, 6) float32: x0, y0, x1, y1 in shares of width and height, the class's id, a score in 0..1.

    Rows that are not used are NaN and lie at the end. A column of it is a list of structs, the class by its name.
    `pixels: [height, width]` says that corners come in pixels of pictures of that size; `clip` is how far outside, in
    shares of the picture, a corner may lie to be brought onto its edge. A true box of score 0 is a crowd, in which
    nobody has counted: nothing is taught in it, and what is predicted in it is neither right nor wrong. Files: JSON
    lists (`crowd: true` says so), YOLO's .txt, VOC's .xml, LabelMe's .json.
    """

    markup: ClassVar[str] = "boxes"
    defaults: ClassVar[Defaults] = Defaults("boxes", "boxes", "map", "boxes")
    most: int = Field(100, ge=1)
    """Boxes that one sample can have."""
    pixels: tuple[int, int] | None = None
    clip: float = Field(0.0, ge=0, le=1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.most, 6)

    @property
    def missing(self) -> float:
        return float("nan")

    @property
    def regression(self) -> bool:
        return False

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        values[..., [0, 2]] = 1 - values[..., [2, 0]]
        values[..., 4] = exchanged(values[..., 4], exchange(self.classes))
        return values

    def windowed(self, values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        first, share = windows[:, None, [1, 0, 1, 0]], windows[:, None, 2:]
        return self._shown(values, (values[..., :4] - first) / share)

    def turned(self, values: torch.Tensor, angles: torch.Tensor, aspect: float) -> torch.Tensor:
        """Around the ellipse in each box, turned: a box around its turned corners would be larger than nearly all that
        it may hold (Kalra et al., ICCV 2021)."""
        import torch

        low, high = values[..., :2], values[..., 2:4]
        middle = carried((low + high) / 2 - 0.5, angles, aspect) + 0.5
        x, y = ((high - low) / 2).unbind(-1)
        y, cosine, sine = y * aspect, angles.cos()[:, None], angles.sin()[:, None]
        reach = torch.stack([torch.hypot(x * cosine, y * sine), torch.hypot(x * sine, y * cosine) / aspect], -1)
        return self._shown(values, torch.cat([middle - reach, middle + reach], -1))

    def _shown(self, values: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
        """Boxes at other corners: those whose middle is shown, and crowds of which anything is, cut at the edges; the
        others become unused rows."""
        middle = (corners[..., :2] + corners[..., 2:]) / 2
        overlap = (corners[..., 2:] > 0).all(-1) & (corners[..., :2] < 1).all(-1)
        shown = ((middle >= 0) & (middle <= 1)).all(-1)  # false for unused rows
        shown = shown | (overlap & (values[..., 5] == 0))
        values[..., :4] = corners.clamp(0, 1)
        values = values.where(shown[..., None], float("nan"))
        order = (~shown).to(values.dtype).argsort(dim=1, stable=True)
        return values.gather(1, order[..., None].expand_as(values))

    def _check_values(self, array: np.ndarray) -> None:
        used = used_rows(array, "boxes")
        if not used.size:
            return
        corners, ids, scores = used[:, :4], used[:, 4], used[:, 5]
        _check_corners(corners)
        if (corners[:, :2] > corners[:, 2:]).any():
            first = corners[(corners[:, :2] > corners[:, 2:]).any(1)][0].tolist()
            raise ValueError(f"expected x0 <= x1 and y0 <= y1 in each box, got {[round(x, 6) for x in first]}")
        if (ids != np.rint(ids)).any() or ids.min() < 0 or ids.max() >= len(self.classes):
            raise ValueError(f"expected class ids below {len(self.classes)}, got {ids.min():.6g} to {ids.max():.6g}")
        if scores.min() < 0 or scores.max() > 1:
            raise ValueError(f"expected scores in 0..1, got {scores.min():.6g} to {scores.max():.6g}")

    def fit(self, value: Any) -> np.ndarray:
        """From a list of {x0, y0, x1, y1, class (name or id), score (1 if left out)}, or n rows of 5 or 6 numbers."""
        if isinstance(value, list | tuple) and all(isinstance(v, dict) for v in value):
            value = [self._row(box) for box in value]
        array = np.asarray(value, np.float32)
        array = array.reshape(-1, 6) if not array.size else array
        if array.ndim != 2 or array.shape[1] not in (5, 6):
            raise ValueError(f"expected (n, 5) or (n, 6) numbers a sample, got {array.shape}")
        if array.shape[1] == 5:
            array = np.concatenate([array, np.ones((len(array), 1), np.float32)], 1)
        array = self._placed(array[~np.isnan(array).all(1)])
        if (array[:, :2] == array[:, 2:4]).any():
            remark("boxes have no width or no height, so that nothing can fit them")
        return padded(array, self.most, "boxes", "most")

    def cell(self, value: Any) -> Any:
        """A class by number is a name where names are numerals."""
        if not (isinstance(value, list) and numerals(self.classes)):
            return value
        named = [isinstance(box, dict) and "class" in box for box in value]
        return [
            {**box, "class": lettered(box["class"], self.classes)} if one else box
            for one, box in zip(named, value, strict=True)
        ]

    def read(self, data: bytes, name: str) -> Any:
        boxes = box_files.parse(data, name, self.classes)
        if boxes is None:
            return self.fit(self.cell(parse(data, name)))
        sized = not name.lower().endswith(".txt")  # the file has the picture's size; text may be in pixels
        return (self.model_copy(update={"pixels": None}) if sized else self).fit(boxes)

    def _placed(self, rows: np.ndarray) -> np.ndarray:
        """Rows with corners in shares of the picture, those a little outside brought onto its edge."""
        rows = rows.copy()
        if self.pixels is not None:
            height, width = self.pixels
            rows[:, :4] /= np.array([width, height, width, height], np.float32)
        corners = rows[:, :4]
        outside = np.maximum(-corners, corners - 1)
        with np.errstate(invalid="ignore"):
            near = (outside > 0) & (outside <= max(self.clip, ROUNDING))
            if (near & (outside > ROUNDING)).any():
                remark("boxes that reach out of the picture are clipped")
            rows[:, :4] = np.where(near, corners.clip(0, 1), corners)
        return rows

    def _row(self, box: dict[str, Any]) -> list[float]:
        try:
            id_ = id_of(box["class"], self.classes)
            score = 0.0 if box.get("crowd") else float(box.get("score", 1))
            return [*(float(box[c]) for c in CORNERS), id_, score]
        except (KeyError, ValueError, TypeError) as error:
            what = "expected {x0, y0, x1, y1, class, score}, the class one of " + ", ".join(self.classes)
            raise ValueError(f"{what}, got {box!r}") from error

    def answer(self, mean: np.ndarray) -> np.ndarray:
        """Faint boxes become unused rows; rows come by falling score, so these are the last."""
        boxes = mean.copy()
        boxes[~(boxes[..., 5] >= FAINT)] = np.nan
        boxes[..., 4] = np.rint(boxes[..., 4])
        return boxes

    def apart(self, one: np.ndarray, other: np.ndarray) -> float:
        """Scores compared in order, boxes as sets: which of two equal scores comes first, or stays out, is chance. So
        up to one box in a hundred (or one at all) may be another."""
        scores = float(np.nanmax(np.abs(one[..., 5] - other[..., 5])))
        nearest = np.abs(one[:, :, None] - other[:, None]).max(-1)
        nearest = np.where(np.isnan(nearest), np.inf, nearest).min(2)[~np.isnan(one[..., 0])]
        return max(scores, float(np.quantile(nearest, 0.99, method="lower")))

    def translated(self, values: Any, how: Translation) -> Any:
        if not how.places:
            return values
        boxes = values.copy() if isinstance(values, np.ndarray) else values.clone()
        used = ~(boxes != boxes).any(-1)  # NaN alone differs from itself
        rows = boxes[used]
        ids = rows[..., 4].round()
        whole = ids.astype(np.int64) if isinstance(ids, np.ndarray) else ids.long()
        rows[..., 4] = how.ids(whole)
        boxes[used] = rows
        return boxes

    def mean_translated(self, mean: Any, how: Translation) -> Any:
        return self.translated(mean, how)

    def things_agree(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        rows = ([v[~np.isnan(v).any(1)] for v in pair] for pair in zip(one, other, strict=True))
        return overlap.agreement((len(a), len(b), overlap.of_class(a, b)) for a, b in rows)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        count = some(random, self.most)
        corners = np.sort(random.random((count, 2, 2)), 1).reshape(count, 4)
        kinds, scores = random.integers(0, len(self.classes), (count, 1)), random.random((count, 1))
        return filled(np.concatenate([corners, kinds, scores], 1), self.shape, np.nan)

    def _drawn(self, value: np.ndarray) -> np.ndarray:
        """The boxes that a person is shown: all that are given for sure, and of a network's guesses the surest, since a
        detector gives hundreds of which it believes next to nothing."""
        used = value[~np.isnan(value).any(1)]
        kept = used[(used[:, 5] >= used[:, 5].max(initial=0) / 2) | (used[:, 5] == 0)]  # 0: a crowd, which people drew
        certain = np.isin(kept[:, 5], (0, 1))
        guessed = np.argsort(-np.where(certain, 2, kept[:, 5]), kind="stable")
        return kept[np.sort(guessed[: max(MOST_GUESSES, int(certain.sum()))])]

    def picture(self, value: np.ndarray) -> np.ndarray:
        used = self._drawn(value)
        return picture.boxes_to_rgb(used[:, :4], picture.palette(len(self.classes))[used[:, 4].astype(int)])

    def marks(self, value: np.ndarray) -> list[Mark]:
        colours = [(int(r), int(g), int(b)) for r, g, b in picture.palette(len(self.classes))]
        return [
            Mark(self.classes[int(c)] + (_sure(s) if s < 1 else ""), colours[int(c)], x0, y0, x1, y1)
            for x0, y0, x1, y1, c, s in self._drawn(value).tolist()
        ]

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        colours = picture.palette(len(self.classes)).tolist()
        return tuple((name, tuple(colour)) for name, colour in zip(self.classes, colours, strict=True))

    def pictured(self, value: np.ndarray) -> np.ndarray:
        return np.unique(self._drawn(value)[:, 4].astype(int))

    def words(self, value: np.ndarray) -> str:
        used = value[~np.isnan(value).any(1)]
        return things_in_words(used[:, 4].astype(int), used[:, 5] <= 0, self.classes)

    @property
    def counted(self) -> tuple[str, ...]:
        return self.classes

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        ids = rows[..., 4]
        return ids[~np.isnan(ids) & (rows[..., 5] > 0)].astype(np.int64)

    def arrow(self) -> Any:
        import pyarrow as pa

        number = pa.float32()
        parts = [*((c, number) for c in CORNERS), ("class", pa.string()), ("score", number)]
        return pa.list_(pa.struct(parts))

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        import pyarrow as pa

        used = ~np.isnan(rows).any(2) & valid[:, None]
        flat = rows[used]
        if flat.size and not (flat[:, 4].min() >= 0 and flat[:, 4].max() < len(self.classes)):
            raise ValueError(f"expected class ids below {len(self.classes)}")
        numbers = {c: pa.array(flat[:, i]) for i, c in enumerate((*CORNERS, "", "score"))}
        numbers["class"] = pa.array(self.classes, pa.string()).take(pa.array(flat[:, 4].astype(np.int64)))
        kind = self.arrow()
        struct = pa.StructArray.from_arrays([numbers[f.name] for f in kind.value_type], fields=list(kind.value_type))
        return lists(struct, used.sum(1), valid, kind)

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        flat, owner, place = flattened(array)
        too_many("boxes", place, self.most, "most")
        rows = np.full((len(array), self.most, 6), np.nan, np.float32)
        for i, name in enumerate((*CORNERS, "class", "score")):
            part = flat.field(name)
            values = ids_of(part, self.classes) if name == "class" else part.to_numpy(zero_copy_only=False)
            rows[owner, place, i] = values
        return rows


def _sure(score: float) -> str:
    return f" {score:.2f}" if score > 0 else ", a crowd"


def _check_corners(corners: np.ndarray) -> None:
    """Raise ValueError for corners outside the picture, showing the one that is furthest out."""
    outside = np.maximum(-corners, corners - 1)
    if outside.max() <= 0:
        return
    worst = float(corners.reshape(-1)[outside.argmax()])
    if worst > PIXELS:
        hint = "these look like pixels. Next: pixels: [height, width] of the pictures, on the modality"
    else:
        hint = "Next: clip: 0.05 on the modality brings what is a little outside onto the edge"
    raise ValueError(f"expected corners in 0..1 of the picture, got {worst:.7g}; {hint}")


def used_rows(array: np.ndarray, what: str) -> np.ndarray:
    """The rows of (n, c) before the padding. Raises ValueError for padding in the middle, or half a row of NaN."""
    empty = np.isnan(array)
    used = ~empty.all(1)
    count = int(used.sum())
    if empty[used].any() or not np.isfinite(array[used]).all():
        raise ValueError(f"expected {what} of finite numbers, or rows of NaN alone for padding")
    if not used[:count].all():
        raise ValueError(f"expected the padding (rows of NaN) after all {what}")
    return array[:count]


def strongest(boxes: Any, most: int) -> Any:
    """The first `most` of boxes, best first; that others are left out is remarked."""
    if len(boxes) > most:
        remark(f"more than {most} boxes are in a picture, and the weakest are left out (a larger most: holds them)")
    return boxes[:most]


def padded(array: np.ndarray, most: int, what: str, field: str) -> np.ndarray:
    """(n, c) as (most, c), rows of NaN added. Raises ValueError when there are more, naming the recipe's field."""
    if len(array) > most:
        raise ValueError(f"expected at most {most} {what}, got {len(array)}; a larger `{field}` holds them")
    full = np.full((most, *array.shape[1:]), np.nan, np.float32)
    full[: len(array)] = array
    return full


def lists(values: Any, counts: np.ndarray, valid: np.ndarray, kind: Any) -> Any:
    """A `pa.ListArray` of `kind` whose N lists take `counts` values each, null where not `valid`."""
    import pyarrow as pa

    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    mask = None if valid.all() else pa.array(~valid)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind, mask=mask)


def flattened(array: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """The values of a `pa.ListArray`, and for each the row it belongs to and its place in that row's list."""
    import pyarrow.compute as pc

    counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(array)), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return array.flatten(), owner, place


def too_many(what: str, place: np.ndarray, most: int, field: str) -> None:
    """Raise ValueError when a list is longer than the modality holds."""
    if place.size and place.max() >= most:
        raise ValueError(f"expected at most {most} {what}, got {place.max() + 1}; a larger `{field}` holds them")
