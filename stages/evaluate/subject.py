"""Subjects: who is judged. A source of columns in the shards (an expert, a consensus) or a model that predicts.

A source makes one subject for all its modalities: `color` of `semantic@color` and `normals@color`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from hyperloom.pipeline.config import Config, StepName
from hyperloom.pipeline.plugins import of
from hyperloom.stages.base import modality_of, source_of
from hyperloom.stages.network.ensemble import Single
from hyperloom.stages.schema import MadeBy

SubjectKind = Literal["expert", "consensus", "model"]
ORDER: tuple[SubjectKind, ...] = ("expert", "consensus", "model")


class Model(Config):
    """A trained model and how it is asked: `{model: teacher, ensemble: {type: masks, members: 8}}`."""

    model: StepName
    ensemble: Annotated[Any, of("ensemble")] | None = None
    """Plug-in of kind ensemble; by default the model is asked once, with all it can see."""

    @property
    def several(self) -> bool:
        """Is more than one answer asked of it, to be pooled?"""
        return self.ensemble is not None and not isinstance(self.ensemble, Single)


@dataclass(frozen=True)
class Subject:
    """Who is judged, and by which columns of the shards (none for a model)."""

    name: str
    kind: SubjectKind
    columns: tuple[str, ...] = ()


def subjects(columns: Mapping[str, MadeBy], taken: Iterable[str]) -> list[Subject]:
    """The subjects that `columns`, by who made them, are of; experts before consensus. A name that is `taken` gets
    ` labels` added."""
    columns_of: dict[str, tuple[SubjectKind, list[str]]] = {}
    for column, by in columns.items():
        if by == "people":  # they are asked, not judged
            continue
        name = source_of(column)
        name = f"{name} labels" if name in set(taken) else name
        columns_of.setdefault(name, ("expert" if by == "raw" else by, []))[1].append(column)
    listed = [Subject(name, kind, tuple(own)) for name, (kind, own) in columns_of.items()]
    return sorted(listed, key=lambda s: (ORDER.index(s.kind), s.name))


def judged(columns: Iterable[str], truth: Mapping[str, str]) -> list[str]:
    """Those of `columns` that tell a modality of `truth` and are not the truth itself, sorted."""
    return sorted(c for c in columns if modality_of(c) in truth and c not in truth.values())
