"""Networks that see a picture and answer with maps: semantic segmentation and depth.

The model's own processor prepares the frames. Networks of masks (MaskFormer, Mask2Former) give, for each query, classes
and a mask; the score of a class at a pixel is the sum over the queries of both (Cheng et al., Mask2Former, CVPR 2022),
and goes on as its logarithm, so that a softmax of it is the score again, normalised. Maps are taken
to cover the whole frame, so processors that crop or pad are refused (`coverage`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.label.hub.loading import Directory
from hyperloom.stages.label.steps import Steps
from hyperloom.stages.modality import Size

if TYPE_CHECKING:
    from hyperloom.stages.label.hub.openvocabulary import TextMaps

AUTO = {
    "image-segmentation": ("AutoModelForSemanticSegmentation", "AutoModelForUniversalSegmentation"),
    "depth-estimation": ("AutoModelForDepthEstimation",),
}
MAIN = {"image-segmentation": "logits", "depth-estimation": "predicted_depth"}
"""The output that a decoder reads when it names none."""


class Maps:
    """(N, H, W, 3) uint8 frames -> the tensors asked for, (N, C, h, w) or (N, h, w) float32."""

    def __init__(self, home: Directory, task: str):
        self._home, self._main = home, MAIN[task]
        known = [name for name in AUTO[task] if home.fits(name)]
        if not known:
            raise RecipeError(f"{home.path} holds {type(home.config).__name__}, which is no model for {task}")
        self._processor, self._model = home.part("AutoImageProcessor"), home.model(known[0])

    def prepared(self, frames: np.ndarray) -> Any:
        """What the model's processor makes of frames, on the host."""
        return self._processor(images=list(frames), return_tensors="pt")

    def tensors(self, prepared: Any, tensors: Sequence[str | int]) -> list[Any]:
        """The tensors asked for, where the model is, of what `prepared` gave."""
        torch = self._home.torch
        with torch.inference_mode():
            inputs = self._home.tensors(prepared)
            outputs = dict(self._model(**{k: v for k, v in inputs.items() if k != "pixel_mask"}))
            if "logits" not in outputs and {"class_queries_logits", "masks_queries_logits"} <= set(outputs):
                outputs["logits"] = _semantic(torch, outputs["class_queries_logits"], outputs["masks_queries_logits"])
        return [self._picked(outputs, t) for t in tensors]

    def _picked(self, outputs: Mapping[str, Any], tensor: str | int) -> Any:
        name = self._main if tensor == 0 else str(tensor)
        if name not in outputs:
            present = ", ".join(k for k, v in outputs.items() if hasattr(v, "shape"))
            raise RecipeError(f"the model of {self._home.path} has no output {name!r}; it gave: {present}")
        return outputs[name].float()


class MapSteps(Steps):
    """Frames to columns: the processor's work ahead of the model, maps decoded on its device, or on the host."""

    def __init__(
        self, net: Maps | TextMaps, device: bool, column: str, outputs: Sequence[str], decoders: Sequence[Any],
        targets: Sequence[Any],
    ):  # fmt: skip
        self._net, self.device, self._column, self._outputs = net, device, column, outputs
        self._decoders, self._targets = decoders, targets

    def prepare(self, batch: Batch) -> tuple[Any, Size]:
        frames = batch[self._column]
        return self._net.prepared(frames), (frames.shape[1], frames.shape[2])

    def compute(self, prepared: tuple[Any, Size]) -> tuple[Any, Size]:
        inputs, size = prepared
        maps = self._net.tensors(inputs, [d.tensor for d in self._decoders])
        if not self.device:
            return [m.numpy() for m in maps], size
        from hyperloom.stages.label.runtimes.device import Landing, decoded

        each = zip(self._decoders, maps, self._targets, strict=True)
        return Landing([decoded(decoder, m, "nchw", target) for decoder, m, target in each]), size

    def finish(self, computed: tuple[Any, Size]) -> Batch:
        maps, size = computed
        outputs: Batch = {}
        if self.device:
            from hyperloom.stages.label.runtimes.device import landed

            for column, given, decoder, target in zip(
                self._outputs, maps.arrays(), self._decoders, self._targets, strict=True
            ):
                outputs[column] = landed(given, decoder, target)  # type: ignore[assignment]
            return outputs
        for column, array, decoder, target in zip(self._outputs, maps, self._decoders, self._targets, strict=True):
            tiles = [decoder.tile(one, "nchw", size) for one in array]
            outputs[column] = np.stack([decoder.finish(tile, target) for tile in tiles])
        return outputs


def class_map(
    labels: Mapping[int, str], classes: Sequence[str], table: Mapping[str, str | None]
) -> dict[int, Any] | None:
    """The modality's class for each of the model's, by name: `table` first, then the same name whatever its case.

    None (each id as it is) where the model has no names and as many classes as the modality. Raises RecipeError where
    no name fits.
    """
    known = {name.casefold(): name for name in classes}
    unknown = set(table) - set(labels.values())
    if unknown:
        raise RecipeError(f"labels: the model has no {', '.join(sorted(unknown))}; it has {', '.join(labels.values())}")
    table_ = {i: table[name] if name in table else known.get(name.casefold()) for i, name in labels.items()}
    if any(value is not None for value in table_.values()):
        return table_
    if len(labels) == len(classes) and all(name == f"LABEL_{i}" for i, name in labels.items()):
        return None
    raise RecipeError(
        f"no label of the model is a class of the modality. Next: give labels: {{theirs: ours}}; theirs are "
        f"{', '.join(labels.values())}; ours are {', '.join(classes)}"
    )


def _semantic(torch: Any, classes: Any, masks: Any) -> Any:
    """(N, K, h, w) from (N, Q, K + 1) and (N, Q, h, w)."""
    scores = torch.einsum("nqk,nqhw->nkhw", classes.softmax(-1)[..., :-1], masks.sigmoid())
    return scores.clamp_min(1e-8).log()
