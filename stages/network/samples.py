"""Processors of what is said of a whole sample: numbers, choices, labels (see `stages.network.processors`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperloom.stages.network.processors import Processor, Reader, Scale

if TYPE_CHECKING:
    import torch


class ChoiceProcessor(Processor):
    """One class of several, or one of ordered levels: one channel a class."""

    def reader(self, scale: Scale) -> torch.nn.Module:
        from hyperloom.stages.network.reading import OneHot

        return OneHot(self.modality.channels)

    def target(self, scale: Scale) -> Reader:
        from torch.nn import Identity

        return Identity()

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw.softmax(-1)


class MultilabelProcessor(ChoiceProcessor):
    """Any number of classes: -1 for no, 0 for unknown, 1 for yes."""

    def reader(self, scale: Scale) -> torch.nn.Module:
        from hyperloom.stages.network.reading import Signs

        return Signs()

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw.sigmoid()


class VectorProcessor(Processor):
    """Numbers."""


class EmbeddingProcessor(Processor):
    """A direction, neither standardised nor cut to a range."""

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw
