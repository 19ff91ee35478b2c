"""Consensus weighted by how reliable each source is, estimated without truth.

Both methods go over the data twice. The first time, units count what is enough to know (see stages.consensus.tally);
from the sums the estimates are made in one place; the second time, units apply them. No library fits: crowd-kit's
Dawid-Skene wants a table with one row for each pixel and source in memory, and installs transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.counting import rounded
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import modality_of
from hyperloom.stages.consensus.mean import no_spread, nothing, of_length_one
from hyperloom.stages.consensus.methods import Method, MethodOutput, below
from hyperloom.stages.consensus.vote import Vote, mean_share
from hyperloom.stages.label.algorithms.majority import SLACK
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.modality.knowledge import spread

if TYPE_CHECKING:
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.modality import Modality

DIGITS = 9
"""Of estimates, so that the last bit of a sum cannot move an identity."""
Estimates = dict[str, Any]


class Learning(Method):
    """Base of the two: `estimates` are filled in by the stage and bear meaning, since the outcome follows from them."""

    learns: ClassVar[bool] = True
    estimates: Estimates = {}

    @field_validator("estimates")
    @classmethod
    def _unset(cls, value: Estimates) -> Estimates:
        if value:
            raise ValueError("estimates are made from the data; leave them out")
        return value

    def source_reliability(self) -> dict[str, float]:
        return dict(self.estimates.get("reliability", {}))


class DawidSkene(Learning):
    """Each pixel's most probable class, given what each source confuses with what (Dawid & Skene 1979).

    A source is a table: how often it says l where the truth is t. Tables and classes' frequencies are estimated
    together by expectation maximisation, over counts of the combinations of answers, which are all that the
    likelihood depends on. With `confusions: false` a source has one number, the share of its answers that are right.
    Abstentions and missing sources tell nothing. Sources are taken to err independently of each other: where they
    share mistakes, probabilities come out too sure.

    `agreement` names a column for the winner's probability, `soft` one (of a soft modality) for all; below `quorum` a
    pixel becomes unknown; a sample whose mean agreement is below `least` becomes null.
    """

    revision: ClassVar[int] = 1
    takes: ClassVar[str] = Vote.takes
    confusions: bool = True
    iterations: int = Field(200, ge=1)
    quorum: float = Field(0.0, ge=0, le=1)
    agreement: str = ""
    soft: str = ""
    least: float = Field(0.0, ge=0, le=1)

    def revised(self) -> int:
        return super().revised() + below(self.least)

    def fits(self, modality: Modality) -> bool:
        return modality.voted

    def extra(self) -> tuple[str, ...]:
        return tuple(c for c in (self.agreement, self.soft) if c)

    def tally(self, sample: Batch, modalities: dict[str, Any]) -> dict[str, float]:
        modality = modalities[modality_of(self.out[0])]
        codes, counts = np.unique(self._codes(sample, modality), return_counts=True)
        return {str(code): int(count) for code, count in zip(codes, counts, strict=True)}

    def estimated(self, total: Mapping[str, float], modalities: dict[str, Any]) -> Method:
        from hyperloom.stages.consensus.em import dawid_skene

        classes = modalities[modality_of(self.out[0])].channels
        codes = np.array(sorted(int(c) for c in total), np.int64)
        counts = np.array([total[str(c)] for c in codes], np.float64)
        patterns = _decoded(codes, len(self.sources), classes)
        prior, tables = dawid_skene(patterns, counts, classes, self.confusions, self.iterations)
        right = {
            c: float((prior * np.diagonal(table)).sum().round(DIGITS))
            for c, table in zip(self.sources, tables, strict=True)
        }
        shares = {"prior": prior.round(DIGITS).tolist(), "tables": tables.round(DIGITS).tolist()}
        estimates = {**shares, "reliability": right}
        return self.model_copy(update={"estimates": estimates})

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        from hyperloom.stages.consensus.em import posterior

        modality = modalities[modality_of(self.out[0])]
        prior, tables = np.array(self.estimates["prior"]), np.array(self.estimates["tables"])

        def make(batch: Batch) -> MethodOutput:
            codes = self._codes(batch, modality)
            distinct, place = np.unique(codes, return_inverse=True)
            patterns = _decoded(distinct, len(self.sources), modality.channels)
            shares = posterior(patterns, prior, tables) * (patterns.max(1, keepdims=True) >= 0)
            best, sure = shares.argmax(1), shares.max(1)
            labels = np.where((sure > 0) & (sure >= self.quorum - SLACK), best, modality.missing).astype(modality.dtype)
            place = place.reshape(codes.shape)
            score = sure[place].astype(np.float32)
            extra = {self.agreement: lambda: score[..., None], self.soft: lambda: shares[place].astype(np.float32)}
            return {self.out[0]: labels[place], **{c: extra[c]() for c in self.extra()}}, mean_share(score)

        return make

    def _codes(self, batch: Batch, modality: Any) -> np.ndarray:
        """One int64 for each combination of answers: digits to the base classes + 1, of which 0 is no answer."""
        base = modality.channels + 1
        if base ** len(self.sources) >= 2**63:
            raise RecipeError(f"{self.out[0]}: {len(self.sources)} sources of {modality.channels} classes are too many")
        codes = np.zeros(batch[self.sources[0]].shape, np.int64)
        for column in self.sources:
            labels = batch[column].astype(np.int64)
            present = batch[f"{column}?"].reshape(-1, *(1,) * (labels.ndim - 1)) & (labels != modality.missing)
            codes = codes * base + np.where(present, labels + 1, 0)
        return codes


class InverseVariance(Learning):
    """Mean of numbers, each source weighted by one over the variance of its error, estimated without truth.

    For errors that are independent, the variance of the difference of two sources is the sum of theirs; over all pairs
    that determines each (the three-cornered hat, Gray & Allan 1974; least squares when there are more than three).
    A constant offset of a source does not count as error. Needs three sources; a variance that comes out below a
    thousandth of the largest is put there, since no source is perfect. What a source does not know, pixel by pixel, is
    no error, and the others decide there. `spread` names a dense column for the expected standard deviation of the
    outcome.
    """

    revision: ClassVar[int] = 2
    certain: ClassVar[float] = 0.0
    takes: ClassVar[str] = "dense, vector, scalar, embedding, series and audio"
    spread: str = ""

    def changed(self, modality: Modality | None, people: bool) -> dict[str, int]:
        """Where people decide the spread was 1."""
        spread = {"spread of people": 2} if self.spread and people and self.people == "first" else {}
        return {**super().changed(modality, people), **spread}

    def fits(self, modality: Modality) -> bool:
        return modality.averaged and not modality.soft

    def extra(self) -> tuple[str, ...]:
        return (self.spread,) if self.spread else ()

    def over(self, sources: tuple[str, ...], out: str, modalities: dict[str, Any], truth: str = "") -> Method:
        if len(sources) < 3:
            raise RecipeError(f"{out}: {self.type!r} needs three sources or more, there are {', '.join(sources)}")
        return super().over(sources, out, modalities, truth)

    def tally(self, sample: Batch, modalities: dict[str, Any]) -> dict[str, float]:
        sums: dict[str, float] = {}
        modality = modalities[modality_of(self.out[0])]
        given = {c: modality.given(sample[c]) for c in self.sources}
        for i, a in enumerate(self.sources):
            for j, b in enumerate(self.sources[:i]):
                if sample[f"{a}?"][0] and sample[f"{b}?"][0]:
                    gap = (sample[a] - sample[b]).astype(np.float64)
                    gap = gap[np.broadcast_to(spread(given[a] & given[b], gap), gap.shape)]
                    sums |= {f"{i} {j} n": gap.size, f"{i} {j} s": float(gap.sum()), f"{i} {j} q": float(gap @ gap)}
        return sums

    def estimated(self, total: Mapping[str, float], modalities: dict[str, Any]) -> Method:
        rows, seen = [], []
        for i in range(len(self.sources)):
            for j in range(i):
                if count := total.get(f"{i} {j} n", 0):
                    mean = total[f"{i} {j} s"] / count
                    rows.append([float(k in (i, j)) for k in range(len(self.sources))])
                    seen.append(max(total[f"{i} {j} q"] / count - mean**2, 0.0))
        if not rows or np.linalg.matrix_rank(rows) < len(self.sources):
            raise RecipeError(
                f"{self.out[0]}: {', '.join(self.sources)} have too few samples in common to tell how reliable each "
                "is. Next: take fewer sources with `of`, or the method mean"
            )
        variances = np.linalg.lstsq(np.array(rows), np.array(seen), rcond=None)[0]
        most = float(variances.max())
        variances = np.maximum(variances, most * 1e-3 if most > 0 else 1e-12)
        variances = np.array([rounded(v, 12) for v in variances.tolist()])
        reliability = {c: rounded(1 / math.sqrt(v), DIGITS) for c, v in zip(self.sources, variances, strict=True)}
        return self.model_copy(update={"estimates": {"variances": variances.tolist(), "reliability": reliability}})

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        modality = modalities[modality_of(self.out[0])]

        def make(batch: Batch) -> MethodOutput:
            total = np.zeros_like(batch[self.sources[0]])
            weight = np.zeros((*total.shape[:-1], 1), np.float32)
            for column, variance in zip(self.sources, self.estimates["variances"], strict=True):
                given = spread(modality.given(batch[column]), total)
                present = batch[f"{column}?"].astype(np.float32).reshape(-1, *(1,) * (total.ndim - 1))
                mine = present * given / np.float32(variance)
                total, weight = total + mine * np.where(given, batch[column], 0), weight + mine
            known, weight = weight > 0, np.where(weight > 0, weight, 1)
            mean = np.where(known, of_length_one(total / weight, modality), np.float32(nothing(modality)))
            if not self.spread:
                return {self.out[0]: mean}, None
            sigma = np.where(known, 1 / np.sqrt(weight), no_spread(modalities[modality_of(self.spread)]))
            return {self.out[0]: mean, self.spread: sigma}, None

        return make


def _decoded(codes: np.ndarray, sources: int, classes: int) -> np.ndarray:
    """(P,) codes -> (P, sources) class ids, -1 for no answer."""
    digits = [codes // (classes + 1) ** (sources - 1 - s) % (classes + 1) for s in range(sources)]
    return np.stack(digits, 1) - 1
