"""Expectations as a recipe writes them, on any step.

    expect:
      semantic@truth: {missing: 0.1, classes: [road], share: {road: [0.05, 0.9]}}
      depth@midas: {mean: [2, 20], range: [0, 80], each_group: [50, null], warn: true}
      semantic@votes: {agreement: [0.6, null], drift: {step: frames_before, most: 0.1}}
      samples: {train: 1000, test: 100}        # of a step without splits: samples: 1000
      groups: {train: 10}
      each_group: [20, null]                   # samples of every group
      figures: {student: {semantic.miou: [0.4, null]}}

Of shards, columns are judged over the training split, else over all samples of the step. Figures are those of a model's
end or of a report, by the names they have there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from hyperloom.pipeline.config import Config, StepName
from hyperloom.pipeline.plugins import NestedValidation
from hyperloom.stages.base import modality_of

COUNTED = ("samples", "groups")
"""What is expected of splits, or of the whole, instead of a column."""
EACH_GROUP, FIGURES = "each_group", "figures"
SPLITS = ("train", "val", "test")
Bounds = tuple[float | None, float | None]
"""The lowest and the highest; null for any."""
_BOUNDS: TypeAdapter[Bounds] = TypeAdapter(Bounds)


class Likeness(Config):
    """How far a column may have moved from what `step` holds of it (`column`: of another one there). `js`: the
    Jensen-Shannon distance of its classes or numbers in the same bins, 0 to 1; `psi`; `ks`; `shift`: the difference of
    the means in standard deviations of the other."""

    step: StepName
    most: float = Field(gt=0)
    measure: Literal["js", "psi", "ks", "shift"] = "js"
    column: str = ""


class Expectation(Config):
    """Of a column: the highest share of samples without it, classes that occur, the share of a class among what is
    known (where a sample may have several: of the samples), bounds of the mean, of all numbers, of the samples that
    every group has, of the agreement of each source with a consensus (or of single sources, by column), and how far it
    may have moved from another step."""

    missing: float | None = Field(None, ge=0, le=1)
    classes: tuple[str, ...] = ()
    share: dict[str, Bounds] = {}
    mean: Bounds | None = None
    range: Bounds | None = None
    each_group: Bounds | None = None
    agreement: Bounds | dict[str, Bounds] | None = None
    drift: Likeness | None = None
    warn: bool = False

    @field_validator("mean", "range", "each_group")
    @classmethod
    def _rising(cls, value: Bounds | None) -> Bounds | None:
        return rising(value)

    @field_validator("share", "agreement")
    @classmethod
    def _all_rising(cls, value: Any) -> Any:
        for bounds in value.values() if isinstance(value, dict) else [value]:
            rising(bounds)
        return value


def rising(value: Bounds | None) -> Bounds | None:
    """Raises ValueError for bounds the wrong way round."""
    if value and None not in value and value[0] > value[1]:  # type: ignore[operator]
        raise ValueError(f"expected the lower number first, got {list(value)}")
    return value


def parsed(value: Any) -> dict[str, Any]:
    """`expect:` of a recipe. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expect: expected columns, samples or groups by name, got {value!r}")
    expected: dict[str, Any] = {}
    for name, written in value.items():
        if name in COUNTED:
            expected[name] = _counts(name, written)
        elif name == EACH_GROUP:
            expected[name] = _bounds(name, written)
        elif name == FIGURES:
            expected[name] = dict(_figures((), written))
        elif "@" not in str(name):
            raise ValueError(f"expect: {name!r}: expected columns, samples or groups by name, each_group or figures")
        else:
            modality_of(name)
            expected[name] = _of_column(written)
    return expected


def columns(expected: Mapping[str, Any]) -> dict[str, Expectation]:
    """What is expected of columns."""
    return {name: one for name, one in expected.items() if isinstance(one, Expectation)}


def lines(expected: Mapping[str, Any]) -> list[str]:
    """Each as a plan shows it."""
    return [f"{name}: {json.dumps(_shown(name, one))}" for name, one in expected.items()]


def written(bounds: Bounds) -> str:
    return f"[{', '.join('null' if b is None else f'{b:g}' for b in bounds)}]"


def within(number: float, bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or number >= low) and (high is None or number <= high)


def _of_column(value: Any) -> Expectation:
    try:
        return Expectation.model_validate(value)
    except ValidationError as error:
        raise NestedValidation(error, Expectation) from error


def _shown(name: str, one: Any) -> Any:
    if isinstance(one, Expectation):
        return one.model_dump(mode="json", exclude_defaults=True)
    return {"/".join(place): bounds for place, bounds in one.items()} if name == FIGURES else one


def _counts(name: str, value: Any) -> dict[str, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"expect: {name}: expected a whole number, or one by split, got {value!r}")
    for split, least in value.items():
        if split not in ("", *SPLITS) or not isinstance(least, int) or isinstance(least, bool):
            raise ValueError(f"expect: {name}: {split!r}: expected the lowest number by split ({', '.join(SPLITS)})")
    return dict(value)


def _bounds(name: str, value: Any) -> Bounds:
    try:
        bounds = rising(_BOUNDS.validate_python(value))
    except ValidationError as error:
        raise ValueError(f"expect: {name}: expected [lowest, highest], got {value!r}") from error
    assert bounds is not None
    return bounds


def _figures(place: tuple[str, ...], value: Any) -> list[tuple[tuple[str, ...], Bounds]]:
    if isinstance(value, Mapping):
        parts = [(k if isinstance(k, tuple) else (str(k),), inner) for k, inner in value.items()]
        return [one for key, inner in parts for one in _figures((*place, *key), inner)]
    return [(place, _bounds(f"{FIGURES}: {'/'.join(place)}", value))]
