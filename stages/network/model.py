"""The network: encoders by modality, a fusion, one trunk, a head for each task.

Raw columns go in as the loader gives them (N, *shape); a hidden or missing input is zero after standardisation, which
is its mean, or has no tokens. Predictions come out in the project's layout, (N, *sites, C). The model knows nothing of
losses, masks' choice or training; it imports torch, so planning never imports it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS, Architecture
from hyperloom.stages.network.encoders import Encoder
from hyperloom.stages.network.features import Features
from hyperloom.stages.network.visible import Visible

Columns = Mapping[str, torch.Tensor]
LIMIT = 6.0
"""Standardised inputs are clipped here: a depth expert's wild pixel must not blind the rest of the frame."""


class MultiTask(nn.Module):
    """A network for an `Architecture` whose trunk has a width."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture, trunk = architecture, architecture.trunk
        self.encoders = nn.ModuleList(Encoder(i) for i in architecture.inputs)
        self.fusion = trunk.fusion(architecture)
        self.trunk = trunk.build(architecture)
        heads = {t.name: plugins.load("head", t.modality.head) for t in architecture.tasks}
        self.heads = nn.ModuleDict(
            {t.name: heads[t.name](t, trunk.sizes, architecture.size) for t in architecture.tasks}
        )

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def forward(self, columns: Columns, visible: Visible | torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Logits of classes and standardised values, (N, C, *sites) by task. `visible` may be (N, inputs) bool."""
        return self.fuse(self.encode(columns), visible)

    def encode(self, columns: Columns) -> list[torch.Tensor]:
        """Each input's planes, (N, channels, *sites), or ids, in the order of the architecture."""
        made = []
        for item, encoder in zip(self.architecture.inputs, self.encoders, strict=True):
            values = encoder(columns[item.column])
            if getattr(item.modality, "unknown", None) is not None:
                values = values.nan_to_num()  # what nobody knows is the mean
            made.append(values.clamp(-LIMIT, LIMIT) if values.is_floating_point() else values)
        return made

    def features(self, planes: Sequence[torch.Tensor], visible: Visible | torch.Tensor | None = None) -> Features:
        """What the heads see of encoded inputs."""
        return self.trunk(self.fusion(planes, Visible(visible) if isinstance(visible, torch.Tensor) else visible))

    def fuse(
        self, planes: Sequence[torch.Tensor], visible: Visible | torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """From encoded inputs to what `forward` returns."""
        features = self.features(planes, visible)
        return {name: head(features) for name, head in self.heads.items()}

    def predict(self, columns: Columns, visible: Visible | torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """By task, with a leading N: probabilities of classes (H, W, K), (K,) or (length, K), of levels (levels,), of
        pairs (nodes, nodes); values in their units in the shape of the modality; boxes (most, 6) by falling score."""
        return self.finish(self(columns, visible))

    def finish(self, raw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """From what `forward` returns to what `predict` returns."""
        return {t.name: self.heads[t.name].finish(raw[t.name]) for t in self.architecture.tasks}


def build_model(architecture: Architecture, parameters: int | None = None) -> MultiTask:
    """A freshly initialised network, of the width whose parameter count is nearest to `parameters` if none is given."""
    if architecture.trunk.width is None:
        if parameters is None:
            raise ValueError("a model needs the width of its trunk or a number of parameters")
        architecture = architecture.with_trunk(architecture.trunk.of_width(nearest_width(architecture, parameters)))
    return MultiTask(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def nearest_width(architecture: Architecture, parameters: int) -> int:
    """The trunk's width whose model has the number of parameters nearest to `parameters`; counts on the meta device."""

    def count(width: int) -> int:
        with torch.device("meta"):
            return MultiTask(architecture.with_trunk(architecture.trunk.of_width(width))).parameter_count

    low, high = 1, 2
    while count(high) < parameters and high < 1024:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return min((low, high), key=lambda w: abs(count(w) - parameters))


def weights(state: Mapping[str, torch.Tensor]) -> bytes:
    """A model's state as safetensors; the same weights give the same bytes."""
    from safetensors.torch import save

    return save({k: v.detach().cpu().contiguous() for k, v in sorted(state.items())})


def load_model(storage: Storage, folder: str) -> MultiTask:
    """The model that a train or distill step left in `folder` (relative to the root), ready for `predict`.

    Raises IntegrityError when its files are missing or do not belong together.
    """
    from safetensors.torch import load

    try:
        architecture = Architecture.from_json(json.load(io.BytesIO(storage.read(f"{folder}/{MODEL_JSON}"))))
        state = load(storage.read(f"{folder}/{MODEL_WEIGHTS}"))
        model = MultiTask(architecture)
        model.load_state_dict(state)
    except (FileNotFoundError, RuntimeError, KeyError, ValueError) as error:
        where = storage.full(folder)
        raise IntegrityError(f"{where} holds no whole model ({error}). Next: hyperloom verify") from error
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
