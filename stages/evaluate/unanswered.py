"""Unanswered samples: those to which a model has no answer, since an input is missing that it cannot do without.

What a mask hid in training, or training samples lacked, is hidden here too and answered without. A sample that lacks
what every training sample had is left without an answer, as an expert leaves it, by a model and by the champion alike:
the figures would be of values that nobody took (black pictures, means). An input that the shards do not have at all is
hidden as whoever wrote the recipe wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.stages.evaluate.overlap import hidden
from hyperloom.stages.network.ensemble import Ensemble
from hyperloom.stages.results import Shards, Trained


class JudgedInputs:
    """Which inputs the samples of a split lack. `records` are those of its shards."""

    def __init__(self, shards: Manifest, split: str):
        body = Shards.from_manifest(shards)
        mine = {s.path for s in body.shards if s.split == split}
        self.records = [r for r in shards.records if any(f.path in mine for f in r.files)]
        self.offered = body.schema

    def lacking(self, columns: Iterable[str]) -> dict[str, int]:
        """By column the samples without it; columns that are always there are left out."""
        return hidden(columns, self.records, self.offered)

    def unanswered(self, models: Sequence[Manifest], ensemble: Ensemble | None = None) -> dict[str, int]:
        """By input that a model, or one of several that are asked together, cannot do without, the samples that lack
        it; empty where they answer all that have any input. What the ensemble hides nobody needs."""
        trained, given = [Trained.from_manifest(model) for model in models], self._given(models[0], ensemble)
        needs = {column for one in trained for column in one.needs or ()} if len(given) > 1 else set(given)
        return {column: missing for column, missing in self.lacking(given).items() if column in needs}

    def marked(self, models: Sequence[Manifest], ensemble: Ensemble | None = None) -> dict[str, Any]:
        """What in an identity tells figures with unanswered samples from those of before, which were answered. Samples
        without any input are among them; how many are not counted, so shards that lack some of each count as such."""
        lacking, given = self.unanswered(models, ensemble), self._given(models[0], ensemble)
        without = any(len(hidden(given, [record], self.offered)) == len(given) for record in self.records)
        return marked(lacking, without)

    def _given(self, model: Manifest, ensemble: Ensemble | None) -> list[str]:
        """The inputs of the shards that the model may see."""
        visible = Trained.from_manifest(model).visible
        never = ensemble.hidden_inputs(visible) if ensemble else [False] * len(visible)
        return [c for c, hides in zip(visible, never, strict=True) if c in self.offered and not hides]


def marked(lacking: Mapping[str, int], without: bool = False) -> dict[str, Any]:
    """What tells figures with unanswered samples apart: by inputs that are needed, and where some may have none."""
    return {"unanswered": sorted(lacking)} if lacking or without else {}


def sentences(name: str, lacking: Mapping[str, int], rows: int) -> list[str]:
    """What a report says of it."""
    each = [f"{column}, which {missing} of {rows} samples lack" for column, missing in lacking.items()]
    return [f"{name} has no answer without {' and '.join(each)}: it never learned to do without"] if each else []
