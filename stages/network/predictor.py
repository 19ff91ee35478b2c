"""Prediction with a trained model: one pass, or what an ensemble of masks or of models comes to.

Batches are numpy, as experts and evaluation have them; inputs that are missing (absent from the batch, or false in
their `?` mask) are hidden from the model. Which samples it has no answer to `answerable` tells. On a CPU members are
asked one after the other (see stages.network.pooling); on a device as many go through in one batch as its memory holds,
and what they come to is moved when it is looked at. Inputs are encoded once either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from hyperloom.pipeline.errors import PluginError
from hyperloom.stages.base import VALID
from hyperloom.stages.network.architecture import Input
from hyperloom.stages.network.model import Encoded, MultiTask
from hyperloom.stages.network.pooling import Answers, How, Pooling
from hyperloom.stages.network.subnormal import as_zeros
from hyperloom.stages.network.visible import answerable, present, shown
from hyperloom.stages.transfer import sent

PLANES, POOLED = "*planes", "*pooled"
"""Names of the features among the answers; no modality is called so."""


class HostArrays(Mapping[str, np.ndarray]):
    """Tensors that become arrays when they are looked at, wherever they are."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        self._tensors, self._moved = tensors, dict[str, np.ndarray]()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._moved:
            self._moved[name] = self._tensors[name].contiguous().cpu().numpy()
        return self._moved[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def answer(self, name: str, modality: Any) -> np.ndarray:
        """What `modality` answers by the values of `name`; class ids are chosen where the values are."""
        return answered(modality, self._tensors[name])


@dataclass(frozen=True)
class Prediction:
    """By task: `mean` (N, *sites, C), class probabilities or values in units as `MultiTask.predict` has them, and
    `spread` (N, *sites, 1), the standard deviation over members, its square averaged over channels (zero for a single
    pass); of boxes by the cells of their head."""

    mean: HostArrays
    spread: HostArrays

    def whole(self) -> Prediction:
        """The same, with everything on the host."""
        for values in (self.mean, self.spread):
            for name in values:
                values[name]
        return self


class Predictor:
    """`members` says, for each member of the ensemble, which inputs it may see; `how`, how their answers are pooled."""

    def __init__(self, model: MultiTask, members: Sequence[Sequence[bool]], how: How = "mean"):
        self.model, self.members, self.how = model.eval(), [torch.tensor(m) for m in members], how
        self._allowed = torch.stack(self.members).any(0)
        self.features = False
        """Give what the heads see too, as PLANES (N, H, W, F) and POOLED (N, P) among the answers."""
        self.needs = frozenset[str]()
        """Columns that no training sample was without (`Trained.needs`): who lacks one gets no answer."""
        self.device = torch.device("cpu")
        self._most = 1  # members in one batch

    def to(self, device: torch.device) -> Self:
        """The same on another device, with all members in a batch where that is no CPU."""
        self.device, self.model = device, self.model.to(device)
        self._most = 1 if device.type == "cpu" else len(self.members)
        return self

    @property
    def parameters(self) -> int:
        """Of the one network that all members are."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def classed(self) -> frozenset[str]:
        """Tasks whose answers are probabilities of classes."""
        return frozenset(t.name for t in self.model.architecture.tasks if t.modality.categorical)

    @property
    def directed(self) -> frozenset[str]:
        """Tasks whose answers are unit vectors."""
        return frozenset(t.name for t in self.model.architecture.tasks if t.modality.unit_vectors)

    @property
    def finding(self) -> dict[str, Any]:
        """The heads, by task, whose answers are rows of things in an order of their own, so that their maps are pooled
        and the things found afterwards. Raises PluginError for one that has no such maps."""
        heads = {t.name: self.model.heads[t.name] for t in self.model.architecture.tasks if t.head.ranked}
        if without := [name for name, head in heads.items() if not hasattr(head, "rows")]:
            raise PluginError(
                f"the answers of several networks to {without[0]!r} cannot be pooled: the rows of its head are in an "
                "order of their own. Next: ask one network once, or give the head's module `maps` and `rows` "
                "(hyperloom.stages.network.box_heads has them)"
            )
        return heads

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Prediction:
        """Predict for `batch`: column -> (N, *shape), optionally column? -> (N,) bool."""
        return self.growing(batch, ())[-1]

    @as_zeros()
    @torch.inference_mode()
    def growing(self, batch: Mapping[str, np.ndarray], sizes: Sequence[int]) -> list[Prediction]:
        """What the first members come to, for each number of them in `sizes`, which rise; the last is of all."""
        finding = self.finding if len(self.members) > 1 else {}
        pool = Pooling(self.how, self.classed, self.directed)
        return predicted(self.answers(batch, finding), pool, finding, sizes)

    def answers(self, batch: Mapping[str, np.ndarray], finding: Mapping[str, Any]) -> Iterator[Answers]:
        """Each member's answers, in their order; of the tasks in `finding` the maps."""
        columns, valid = self._tensors(batch)
        columns = sent(columns, self.device)
        planes, at = self.model.encode(columns), 0
        while at < len(self.members):
            members = self.members[at : at + self._most]
            answers: Iterator[Answers] | None = None
            try:
                seen = sent([shown(valid, m).inputs for m in members], self.device)
                answers = self._asked(planes, seen, finding)
            except torch.OutOfMemoryError:
                if self._most == 1:
                    raise
            if answers is None:  # what the exception held is free only now
                torch.cuda.empty_cache()
                self._most = (self._most + 1) // 2
                continue
            at += len(members)
            yield from answers

    def answerable(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N,) bool: to which samples of `batch` the model has an answer. Each must have an input that some member may
        see, and none that it `needs` may be missing; a column that the whole batch is without is hidden as wanted."""
        parts = self.model.architecture.parts
        known = {p.column: torch.from_numpy(_known(batch, p.column, _count(batch, parts))) for p in parts}
        seen = present(self.model.architecture, {c + VALID: rows for c, rows in known.items()}) & self._allowed
        may = zip(self.model.architecture.inputs, self._allowed.tolist(), strict=True)
        needed = [part.column for item, allowed in may if allowed for part in item.parts if part.column in self.needs]
        return answerable(seen, (known[column] for column in needed if column in batch))

    def _asked(
        self, planes: Sequence[Encoded], seen: Sequence[torch.Tensor], finding: Mapping[str, Any]
    ) -> Iterator[Answers]:
        """Answers of members that see `seen`, (N, inputs) each, in one pass."""
        some = len(seen)
        every = seen[0] if some == 1 else torch.cat(list(seen))
        raw = self.model(planes if some == 1 else [_repeated(p, some) for p in planes], every)
        plain = {task: values for task, values in raw.predictions.items() if task not in finding}
        answers, features = dict(self.model.finish(plain)), raw.features
        answers |= {task: self.model.heads[task].maps(raw.predictions[task]) for task in finding}
        if self.features:
            answers |= {POOLED: features.pooled}
            answers |= {} if features.planes is None else {PLANES: features.planes.permute(0, 2, 3, 1)}
        each = {name: values.chunk(some) for name, values in answers.items()}
        return iter([{name: parts[i] for name, parts in each.items()} for i in range(some)])

    def _tensors(self, batch: Mapping[str, np.ndarray]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Inputs of the model, zeros for those that are absent, and which are there, (N, inputs) bool."""
        architecture = self.model.architecture
        count = _count(batch, architecture.parts)
        columns: dict[str, torch.Tensor] = {}
        for part in architecture.parts:
            values, known = batch.get(part.column), _known(batch, part.column, count)
            values = np.zeros((count, *part.modality.shape), part.modality.dtype) if values is None else values
            columns[part.column] = torch.from_numpy(np.require(values, requirements=["C", "W"]))
            columns[part.column + VALID] = torch.from_numpy(known)
        return columns, present(architecture, columns) & self._allowed


class Together:
    """Several models asked as one: each model's members are members of the whole."""

    def __init__(self, predictors: Sequence[Predictor], how: How = "mean"):
        self.predictors, self.how = list(predictors), how
        self.model = self.predictors[0].model
        self.members = [m for p in self.predictors for m in p.members]
        self.features = False

    @property
    def needs(self) -> frozenset[str]:
        """As of a `Predictor`: what any of the models cannot do without."""
        return frozenset().union(*(one.needs for one in self.predictors))

    @needs.setter
    def needs(self, columns: frozenset[str]) -> None:
        for one in self.predictors:
            one.needs = columns

    def answerable(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """As of a `Predictor`: (N,) bool, to which samples all models have an answer."""
        every: np.ndarray = np.all([one.answerable(batch) for one in self.predictors], axis=0)
        return every

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        for one in self.predictors:
            one.to(device)
        return self

    @property
    def parameters(self) -> int:
        """Of all models."""
        return sum(p.parameters for p in self.predictors)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Prediction:
        """As a `Predictor` does."""
        return self.growing(batch, ())[-1]

    @as_zeros()
    @torch.inference_mode()
    def growing(self, batch: Mapping[str, np.ndarray], sizes: Sequence[int]) -> list[Prediction]:
        """As of a `Predictor`: the first model's members come first."""
        for one in self.predictors:
            one.features = self.features
        first = self.predictors[0]
        finding = first.finding if len(self.members) > 1 else {}
        answers = (answer for one in self.predictors for answer in one.answers(batch, finding))
        return predicted(answers, Pooling(self.how, first.classed, first.directed), finding, sizes)


def predicted(
    answers: Iterable[Answers], pool: Pooling, finding: Mapping[str, Any], sizes: Sequence[int] = ()
) -> list[Prediction]:
    """What the first members' answers come to, for each of `sizes` that is fewer than all, and what all come to."""
    outcomes = []
    for answer in answers:
        if pool.count in sizes:
            outcomes.append(_pooled(pool, finding))
        pool.add(answer)
    return [*outcomes, _pooled(pool, finding)]


def _pooled(pool: Pooling, finding: Mapping[str, Any]) -> Prediction:
    pooled, spread = pool.pooled()
    pooled |= {task: head.rows(pooled[task]) for task, head in finding.items()}
    return Prediction(HostArrays(pooled), HostArrays(spread))


def answered(modality: Any, values: torch.Tensor) -> np.ndarray:
    """What `modality` answers by a network's values (N, ...); class ids are chosen on a device that has the values."""
    ids = None if values.device.type == "cpu" else modality.decided(values)
    answer: np.ndarray = modality.answer(values.cpu().numpy()) if ids is None else ids.cpu().numpy()
    return answer


def device_of(gpus: float, given: bool = False) -> torch.device:
    """The device for who asks for a share of a GPU, or was given one without asking. Raises PluginError when torch sees
    none of which somebody asked for a share."""
    if not gpus or (given and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PluginError("a trained model is to be asked on a GPU, but torch sees none. Next: gpus: 0")
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda", torch.cuda.current_device())


def _count(batch: Mapping[str, np.ndarray], parts: Sequence[Input]) -> int:
    return len(next(batch[p.column] for p in parts if p.column in batch))


def _known(batch: Mapping[str, np.ndarray], column: str, count: int) -> np.ndarray:
    """(count,) bool: which samples have a value of `column`."""
    values, valid = batch.get(column), batch.get(column + VALID)
    return np.full(count, values is not None) if values is None or valid is None else np.asarray(valid, bool)


def _repeated(planes: Encoded, times: int) -> Encoded:
    if isinstance(planes, tuple):
        return tuple(p.repeat(times, *[1] * (p.ndim - 1)) for p in planes)
    return planes.repeat(times, *[1] * (planes.ndim - 1))
