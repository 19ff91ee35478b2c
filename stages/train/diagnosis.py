"""The diagnosis of a training: does the network fit what it was taught, and does that carry over to other samples?

The loop measures both while it trains (`stages.train.validation`): `fit.task.figure` on a share of the training samples
against what teaches the task most, `val.task.figure` on the split `val`. From the last of them follow the sentences
here. They steer nothing. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperloom.stages.measure.measure import directions

if TYPE_CHECKING:
    from hyperloom.stages.balance.balancers import Balancer
    from hyperloom.stages.network.architecture import Task

SAMPLES = 64
"""So many training samples are looked at, or a batch, if that is more."""
CLASSES = 64
"""Tasks of more classes are not looked at class by class."""
FITS = {"classes": 0.7, "numbers": 0.5}
"""From here on a network fits its samples: a figure where 1 is best, or the share of a column's deviation that the mean
absolute error leaves out."""
TRIAL = 100
"""Of a training of fewer updates nothing is said: a pilot or a test is not meant to fit."""
CARRIES = 0.15
"""So much may the same figure be worse on other samples."""
CLIPPED, CLIPS = "clipped.", 0.05
"""How the figure begins that says which share of the samples an augmentation clipped, and how many it may."""
DEAD, DIES = "dead", 0.25
"""The figure of how large a share of the filters is dead (stages.train.dead), and how large it may be."""


def sentences(
    figures: Mapping[str, float],
    tasks: Sequence[Task],
    modalities: Mapping[str, Any],
    updates: int,
    balancer: Balancer | None = None,
) -> list[str]:
    """What is to be said of a training that ended with `figures` after so many updates; nothing of tasks that nobody
    could measure. Which tasks others may have held back is said with what `balancer`, of several tasks, lets a recipe
    change: how a task does alone nobody has measured."""
    if updates < TRIAL:
        return []
    every = [_task(figures, task, modalities[task.name]) for task in tasks]
    of_tasks = [sentence for of_task in every for sentence in of_task]
    return [*of_tasks, *_held_back(figures, tasks, modalities, balancer), *_dead(figures.get(DEAD, 0.0))]


def _dead(share: float) -> list[str]:
    """Of filters that a ReLU silences."""
    if share <= DIES:
        return []
    return [
        f"{share:.0%} of its filters are dead: they answer nothing on any sample that was looked at, and learn nothing "
        "more. A lower rate, or `trunk: {type: unet, activation: leaky}`, whose filters cannot die; for small pictures "
        "fewer `dilations`, since those as large as the bottom, an eighth of the sides, see one pixel each"
    ]


def _held_back(
    figures: Mapping[str, float], tasks: Sequence[Task], modalities: Mapping[str, Any], balancer: Balancer | None
) -> list[str]:
    """Of tasks that do not fit beside others that do: what was learned is their loss."""
    fits = {task.name: _fits(figures, task, modalities[task.name]) for task in tasks}
    learned = [name for name, well in fits.items() if well]
    if balancer is None or not learned:
        return []
    beside = f"{' and '.join(learned)} {'does' if len(learned) == 1 else 'do'}"
    return [
        f"{task.name} does not fit, {beside}: other tasks may leave it worse than alone, which was not measured; "
        f"{balancer.remedy(task.name, task is tasks[0])}, or train it without them"
        for task in tasks
        if fits[task.name] is False
    ]


def _fits(figures: Mapping[str, float], task: Task, modality: Any) -> bool | None:
    """Does a task fit the samples that it was trained on? None where nobody knows."""
    fit = figures.get(f"fit.{task.name}.{modality.metric}")
    goodness = None if fit is None else _goodness(task, modality, fit)
    return None if goodness is None else goodness >= FITS["numbers" if task.regression else "classes"]


def clipped(figures: Mapping[str, float]) -> list[str]:
    """What is to be said of pictures that an augmentation turned into plain black and white (stages.train.clipping)."""
    return [
        f"augment: {value:.0%} of the first samples of {name.removeprefix(CLIPPED)} lose over a quarter of their "
        "picture to plain black or white: a smaller `brightness`, a shift, or `exposure` in its place, a factor"
        for name, value in figures.items()
        if name.startswith(CLIPPED)
    ]


def _task(figures: Mapping[str, float], task: Task, modality: Any) -> list[str]:
    name, metric = task.name, modality.metric
    fit, val = figures.get(f"fit.{name}.{metric}"), figures.get(f"val.{name}.{metric}")
    words: list[str] = []
    goodness = None if fit is None else _goodness(task, modality, fit)
    if fit is not None and goodness is not None:
        known = f"{metric} {fit:.3g} on samples that it was trained on"
        carried = None if val is None else _goodness(task, modality, val)
        if not _fits(figures, task, modality):
            words.append(f"{name} does not fit its own samples ({known}): train longer, wider, or fewer tasks")
        elif carried is not None and carried < goodness - CARRIES:
            more = f"fits its samples ({known}) and does not carry over ({val:.3g} on val)"
            words.append(f"{name} {more}: more unlabelled data, or augmentation")
    never = [n for n in modality.counted if figures.get(f"fit.{name}.iou.{n}") == 0]
    if never:
        words.append(f"{name} never predicts {', '.join(never)} correctly, though its training samples have them")
    return words


def _goodness(task: Task, modality: Any, value: float) -> float | None:
    """1 for a perfect figure, 0 for one that is worth nothing; None where nothing tells."""
    if directions(modality)[modality.metric]:
        return value
    spread = sum(task.scale.std) / len(task.scale.std) if task.scale.std else 0.0
    return 1 - value / spread if modality.metric == "mae" and spread > 0 else None
