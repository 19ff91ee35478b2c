"""Families in an evaluation: a step that trained several models which differ in nothing but chance (`seeds: 3`).

Each member is judged under a name of its own, `teacher seed0`, and `teacher` is the name of their mean; an ensemble of
models asks all of them as one instead, under the name itself. `seeds:` makes families of single steps in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hyperloom.stages.evaluate.subject import Model


@dataclass(frozen=True)
class Candidate:
    """A model that is judged: what `models:` calls it, how it is asked, and which member of its step's family it is
    (none: all there is)."""

    name: str
    model: Model
    member: str = ""


def candidates(models: Mapping[str, Model], members: Callable[[str], Sequence[str]]) -> dict[str, Candidate]:
    """Who is judged, by name. `members`: names of the members that a step trained, none for a single model."""
    named: dict[str, Candidate] = {}
    for name, model in models.items():
        family = () if model.ensemble is not None and model.ensemble.together else members(model.model)
        each = {f"{name} {member}": Candidate(name, model, member) for member in family}
        named |= each or {name: Candidate(name, model)}
    return named


def families(
    models: Mapping[str, Model], seeds: Mapping[str, Sequence[str]], judged: Mapping[str, Candidate]
) -> dict[str, tuple[str, ...]]:
    """Family -> names of its members: of the steps that trained several, and those that a recipe calls so."""
    own = {n: tuple(who for who, one in judged.items() if one.name == n) for n in models if n not in judged}
    return own | {family: tuple(w for name in names for w in own.get(name, (name,))) for family, names in seeds.items()}
