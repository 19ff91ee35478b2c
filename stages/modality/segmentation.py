"""Maps of classes: one id a pixel, or a probability for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from hyperloom.stages import picture
from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.formats import decode_array
from hyperloom.stages.modality.geometry import SidedClasses, between, exchanged, nearest
from hyperloom.stages.modality.prediction import Offered, Taken
from hyperloom.stages.modality.raster import Raster
from hyperloom.stages.modality.sides import exchange
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import torch

NOTHING = ("background", "nothing", "none", "void", "unlabelled", "unlabeled")
"""Names of classes that say that nothing is there."""


class Segmentation(SidedClasses, Raster):
    """(H, W) uint8 class ids; 255 is unknown."""

    markup: ClassVar[str] = "map"
    defaults: ClassVar[Defaults] = Defaults("dense", "cross-entropy", "miou", "maps")
    categorical: ClassVar[bool] = True
    voted: ClassVar[bool] = True
    classes: tuple[str, ...] = Field(min_length=1, max_length=UNKNOWN)
    palette: tuple[tuple[int, int, int], ...] | None = None

    @model_validator(mode="after")
    def _one_colour_a_class(self) -> Segmentation:
        if self.palette is not None and len(self.palette) != len(self.classes):
            raise ValueError(f"palette: expected {len(self.classes)} colours, one a class, got {len(self.palette)}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return self.height_width

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def missing(self) -> int:
        return UNKNOWN

    @property
    def channels(self) -> int:
        return len(self.classes)

    def given(self, values: Any) -> Any:
        return values != UNKNOWN

    def known(self, values: Any) -> Any:
        return (values >= 0) & (values < len(self.classes))

    def sampled(self, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return nearest(values, places, UNKNOWN)

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return exchanged(super().mirrored(values), exchange(self.classes))

    def _check_values(self, array: np.ndarray) -> None:
        bad = array[(array >= len(self.classes)) & (array != UNKNOWN)]
        if bad.size:
            raise ValueError(f"expected class ids below {len(self.classes)} or {UNKNOWN}, got {int(bad[0])}")

    def fit(self, value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.ndim == 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim != 2 or array.dtype.kind not in "ui":
            raise ValueError(f"expected (H, W) class ids, got {array.shape} {array.dtype}")
        if array.size and (array.min() < 0 or array.max() > UNKNOWN):
            raise ValueError(f"expected class ids in 0..{UNKNOWN}, got {array.min()}..{array.max()}")
        return self._resized(array.astype(np.uint8), nearest=True)

    def numbers(self, data: bytes, name: str) -> np.ndarray:
        """Ids of an image file; of one in colours those of `palette`, where black is unknown if it is none of them."""
        array = super().numbers(data, name)
        return self._of_colours(array, name) if self.palette and array.ndim == 3 and array.shape[-1] == 3 else array

    def _of_colours(self, rgb: np.ndarray, name: str) -> np.ndarray:
        codes = rgb.astype(np.int64) @ np.array([65536, 256, 1])
        table = {(r << 16) + (g << 8) + b: i for i, (r, g, b) in enumerate(self.palette or ())}
        seen, places = np.unique(codes, return_inverse=True)
        foreign = [int(c) for c in seen if int(c) not in table and c != 0]
        if foreign:
            first = foreign[0]
            colour = (first >> 16, first >> 8 & 255, first & 255)
            count = int((codes == first).sum())
            raise ValueError(f"{name}: {count} pixels have the colour {colour}, which is none of the palette's")
        ids = np.array([table.get(int(c), UNKNOWN) for c in seen], np.uint8)
        return ids[places].reshape(codes.shape)

    def read(self, data: bytes, name: str) -> Any:
        """Class ids from an array, from the grey values of an image, or from colours of the palette."""
        if name.lower().endswith((".npy", ".npz")):
            return self.fit(decode_array(data, "", name))
        return self.fit(self.numbers(data, name))

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return mean.argmax(-1).astype(self.dtype)

    def decided(self, mean: torch.Tensor) -> torch.Tensor | None:
        return mean.argmax(-1).byte() if type(self).answer is Segmentation.answer else None

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return random.choice([*range(self.channels), UNKNOWN], self.shape)

    def teaches(self, predicted: Modality) -> bool:
        return isinstance(predicted, Segmentation | Soft) and self.channels == predicted.channels

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        colours = self.picture(np.arange(len(self.classes), dtype=np.uint8)[None])[0]
        return tuple((name, tuple(map(int, c))) for name, c in zip(self.classes, colours, strict=True))

    @property
    def counted(self) -> tuple[str, ...]:
        return self.classes

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def presence(self, value: np.ndarray) -> np.ndarray | None:
        """None of a class that says that nothing is there."""
        nothing = [i for i, name in enumerate(self.classes) if name.casefold() in NOTHING]
        return (~np.isin(value, nothing)).astype(np.float32) if nothing else None

    def picture(self, value: np.ndarray) -> np.ndarray:
        known = np.where(self.known(value), value, UNKNOWN).astype(np.uint8)
        return picture.classes_to_rgb(known, len(self.classes), self.palette)


MOST = 1.02
"""What probabilities of a pixel may add up to, beside what rounding does to each."""


class Soft(SidedClasses, Raster):
    """(H, W, K) float32 class probabilities. `of` takes the classes of a segmentation. A pixel whose probabilities sum
    to nothing is unknown. `storage` is what is kept of them: float16 three digits of each, so that small ones keep
    their order when a temperature makes them large; uint8 steps of 1/255, half as much, with all below 1/510 gone."""

    defaults: ClassVar[Defaults] = Defaults("dense", "kl", "mae")
    soft: ClassVar[bool] = True
    classes: tuple[str, ...] = ()
    of: str = ""
    revision: ClassVar[int] = 2
    storage: Literal["float16", "uint8"] = "float16"

    @property
    def shape(self) -> tuple[int, ...]:
        if not self.classes:
            raise ValueError("the classes are not known yet: give classes, or of: and call completed() first")
        return (*self.height_width, len(self.classes))

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(self.storage)

    def completed(self, modalities: Mapping[str, Modality]) -> Modality:
        if self.classes:
            return super().completed(modalities)
        of = modalities.get(self.of)
        if not isinstance(of, Segmentation):
            known = ", ".join(n for n, m in modalities.items() if isinstance(m, Segmentation)) or "none"
            raise ValueError(f"of: expected the name of a segmentation modality ({known}), got {self.of!r}")
        return super().completed(modalities).model_copy(update={"classes": of.classes})

    def given(self, values: Any) -> Any:
        half = 0.5 if str(values.dtype).rpartition(".")[2].startswith("float") else 127
        return values.sum(-1) > half  # false for NaN

    def sampled(self, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Bytes stay bytes, so that they lie beside those of samples that are not moved."""
        known = self.given(values)[..., None]
        weight = between(known, places)
        shares = (between(values.where(known, 0), places) / weight.clamp(min=0.5)).where(weight >= 0.5, 0)
        return shares if values.is_floating_point() else shares.round().to(values.dtype)

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return super().mirrored(values)[..., list(exchange(self.classes))]

    def _check_values(self, array: np.ndarray) -> None:
        super()._check_values(array)
        if array.min() < -1e-3 or array.max() > 1 + 1e-3:
            raise ValueError(f"expected probabilities in 0..1, got {array.min():.6g} to {array.max():.6g}")
        if float(array.sum(-1, dtype=np.float32).max()) > MOST + array.shape[-1] / 510:
            remark("probabilities of a pixel add up to more than 1 (of each class by itself? divide them by their sum)")

    def fit(self, value: Any) -> np.ndarray:
        array = np.asarray(value, np.float32)
        if array.ndim != 3 or array.shape[-1] != len(self.classes):
            raise ValueError(f"expected (H, W, {len(self.classes)}), got {array.shape}")
        return self._resized(array).reshape(self.shape)

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        colours = picture.palette(len(self.classes)).tolist()
        return tuple((name, tuple(colour)) for name, colour in zip(self.classes, colours, strict=True))

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return random.dirichlet(np.ones(self.shape[-1]), self.shape[:-1])

    def teaches(self, predicted: Modality) -> bool:
        return isinstance(predicted, Segmentation | Soft) and self.channels == predicted.channels

    def taken(self, offered: Offered) -> Taken | None:
        """The probabilities of the task it is `of`, or of the first with the same classes."""
        segmented = {n: m for n, m in offered.tasks.items() if isinstance(m, Segmentation)}
        same = (n for n, m in segmented.items() if sorted(m.classes) == sorted(self.classes))
        of = self.of if self.of in offered.tasks else next(same, "")
        return Taken("mean", of) if of else None

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.classes

    def _drawn(self, value: np.ndarray) -> np.ndarray:
        """(H, W) uint8: the likeliest class of each pixel, 255 of those that are unknown."""
        return np.where(self.given(value[None])[0], value.argmax(-1), UNKNOWN).astype(np.uint8)

    def pictured(self, value: np.ndarray) -> np.ndarray:
        return np.unique(self._drawn(value))

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.classes_to_rgb(self._drawn(value), len(self.classes))

    @property
    def limits(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def regression(self) -> bool:
        return False

    @property
    def read_as_stored(self) -> bool:
        return True

    @property
    def scale(self) -> float:
        return 1 / 255 if self.storage == "uint8" else 1.0

    def to_stored(self, value: np.ndarray) -> np.ndarray:
        return np.rint(np.clip(value, 0, 1) * 255) if self.storage == "uint8" else np.clip(value, 0, 1)
