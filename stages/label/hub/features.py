"""Embeddings: of texts by a text encoder, of pictures by a vision encoder.

`mean` is the mean of the last layer over the tokens that are no padding, `cls` its first token, `model` what the model
itself calls its pooled output. With `unit` vectors have length one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.label.hub.loading import Directory
from hyperloom.stages.remarks import remark

PoolingMode = Literal["mean", "cls", "model"]


class FeatureExtraction:
    """Texts (N strings) or frames (N, H, W, 3) uint8 -> (N, dimensions) float32."""

    def __init__(self, home: Directory, pictures: bool, pool: PoolingMode, unit: bool):
        self._home, self._pictures, self._pool, self._unit = home, pictures, pool, unit
        self._prepare = home.part("AutoImageProcessor" if pictures else "AutoTokenizer")
        self._model = home.model("AutoModel")

    def __call__(self, values: Sequence[Any] | np.ndarray) -> np.ndarray:
        torch = self._home.torch
        with torch.inference_mode():
            if self._pictures:
                inputs = self._home.tensors(self._prepare(images=list(values), return_tensors="pt"))
            else:
                padding = "max_length" if self._home.config.model_type.startswith("siglip") else True
                prepared = self._prepare(list(values), padding=padding, truncation=True, return_tensors="pt")
                for encoding in getattr(prepared, "encodings", None) or ():
                    if encoding.overflowing:
                        remark("a text is longer than the model reads, and its end is left out")
                inputs = self._home.tensors(prepared)
            pooled = self._features(inputs).float()
            if self._unit:
                pooled = torch.nn.functional.normalize(pooled, dim=-1)
        return pooled.cpu().numpy()

    def _features(self, inputs: dict[str, Any]) -> Any:
        """(N, dimensions). A network of pictures and texts has its own, in which both can be compared."""
        own = getattr(self._model, "get_image_features" if self._pictures else "get_text_features", None)
        if own is None:
            return self._pooled(self._model(**inputs), inputs.get("attention_mask"))
        output = own(**inputs)
        return getattr(output, "pooler_output", output)

    def _pooled(self, output: Any, mask: Any) -> Any:
        if self._pool == "model":
            pooled = getattr(output, "pooler_output", None)
            if pooled is None:
                raise RecipeError(f"the model of {self._home.path} pools nothing itself. Next: pool: mean or cls")
            return pooled.flatten(1)
        last = output.last_hidden_state
        if last.ndim == 4:  # convolutional: (N, C, h, w)
            last = last.flatten(2).transpose(1, 2)
        if self._pool == "cls":
            return last[:, 0]
        if mask is None:
            return last.mean(1)
        weight = mask[..., None].to(last.dtype)
        return (last * weight).sum(1) / weight.sum(1).clamp_min(1)
