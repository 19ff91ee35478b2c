"""Instances: things in a picture, each with a mask of its own, a class, a score, an id and a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.stages import picture
from hyperloom.stages.meaning import Translation
from hyperloom.stages.modality import overlap, packed
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.boxes import CORNERS, flattened, lists, too_many
from hyperloom.stages.modality.choice import id_of, ids_of
from hyperloom.stages.modality.geometry import exchanged, inside, turn, window
from hyperloom.stages.modality.grouping import grouped
from hyperloom.stages.modality.packed import Unpacked
from hyperloom.stages.modality.padding import some
from hyperloom.stages.modality.raster import Size, of_the_image
from hyperloom.stages.modality.runs import MaskRuns, painted, run_lengths
from hyperloom.stages.modality.sides import exchange
from hyperloom.stages.modality.things import Things, things_in_words
from hyperloom.stages.picture import Mark
from hyperloom.stages.remarks import remark
from hyperloom.stages.transfer import constant

if TYPE_CHECKING:
    import torch

MAPS = 4
"""Maps that a network predicts beside one for each class: background, centre, and how far that is to the right and
below."""


class Instances(Things):
    """(most, bytes) uint8: see `stages.modality.packed`, whose `unpack` gives ids, classes, scores, boxes and masks.

    A column of it is a list of structs: id, class (a name), score, crowd, x0, y0, x1, y1 in shares of the picture, and
    the mask as COCO's runs, column by column, each 32 bits (little-endian). Masks have the modality's `size` and may
    overlap. `crowd` marks many things drawn as one, which teach nothing and count neither way. `fit` takes a list of
    {mask, class, and perhaps id, score, crowd, x0, y0, x1, y1}; masks are (H, W) arrays of any size, or runs.
    """

    defaults: ClassVar[Defaults] = Defaults("instances", "instances", "map", "instances")
    markup: ClassVar[str] = "masks"
    most: int = Field(32, ge=1)
    """Instances that one sample can have."""
    size: Size | None = None
    """Height and width of the masks; left out, that of the recipe's only image."""

    @property
    def sides_in_pixels(self) -> Size:
        """Height and width of the masks. Raises ValueError while they are not known."""
        if self.size is None:
            raise ValueError("the size is not known yet: give size: [height, width], or call completed() first")
        return self.size

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.most, packed.width(self.sides_in_pixels))

    def completed(self, modalities: Mapping[str, Modality]) -> Modality:
        return self if self.size is not None else self.model_copy(update={"size": of_the_image(modalities)})

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def channels(self) -> int:
        return len(self.classes) + MAPS

    def unpacked_value(self, value: np.ndarray) -> Unpacked:
        """The instances of one value."""
        return packed.unpack(value, self.sides_in_pixels)

    # -- values -----------------------------------------------------------------------------------------------------
    def _check_values(self, array: np.ndarray) -> None:
        head = np.ascontiguousarray(array[:, : packed.BYTES]).view(packed.HEAD)[:, 0]
        used = head["kind"] > 0
        if not used[: int(used.sum())].all() or array[~used].any():
            raise ValueError("expected the padding (rows of zeros) after all instances")
        if used.any() and head["kind"].max() > len(self.classes):
            raise ValueError(f"expected class ids below {len(self.classes)}, got {head['kind'].max() - 1}")
        scores = head["score"][used]
        if used.any() and not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueError(f"expected scores in 0..1, got {scores.min():.6g} to {scores.max():.6g}")
        if not array[used, packed.BYTES :].any(1).all():
            raise ValueError("expected a mask of at least one pixel for each instance")

    def fit(self, value: Any) -> np.ndarray:
        if isinstance(value, np.ndarray) and value.shape == self.shape and value.dtype == np.uint8:
            return value
        if not isinstance(value, list | tuple) or not all(isinstance(v, dict) for v in value):
            raise ValueError("expected a list of {mask, class, id, score}")
        rows = [row for place, one in enumerate(value, 1) if (row := self._row(one, place)) is not None]
        if len(rows) > self.most:
            raise ValueError(f"expected at most {self.most} instances, got {len(rows)}; a larger `most` holds them")
        masks = np.stack([r[0] for r in rows]) if rows else np.zeros((0, *self.sides_in_pixels), bool)
        ids, kinds, scores, crowd = (np.array([r[i] for r in rows]) for i in range(1, 5))
        boxes = packed.boxes_of(masks)
        for i, row in enumerate(rows):
            boxes[i] = boxes[i] if row[5] is None else row[5]
        instances = Unpacked(ids, kinds.astype(np.int64), scores.astype(np.float32), crowd.astype(bool), boxes, masks)
        return packed.pack(instances, self.most, self.sides_in_pixels)

    def _row(self, one: dict[str, Any], place: int) -> tuple[Any, ...] | None:
        """Mask, id, class, score, crowd and box of an instance; None where nothing is left of it at this size."""
        try:
            id_, mask = id_of(one["class"], self.classes), one["mask"]
            number, score = int(one.get("id") or place), float(one.get("score", 1))
            box = [float(one[c]) for c in CORNERS] if CORNERS[0] in one else None
        except (KeyError, ValueError, TypeError) as error:
            what = "expected {mask, class, id, score}, the class one of " + ", ".join(self.classes)
            raise ValueError(f"{what}; it lacks or has another {error}") from error
        if not 0 <= id_ < len(self.classes):
            raise ValueError(f"expected class ids below {len(self.classes)}, got {id_}")
        mask = self._sized(mask.mask() if isinstance(mask, MaskRuns) else np.asarray(mask))
        if not mask.any():
            remark("instances of which no pixel is left at the modality's size are left out")
            return None
        return mask, number, id_, score, bool(one.get("crowd", False)), box

    def _sized(self, mask: np.ndarray) -> np.ndarray:
        """(H, W) bool at the modality's size, by the nearest pixels."""
        if mask.ndim != 2:
            raise ValueError(f"expected a mask of (H, W), got {mask.shape}")
        height, width = self.sides_in_pixels
        if mask.shape == (height, width):
            return mask != 0
        import cv2

        how = cv2.INTER_NEAREST_EXACT
        return cv2.resize((mask != 0).astype(np.uint8), (width, height), interpolation=how) > 0

    def things_agree(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        pairs = [(self.unpacked_value(a), self.unpacked_value(b)) for a, b in zip(one, other, strict=True)]
        same = (a.classes[:, None] == b.classes[None] for a, b in pairs)
        shared = (overlap.of_masks(a.masks, b.masks) * kind for (a, b), kind in zip(pairs, same, strict=True))
        return overlap.agreement((len(a), len(b), s) for (a, b), s in zip(pairs, shared, strict=True))

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        height, width = self.sides_in_pixels
        value = []
        for _ in range(some(random, self.most)):
            mask = np.zeros((height, width), bool)
            y, x = int(random.integers(height)), int(random.integers(width))
            mask[y : y + max(1, height // 3), x : x + max(1, width // 3)] = True
            kind, score = int(random.integers(len(self.classes))), float(random.random())
            value.append({"mask": mask, "class": kind, "score": score})
        return self.fit(value)

    # -- geometry ---------------------------------------------------------------------------------------------------
    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        masks = packed.masks_of(values, self.sides_in_pixels)
        kinds = exchanged(packed.kinds_of(values), exchange(self.classes))
        return packed.with_masks(packed.with_kinds(values, kinds), masks.flip(3))

    def windowed(self, values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        return self._sampled(values, window(windows, self.sides_in_pixels))

    def turned(self, values: torch.Tensor, angles: torch.Tensor, aspect: float) -> torch.Tensor:
        return self._sampled(values, turn(angles, aspect, self.sides_in_pixels))

    def _sampled(self, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Masks by the nearest pixel to each place (n, H, W, 2); instances that are out of sight become unused rows."""
        import torch

        masks = packed.masks_of(values, self.sides_in_pixels)
        height, width = self.sides_in_pixels
        columns, rows = (places * constant((width, height), places.dtype, places.device)).floor().long().unbind(-1)
        samples = torch.arange(len(values), device=values.device)[:, None, None]
        moved = masks.permute(0, 2, 3, 1)[samples, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
        return packed.with_masks(values, (moved & inside(places)[..., None]).permute(0, 3, 1, 2))

    # -- meaning and predictions ------------------------------------------------------------------------------------
    def answer(self, mean: np.ndarray) -> np.ndarray:
        """Maps (N, H, W, K + 4) as instances: see `stages.modality.grouping`."""
        return np.stack([packed.pack(grouped(one, self.most), self.most, self.sides_in_pixels) for one in mean])

    def translated(self, values: Any, how: Translation) -> Any:
        if not how.places:
            return values
        array = np.asarray(values).copy()
        for i, value in enumerate(array):
            one = self.unpacked_value(value)
            moved = Unpacked(one.ids, how.ids(one.classes), one.scores, one.crowd, one.boxes, one.masks)
            array[i] = packed.pack(moved, self.most, self.sides_in_pixels)
        return array if isinstance(values, np.ndarray) else values.new_tensor(array)

    def mean_translated(self, mean: Any, how: Translation) -> Any:
        if not how.places:
            return mean
        count = len(self.classes)
        moved = how.channels(mean[..., :count])
        if isinstance(mean, np.ndarray):
            return np.concatenate([moved, mean[..., count:]], -1)
        import torch

        return torch.cat([moved, mean[..., count:]], -1)

    # -- for people -------------------------------------------------------------------------------------------------
    def picture(self, value: np.ndarray) -> np.ndarray:
        return self.overlay(value)[..., :3]

    def overlay(self, value: np.ndarray) -> np.ndarray:
        """Each instance in the colour of its class, a little apart from its neighbours', with a white border; smaller
        ones in front; clear where there is none."""
        import cv2

        one = self.unpacked_value(value)
        shown = np.zeros((*self.sides_in_pixels, 4), np.uint8)
        colours = picture.palette(len(self.classes)).astype(np.float32)
        for place in np.argsort(-one.masks.sum((1, 2)), kind="stable"):
            mask, shade = one.masks[place], 1 - 0.18 * (place % 3)
            shown[mask] = (*(colours[one.classes[place]] * shade).astype(np.uint8), 255)
            inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            shown[mask & ~inner] = 255
        return shown

    def marks(self, value: np.ndarray) -> list[Mark] | None:
        return None

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        colours = picture.palette(len(self.classes)).tolist()
        return tuple((name, tuple(map(int, c))) for name, c in zip(self.classes, colours, strict=True))

    def words(self, value: np.ndarray) -> str:
        one = self.unpacked_value(value)
        return things_in_words(one.classes, one.crowd, self.classes)

    # -- statistics and columns -------------------------------------------------------------------------------------
    @property
    def counted(self) -> tuple[str, ...]:
        return self.classes

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        head = np.ascontiguousarray(rows[..., : packed.BYTES]).view(packed.HEAD).ravel()
        things = head[(head["kind"] > 0) & (head["crowd"] == 0)]  # nobody has counted a crowd
        return things["kind"].astype(np.int64) - 1

    def pictured(self, value: np.ndarray) -> np.ndarray:
        return np.unique(self.unpacked_value(value).classes)

    def arrow(self) -> Any:
        import pyarrow as pa

        numbers = [(c, pa.float32()) for c in CORNERS]
        first = [("id", pa.int64()), ("class", pa.string()), ("score", pa.float32()), ("crowd", pa.bool_())]
        return pa.list_(pa.struct([*first, *numbers, ("mask", pa.binary())]))

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        import pyarrow as pa

        values = [self.unpacked_value(row) if ok else None for row, ok in zip(rows, valid, strict=True)]
        counts = np.array([0 if v is None else len(v) for v in values], np.int64)
        used = [v for v in values if v is not None]
        runs = [run_lengths(m.ravel(order="F")).astype("<u4").tobytes() for v in used for m in v.masks]
        flat = {
            n: [x for v in used for x in getattr(v, n).tolist()] for n in ("ids", "classes", "scores", "crowd", "boxes")
        }
        if flat["classes"] and not 0 <= min(flat["classes"]) <= max(flat["classes"]) < len(self.classes):
            raise ValueError(f"expected class ids below {len(self.classes)}")
        kind = self.arrow()
        parts = [flat["ids"], [self.classes[c] for c in flat["classes"]], flat["scores"], flat["crowd"]]
        parts += [[box[i] for box in flat["boxes"]] for i in range(4)] + [runs]
        fields = list(kind.value_type)
        arrays = [pa.array(part, field.type) for part, field in zip(parts, fields, strict=True)]
        return lists(pa.StructArray.from_arrays(arrays, fields=fields), counts, valid, kind)

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        flat, owner, place = flattened(array)
        too_many("instances", place, self.most, "most")
        rows = np.zeros((len(array), *self.shape), np.uint8)
        head = np.zeros(len(owner), packed.HEAD)
        head["kind"] = ids_of(flat.field("class"), self.classes) + 1
        for name in ("id", "score", "crowd"):
            head[name] = flat.field(name).to_numpy(zero_copy_only=False)
        for i, corner in enumerate(CORNERS):
            head["box"][:, i] = flat.field(corner).to_numpy(zero_copy_only=False)
        rows[owner, place, : packed.BYTES] = head.view(np.uint8).reshape(len(head), packed.BYTES)
        height, width = self.sides_in_pixels
        for at, (runs, i, j) in enumerate(zip(flat.field("mask").to_pylist(), owner, place, strict=True)):
            flat_mask = painted(np.frombuffer(runs, "<u4"))
            if len(flat_mask) != height * width:
                number = int(head["id"][at])
                raise ValueError(f"instance {number}: its mask has {len(flat_mask)} pixels, not {height}x{width}")
            rows[i, j, packed.BYTES :] = np.packbits(flat_mask.reshape(width, height).T.ravel())
        return rows
