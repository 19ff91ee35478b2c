"""The network: a reader for each column, a fusion, one trunk, a head for each task.

Raw columns go in as the loader gives them (N, *shape); a hidden or missing input is zero after standardisation, which
is its mean, or has no tokens. Predictions come out in the project's layout, (N, *sites, C). The model knows nothing of
losses, masks' choice or training; it imports torch, so planning never imports it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeAlias

import torch
from torch import nn

from hyperloom.pipeline.errors import IntegrityError, Torn
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS, Architecture, Task
from hyperloom.stages.network.features import Forward
from hyperloom.stages.network.residual import Residual
from hyperloom.stages.network.stored import read_stored
from hyperloom.stages.network.subnormal import flushed
from hyperloom.stages.network.terms import collected, terms_of
from hyperloom.stages.network.visible import Visible

Columns = Mapping[str, torch.Tensor]
Encoded: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...]
LIMIT = 6.0
"""Standardised inputs are clipped here: a depth expert's wild pixel must not blind the rest of the frame."""


class ByTask(nn.ModuleDict):
    """Modules under names that people give: `half` or `type` may be a task, though modules have such attributes."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        self._modules[name] = module


class MultiTask(nn.Module):
    """A network for an `Architecture` whose trunk has a width."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture, trunk = architecture, architecture.trunk
        self.processors = [part.processor for part in architecture.parts]
        self.readers = nn.ModuleList(
            processor.reader(part.scale) for processor, part in zip(self.processors, architecture.parts, strict=True)
        )
        self.fusion = trunk.fusion(architecture)
        self.trunk = trunk.build(architecture)
        heads = {t.name: t.head for t in architecture.tasks}
        self.heads = ByTask(
            {t.name: heads[t.name].build(t, trunk.sizes_of(t), architecture) for t in architecture.tasks}
        )
        self.residuals = ByTask({t.name: Residual(architecture, t) for t in architecture.tasks if t.residual})
        for name in self.residuals:  # an untrained network answers what it is given
            for parameter in self.heads[name].parameters():
                nn.init.zeros_(parameter)
        self.forced = tuple(name for name, head in heads.items() if head.forced)
        """Tasks whose heads are given their target while training."""
        self.terms = terms_of(self)

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def forward(
        self,
        inputs: Columns | Sequence[Encoded],
        visible: Visible | torch.Tensor | None = None,
        tasks: Sequence[str] | None = None,
        targets: Columns | None = None,
    ) -> Forward:
        """What the network makes of raw columns, or of what `encode` gave of them. `visible` may be (N, inputs) bool;
        `tasks` are those that are asked for, all by default; `targets` what heads that are forced are given."""
        planes = self.encode(inputs) if isinstance(inputs, Mapping) else inputs
        names = tuple(self.heads) if tasks is None else tuple(tasks)
        seen = Visible(visible) if isinstance(visible, torch.Tensor) else visible
        fused = self.fusion(planes, seen)
        features, own = self.trunk(fused, names) if self.architecture.trunk.per_task else (self.trunk(fused), {})
        predictions = {}
        for name in names:
            given = ((targets or {}).get(name),) if self.training and name in self.forced else ()
            predictions[name] = self.heads[name](own.get(name, features), *given)
            if name in self.residuals:
                predictions[name] = self.residuals[name](predictions[name], planes, seen)
        return Forward(predictions, features, collected(self.terms, features.pooled) if self.training else {})

    def encode(self, columns: Columns) -> list[Encoded]:
        """Each input's planes, (N, channels, *sites), or ids, in the order of the architecture; a tuple of them for an
        input of several columns."""
        read = iter(zip(self.processors, self.readers, strict=True))

        def one(column: str) -> torch.Tensor:
            processor, reader = next(read)
            return processor.shown(reader(columns[column]), LIMIT, self.training)

        every = [tuple(one(part.column) for part in item.parts) for item in self.architecture.inputs]
        return [parts if len(parts) > 1 else parts[0] for parts in every]

    def predict(self, columns: Columns, visible: Visible | torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """By task, with a leading N: probabilities of classes (H, W, K), (K,) or (length, K), of levels (levels,), of
        pairs (nodes, nodes); values in their units in the shape of the modality; boxes (most, 6) by falling score."""
        return self.finish(self(columns, visible).predictions)

    def finish(self, raw: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """From raw predictions to what `predict` returns."""
        return {t.name: self._finished(t, raw[t.name]) for t in self.architecture.tasks if t.name in raw}

    def _finished(self, task: Task, raw: torch.Tensor) -> torch.Tensor:
        own = getattr(self.heads[task.name], "finish", None)
        return task.processor.finish(raw, task.scale) if own is None else own(raw)


def build_model(architecture: Architecture, parameters: int | None = None) -> MultiTask:
    """A freshly initialised network, of the width whose parameter count is nearest to `parameters` if none is given."""
    if architecture.trunk.width is None:
        if parameters is None:
            raise ValueError("a model needs the width of its trunk or a number of parameters")
        architecture = architecture.with_trunk(architecture.trunk.of_width(nearest_width(architecture, parameters)))
    architecture = architecture.with_trunk(architecture.trunk.fresh)
    return MultiTask(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def nearest_width(architecture: Architecture, parameters: int) -> int:
    """The trunk's width whose model has the number of parameters nearest to `parameters`; counts on the meta device."""

    @cache
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
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        described, stored = (read_stored(storage, folder, name) for name in (MODEL_JSON, MODEL_WEIGHTS))
        architecture, state = Architecture.from_json(json.loads(described)), load(stored)
        model = MultiTask(architecture)
        model.load_state_dict({name: flushed(weight) for name, weight in state.items()})
    except Torn:
        raise
    except (FileNotFoundError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        where = storage.full(folder)
        raise IntegrityError(f"{where} holds no whole model ({error}). Next: hyperloom verify") from error
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
