"""The network: encoders by modality, concatenation, one trunk, a head for each task.

Raw columns go in as the loader gives them (N, *shape); a hidden or missing input is zero after standardisation, which
is its mean. Predictions come out in the project's layout, (N, H, W, C). The model knows nothing of losses, masks'
choice or training; it imports torch, so planning never imports it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import normalize

from pipeline.errors import IntegrityError
from pipeline.storage import Storage
from stages.modality import Dense, Segmentation, Soft, Vector
from stages.train.architecture import MODEL_JSON, MODEL_WEIGHTS, Architecture, Input, Task

Columns = Mapping[str, torch.Tensor]
LIMIT = 6.0
"""Standardised inputs are clipped here: a depth expert's wild pixel must not blind the rest of the frame."""


class Encoder(nn.Module):
    """One column (N, *shape) -> (N, channels, H, W) float32: numbers standardised, classes one channel each."""

    def __init__(self, item: Input | Task, size: tuple[int, int]):
        super().__init__()
        self.modality, self.size = item.modality, size
        if item.scale.mean:
            self.register_buffer("mean", torch.tensor(item.scale.mean).view(1, -1, 1, 1), persistent=False)
            self.register_buffer("factor", 1 / torch.tensor(item.scale.std).view(1, -1, 1, 1), persistent=False)
        else:
            self.mean = self.factor = None
        classes = torch.arange(item.modality.channels, dtype=torch.uint8).view(1, -1, 1, 1)
        self.register_buffer("classes", classes, persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if isinstance(self.modality, Segmentation):
            return (values.unsqueeze(1) == self.classes).float()
        if isinstance(self.modality, Vector):
            planes = values.float()[:, :, None, None].expand(-1, -1, *self.size)
        else:
            planes = values.permute(0, 3, 1, 2).float()
        if isinstance(self.modality, Soft) and values.dtype == torch.uint8:
            return planes / 255
        return planes if self.mean is None else (planes - self.mean) * self.factor


class MultiTask(nn.Module):
    """A network for an `Architecture` whose trunk has a width."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.encoders = nn.ModuleList(Encoder(i, architecture.size) for i in architecture.inputs)
        self.trunk = architecture.trunk.build(architecture.channels)
        features = architecture.trunk.features
        self.heads = nn.ModuleDict({t.name: nn.Conv2d(features, t.modality.channels, 1) for t in architecture.tasks})

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def forward(self, columns: Columns, visible: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Logits of classes and standardised values, (N, C, H, W) by task. `visible` is (N, inputs) bool."""
        return self.fuse(self.encode(columns), visible)

    def encode(self, columns: Columns) -> list[torch.Tensor]:
        """Each input's planes, (N, channels, H, W), in the order of the architecture."""
        pairs = zip(self.architecture.inputs, self.encoders, strict=True)
        return [_known(item, encoder(columns[item.column])).clamp(-LIMIT, LIMIT) for item, encoder in pairs]

    def fuse(self, planes: Sequence[torch.Tensor], visible: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """From encoded inputs to what `forward` returns; a hidden input's planes become zero."""
        if visible is not None:
            planes = [p * visible[:, i, None, None, None] for i, p in enumerate(planes)]
        features = self.trunk(torch.cat(list(planes), 1).contiguous(memory_format=torch.channels_last))
        return {name: head(features) for name, head in self.heads.items()}

    def predict(self, columns: Columns, visible: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Class probabilities and values in their units, (N, H, W, C) by task."""
        return self.finish(self(columns, visible))

    def finish(self, raw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """From what `forward` returns to what `predict` returns."""
        out = {}
        for task in self.architecture.tasks:
            values = raw[task.name].permute(0, 2, 3, 1)
            if isinstance(task.modality, Segmentation):
                values = values.softmax(-1)
            elif isinstance(task.modality, Dense) and task.modality.direction:
                values = normalize(values, dim=-1)
            elif task.scale.mean:
                values = values * values.new_tensor(task.scale.std) + values.new_tensor(task.scale.mean)
            if isinstance(task.modality, Dense) and task.modality.range:
                values = values.clamp(*task.modality.range)  # a regression may overshoot what the modality allows
            out[task.name] = values
        return out


def _known(item: Input, planes: torch.Tensor) -> torch.Tensor:
    """Pixels without a number become zero after standardisation, as missing inputs do."""
    holes = isinstance(item.modality, Dense) and item.modality.unknown is not None
    return planes.nan_to_num(0.0) if holes else planes


def shown(there: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """What a mask shows of what is there, (N, inputs) bool each: a sample of which it would show nothing shows all."""
    both = there & wanted
    return torch.where(both.any(1, keepdim=True), both, there)


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
