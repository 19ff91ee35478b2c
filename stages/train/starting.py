"""Starting from other weights: what of them fits a network is taken, and what was not is said.

Heads are brought into the order of the classes here, and those of other classes start afresh, which is said too. A
weight fits by the name of its part (`stages.network.parts`), so columns count and not their order, and by its shape.
Where one weight has a slice for each input (the first filters of a U-Net), the slices of inputs that both networks have
are taken, each to its own place. The inputs are standardised with the statistics of the data at hand, whatever those of
the other network were. Torch side of `stages.train.network`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near
from hyperloom.stages import quantity
from hyperloom.stages.meaning import MeaningsDiffer, Translation, translation
from hyperloom.stages.network import parts
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.heads import Head
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.network.statefile import read_state
from hyperloom.stages.network.trunks import Trunk
from hyperloom.stages.train.failures import Final
from hyperloom.stages.train.network import Origin


class Misfit(Final):
    """Weights that a network cannot start from, or a pattern that names nothing in it."""


@dataclass(frozen=True)
class LoadedWeights:
    """Names of parts: `whole` were taken, `selected` in filters of a wider network, `cut` in the slices of common
    inputs, `absent` are not in the other network, `other` have another shape there, `apart` another meaning (`why`),
    `left` are there alone."""

    whole: Sequence[str]
    cut: Sequence[str]
    absent: Sequence[str]
    other: Sequence[str]
    left: Sequence[str]
    apart: Sequence[str] = ()
    selected: Sequence[str] = ()
    why: Sequence[str] = ()

    def __str__(self) -> str:
        count = len(self.whole) + len(self.selected) + len(self.cut)
        summary = [f"{count} of {count + len(self.absent) + len(self.other) + len(self.apart)} weights"]
        kinds = (
            ("evenly chosen of more", self.selected), ("in part", self.cut), ("not there", self.absent),
            ("other shape", self.other), ("other meaning", self.apart), ("unused", self.left),
        )  # fmt: skip
        return "; ".join([*summary, *(f"{kind}: {_named(names)}" for kind, names in kinds if names), *self.why])


class Meanings:
    """What a network `before` means beside one `here`: heads whose classes are in another order are brought into ours,
    as are residuals, also where their inputs are; heads of other classes or units stay behind. Raises Misfit where an
    input has other classes: which of its weights are whose class nobody knows."""

    def __init__(self, name: str, here: Architecture, before: Architecture):
        self.apart: dict[str, str] = {}
        self._options = _options(here.trunk, before.trunk)
        self._orders: dict[str, tuple[Head, torch.Tensor]] = {}
        self._passed: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        inputs = {p.column: p for p in before.parts}
        for part in here.parts:
            try:
                if part.column in inputs and _translation(inputs[part.column], part).places:
                    raise Misfit(_foreign(name, part.column, "its classes are in another order there"))
            except MeaningsDiffer as error:
                raise Misfit(_foreign(name, part.column, str(error))) from error
        tasks = {t.name: t for t in before.tasks}
        for task in (t for t in here.tasks if t.name in tasks):
            self._passed[task.name] = tasks[task.name].residual, task.residual
            try:
                how = _translation(tasks[task.name], task)
            except MeaningsDiffer as error:
                self.apart[task.name] = str(error)
                continue
            if how.places:
                self._orders[task.name] = task.head, torch.tensor(how.places).argsort()

    @property
    def why(self) -> list[str]:
        """In words, what stays behind or was otherwise there."""
        return [*(f"{task}: {reason}" for task, reason in self.apart.items()), *self._options]

    def brought(self, part: str, weight: torch.Tensor) -> torch.Tensor | None:
        """A weight of the other network in the order of ours; None for what stays behind."""
        kind, _, rest = part.partition(".")
        task, _, name = rest.partition(".")
        if kind not in ("heads", "residuals"):
            return weight
        if task in self.apart:
            return None
        head, order = self._orders.get(task, (None, None))
        if kind == "residuals":
            return _passed_on(weight, *self._passed[task], order)
        return weight if head is None or order is None else head.reordered(name, weight, order)


def _passed_on(
    weight: torch.Tensor, before: Sequence[str], here: Sequence[str], order: torch.Tensor | None
) -> torch.Tensor | None:
    """A weight of a residual, a number for each input or for each class of each, in the order of our inputs and
    classes; None where we have an input that it has not."""
    if not set(here) <= set(before):
        return None
    each = weight.unflatten(0, (len(before), -1))[[before.index(column) for column in here]]
    classes = order is not None and each.shape[1] == len(order) and weight.numel() != len(before)
    return (each[:, order] if classes else each).flatten(0, 1)


def _translation(before: Input | Task, here: Input | Task) -> Translation:
    """Of numbers on a scale of their own the unit makes no difference; how far they go is the data's."""
    theirs, ours = (replace(one.modality.meaning, range=None) for one in (before, here))
    if before.scale.mean and here.scale.mean and quantity.factor(theirs.unit, ours.unit) is not None:
        theirs, ours = replace(theirs, unit=""), replace(ours, unit="")
    how = translation(theirs, ours, ("that network", "this one"))
    if how.factor != 1.0:
        raise MeaningsDiffer(f"the unit of that network: {theirs.unit}; of this one: {ours.unit}")
    return how


def _foreign(name: str, column: str, why: str) -> str:
    return (
        f"start: {column} does not mean in {name} what it means here: {why}. Next: give its modality the classes and "
        "the unit of that network, the column another name, or start from another network"
    )


@torch.no_grad()
def take(storage: Storage, origin: Origin, model: MultiTask) -> LoadedWeights:
    """Set the weights of `model` to those of `origin` that fit. Raises Misfit when none does, or, if all must, when one
    does not."""
    theirs = _stored(storage, origin)
    about = Architecture.from_json(json.loads(storage.read(origin.about))) if origin.about else None
    columns = about.columns if about else model.architecture.columns
    others = _renamed({part: theirs[name] for name, part in parts.named(theirs, columns).items()}, origin)
    mine = model.state_dict()
    whole, cut = list[str](), list[str]()
    selected, absent, other, apart = [], [], [], []
    meanings = Meanings(origin.name, model.architecture, about) if about else None
    places = InputPlaces(model, about)
    for name, part in parts.named(mine, model.architecture.columns).items():
        value = others.pop(part, None)
        if value is None:
            absent.append(part)
        elif meanings is not None and (value := meanings.brought(part, value)) is None:
            apart.append(part)
        elif value.shape == mine[name].shape:
            (whole if places.put(mine[name], value, name) else cut).append(part)
        elif origin.select and (chosen := _chosen(mine[name], value, model.architecture, about)) is not None:
            selected.append(part)
            if chosen.shape == mine[name].shape:
                places.put(mine[name], chosen, name)
            elif about is not None:
                _slices(mine[name], chosen, model.architecture, about)
        elif about is not None and _slices(mine[name], value, model.architecture, about):
            cut.append(part)
        else:
            other.append(part)
    why = meanings.why if meanings else []
    taken = LoadedWeights(whole, cut, absent, other, list(others), apart, selected, why)
    if not whole and not cut and not selected:
        advice = _advice(model, about) if about or origin.names else _names(model, others)
        raise Misfit(f"start: nothing of {origin.name} fits the network ({taken}). {advice}")
    if origin.whole and (cut or selected or absent or other or apart):
        raise Misfit(
            f"start: {origin.name} does not fill the network: {taken}. {_advice(model, about)}, or whole: false"
        )
    return taken


def _stored(storage: Storage, origin: Origin) -> dict[str, torch.Tensor]:
    try:
        return read_state(storage.read(origin.weights), origin.weights)
    except ValueError as error:
        raise Misfit(f"start: {origin.name}: {error}") from error


def _renamed(others: Mapping[str, torch.Tensor], origin: Origin) -> dict[str, torch.Tensor]:
    """Weights of another program by the names of parts. Raises Misfit for a name that none begins with."""
    if not origin.names:
        return dict(others)
    renamed: dict[str, torch.Tensor] = {}
    for theirs, ours in origin.names:
        mine = {n: v for n, v in others.items() if not theirs or n == theirs or n.startswith(f"{theirs}.")}
        if not mine:
            raise Misfit(f"start: names: no weight of {origin.name} begins with {theirs!r}{near(theirs, others)}")
        renamed |= {ours + n[len(theirs) :] if theirs else f"{ours}.{n}": v for n, v in mine.items()}
    return renamed


def _chosen(
    mine: torch.Tensor, theirs: torch.Tensor, here: Architecture, other: Architecture | None
) -> torch.Tensor | None:
    """Evenly spaced filters and channels of a weight that is at least as large each way, as many as `mine` has; the
    axis that counts inputs as it is, where the two networks have others. None for what is smaller anywhere."""
    if mine.ndim != theirs.ndim:
        return None
    counts = [(s(here), s(other)) for s in (_planes, _one)] if other is not None else []
    inputs = {(sum(a.values()), sum(b.values())) for a, b in counts if a != b}
    for axis, (few, many) in enumerate(zip(mine.shape, theirs.shape)):
        if few == many or (few, many) in inputs:
            continue
        if few > many:
            return None
        theirs = theirs.index_select(axis, torch.arange(few) * many // few)
    apart = [axis for axis, (a, b) in enumerate(zip(mine.shape, theirs.shape)) if a != b]
    return theirs if len(apart) < 2 else None


class InputPlaces:
    """Where inputs have their slices in weights of one shape, if the network `before` has them in another order than
    `model`. An input that has another name there takes the slice of the one in its place, unless that is ours too."""

    def __init__(self, model: MultiTask, before: Architecture | None):
        self._here, self._before = model.architecture, before
        same = before is None or before.columns == model.architecture.columns
        self._axes = {} if same else _counting_inputs(model)

    def put(self, mine: torch.Tensor, theirs: torch.Tensor, name: str) -> bool:
        """Set the weight `name` of the model; had every input a slice there?"""
        axis, before = self._axes.get(name, -1), self._before
        for own, others in ((s(self._here), s(before)) for s in (_planes, _one)) if axis >= 0 and before else ():
            if (mine.shape[axis], theirs.shape[axis]) == (sum(own.values()), sum(others.values())):
                sources = dict(zip(own, self._sources(list(own), list(others)), strict=True))
                fitting = {c: source for c, source in sources.items() if source and own[c] == others[source]}
                for column, source in fitting.items():
                    _slice(mine, axis, own, column).copy_(_slice(theirs, axis, others, source))
                return len(fitting) == len(own)
        mine.copy_(theirs)
        return True

    @staticmethod
    def _sources(own: Sequence[str], others: Sequence[str]) -> Iterator[str]:
        for place, column in enumerate(own):
            renamed = others[place] if place < len(others) and others[place] not in own else ""
            yield column if column in others else renamed


def _counting_inputs(model: MultiTask) -> dict[str, int]:
    """By weight the axis along which it has a slice for each input: that which grows with one more of them."""
    here = model.architecture
    more = replace(here, inputs=(*here.inputs, replace(here.inputs[0], column=f"{here.inputs[0].column}~")))
    try:
        with torch.device("meta"):
            grown = MultiTask(more).state_dict()
    except (ValueError, RuntimeError, TypeError):
        return {}  # it reads one input alone
    axes: dict[str, int] = {}
    for name, weight in model.state_dict().items():
        wider = grown[name].shape if name in grown else weight.shape
        apart = [axis for axis, (a, b) in enumerate(zip(weight.shape, wider)) if a != b]
        axes |= {name: apart[0]} if len(apart) == 1 else {}
    return axes


def _slices(mine: torch.Tensor, theirs: torch.Tensor, here: Architecture, other: Architecture) -> bool:
    """Copy the slices of common inputs, where exactly one dimension counts inputs or their planes; was it so?"""
    apart = [d for d, (a, b) in enumerate(zip(mine.shape, theirs.shape)) if a != b]
    if mine.ndim != theirs.ndim or len(apart) != 1:
        return False
    for size in (_planes, _one):
        own, others = size(here), size(other)
        if (mine.shape[apart[0]], theirs.shape[apart[0]]) == (sum(own.values()), sum(others.values())):
            for column in own:
                if own[column] == others.get(column):
                    _slice(mine, apart[0], own, column).copy_(_slice(theirs, apart[0], others, column))
            return True
    return False


def _slice(value: torch.Tensor, dimension: int, sizes: Mapping[str, int], column: str) -> torch.Tensor:
    columns = list(sizes)
    first = sum(sizes[c] for c in columns[: columns.index(column)])
    return value.narrow(dimension, first, sizes[column])


def _planes(architecture: Architecture) -> dict[str, int]:
    return architecture.planes


def _one(architecture: Architecture) -> dict[str, int]:
    return dict.fromkeys(architecture.columns, 1)


def _advice(model: MultiTask, about: Architecture | None) -> str:
    mine = model.architecture.trunk
    if about is None or (about.trunk.type, about.trunk.width) == (mine.type, mine.width):
        return "Next: start from another network"
    advice = (
        f"Next: model: {{trunk: {{type: {about.trunk.type}, width: {about.trunk.width}}}}}, which is that network's"
    )
    wider = about.trunk.type == mine.type and (about.trunk.width or 0) > (mine.width or 0)
    return advice + (", or select: true, which takes evenly spaced filters of it" if wider else "")


def _options(mine: Trunk, theirs: Trunk) -> list[str]:
    """What else the other network was, where its trunk is of the same kind: its weights fit, and mean less here."""
    ours, before = (payload(trunk) for trunk in (mine, theirs))
    names = sorted(n for n in {*ours, *before} if n not in ("revision", "width") and ours.get(n) != before.get(n))
    return [f"its trunk had other {' and '.join(names)}"] if names and mine.type == theirs.type else []


def _names(model: MultiTask, others: Mapping[str, torch.Tensor]) -> str:
    """Of a file of another program, whose weights have names of its own."""
    ours = parts.named(model.state_dict(), model.architecture.columns).values()
    return (
        f"Its weights are called {', '.join(list(others)[:3])}, .., here they are {', '.join(list(ours)[:3])}, ... "
        'Next: say what is what, as in names: {backbone.stem: trunk.enter}, or {"": trunk} where all are the trunk\'s'
    )


def _named(names: Sequence[str]) -> str:
    """The names, or the parts they are in where there are many."""
    short = list(dict.fromkeys(".".join(n.split(".")[:2]) for n in names))
    return ", ".join(short[:6]) + (f" and {len(short) - 6} more" if len(short) > 6 else "")
