"""Processors of what has places or steps in a row: texts, tags, sounds, series, points, boxes, graphs (see
`stages.network.processors`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperloom.stages.modality.token_files import FileTokenizer
from hyperloom.stages.modality.tokenizers import WordTokenizer
from hyperloom.stages.network.processors import Processor, Reader, Scale, in_units

if TYPE_CHECKING:
    import torch


class IdProcessor(Processor):
    """Base of what stays as it is: what reads it knows it."""

    @property
    def in_planes(self) -> bool:
        return False

    def reader(self, scale: Scale) -> torch.nn.Module:
        from torch.nn import Identity

        return Identity()

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw.softmax(1).transpose(1, 2)


class TextProcessor(IdProcessor):
    """Ids of bytes, of the words of a vocabulary, or of the tokens of a file."""

    @property
    def encoder(self) -> str:
        return "text"

    @property
    def not_in_graph(self) -> str:
        return str(self.modality.tokenizer.not_in_graph)

    def reader(self, scale: Scale) -> torch.nn.Module:
        from hyperloom.stages.network.words import FileIds, WordIds

        tokenizer = self.modality.tokenizer
        if isinstance(tokenizer, FileTokenizer):
            return FileIds(tokenizer)
        if isinstance(tokenizer, WordTokenizer):
            return WordIds(tokenizer.vocabulary, self.modality.length, tokenizer.most)
        return super().reader(scale)

    def target(self, scale: Scale) -> Reader:
        from torch.nn import Sequential

        from hyperloom.stages.network.reading import OneEnd

        return Sequential(self.reader(scale), OneEnd())


class TagsProcessor(IdProcessor):
    """A label for each place."""

    @property
    def encoder(self) -> str:
        return "labels"


class BoxesProcessor(IdProcessor):
    """Rectangles with a class; heads of boxes say themselves what they give."""

    @property
    def encoder(self) -> str:
        return "rectangles"

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw


class InstancesProcessor(Processor):
    """Things with a mask each, as maps; heads of instances say themselves what they give."""

    @property
    def encoder(self) -> str:
        return "patches"

    @property
    def axes(self) -> int:
        return 2

    @property
    def size(self) -> tuple[int, int] | None:
        return self.modality.sides_in_pixels

    @property
    def not_in_graph(self) -> str:
        return "an ONNX file takes no instances. Next: give the student other inputs"

    def reader(self, scale: Scale) -> torch.nn.Module:
        from hyperloom.stages.network.instance_maps import InstanceMaps

        return InstanceMaps(self.modality)

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw


class GraphProcessor(IdProcessor):
    """Pairs of nodes; as a target, 1 from the first of a pair to the second."""

    @property
    def encoder(self) -> str:
        return "nodes"

    def target(self, scale: Scale) -> Reader:
        from hyperloom.stages.network.reading import adjacency

        return lambda edges: adjacency(edges, self.modality.nodes)

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw.sigmoid()


class AudioProcessor(Processor):
    """Sound: one channel over time."""

    @property
    def encoder(self) -> str:
        return "mel"

    @property
    def axes(self) -> int:
        return 1

    def planes_of(self, values: torch.Tensor) -> torch.Tensor:
        return values.unsqueeze(1)

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return in_units(raw.transpose(1, 2), scale)[..., 0].clamp(-1, 1)


class SeriesProcessor(Processor):
    """(steps, channels) of numbers; NaN is what is not there."""

    def planes_of(self, values: torch.Tensor) -> torch.Tensor:
        return values.transpose(1, 2)


class KeypointsProcessor(Processor):
    """(points, 3): x, y and whether it is visible."""

    @property
    def encoder(self) -> str:
        return "points"

    @property
    def in_planes(self) -> bool:
        return True

    def planes_of(self, values: torch.Tensor) -> torch.Tensor:
        return values.transpose(1, 2)

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        import torch

        return torch.cat([raw[:, :2].clamp(0, 1), raw[:, 2:].sigmoid()], 1).transpose(1, 2)
