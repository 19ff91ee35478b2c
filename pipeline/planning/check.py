"""The check: what a recipe's steps can know to be wrong before anything runs.

Each stage says from its config and from the schemas of its inputs what it reads and what it gives (`Stage.check`). The
steps are gone through in their order, so a mistake of the last step is said in the first second; all mistakes that do
not follow from one another are said together, each with its line.

What only the listing of a source tells (groups, counts) is asked `later`: after the plan has listed and digested the
files, and only when some step is not done. What only the data can tell (values, statistics) is said where it is read.
A stage without `check` gives a schema that nobody knows, and what reads it is not checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hyperloom.pipeline import expecting
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.recipes.recipe import RecipeFile, Where
from hyperloom.pipeline.spelling import near

if TYPE_CHECKING:
    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.pipeline.stage import Stage


@dataclass(frozen=True)
class Schema:
    """Base of what a step gives, known before it ran. The stages derive one for each kind of result."""

    noun: ClassVar[str] = "result"
    """What messages call it."""


S = TypeVar("S", bound=Schema)


@dataclass(frozen=True)
class Listed:
    """What a plan knows of the world outside the recipe: digests of files, and manifests of the steps that are done."""

    digests: Digests
    manifests: Mapping[str, Manifest]


Later = Callable[[Listed], None]


@dataclass
class StepCheck:
    """One step that is checked. `inputs`: by step name its schema, None where nobody knows it."""

    name: str
    stage: Stage
    modalities: Mapping[str, Any]
    inputs: Mapping[str, Schema | None]
    mistakes: list[tuple[Where, str]] = field(default_factory=list)
    delayed: list[Later] = field(default_factory=list)

    def mistake(self, where: Where, message: str) -> None:
        """Note a mistake; `where` is the path of the field within the step, as in ("targets", "depth")."""
        if (where, message) not in self.mistakes:
            self.mistakes.append((where, message))

    def unknown(self, where: Where, name: str, what: str, known: Iterable[str]) -> None:
        """Note that `name` is none of `known`; `what` comes before it, as in "'shards' has no column"."""
        known = list(known)
        self.mistake(where, f"{what} {name!r}{near(name, known) or '; known: ' + (', '.join(sorted(known)) or 'none')}")

    def read(self, where: Where, name: str, kind: type[S]) -> S | None:
        """The schema of an input; None where nobody knows it, or where it is of another kind, which is a mistake."""
        schema = self.inputs.get(name)
        if schema is None or isinstance(schema, kind):
            return schema
        self.mistake(where, f"{name!r} gives {schema.noun}; wanted here: {kind.noun}")
        return None

    def later(self, function: Later) -> None:
        """Call `function` once the sources are listed."""
        self.delayed.append(function)


class Check:
    """The check of a recipe's steps `names`, in the order in which they run."""

    def __init__(self, loaded: RecipeFile, names: Iterable[str]):
        self.loaded = loaded
        self.steps: dict[str, StepCheck] = {}
        schemas: dict[str, Schema | None] = {}
        recipe = loaded.recipe
        for name in names:
            stage = recipe.steps[name]
            inputs = {read: schemas[read] for read in recipe.reads(name)}
            step = self.steps[name] = StepCheck(name, stage, recipe.modalities, inputs)
            schemas[name] = _checked(step)
            if not step.mistakes:
                _defined(step)
        self._raise()

    def listing(self, listed: Listed) -> None:
        """Go through what had to wait for the listing. Raises RecipeError."""
        for step in self.steps.values():
            for function in step.delayed:
                function(listed)
        self._raise()

    def _raise(self) -> None:
        problems = [
            (("steps", name, *where), f"step {name!r}: {message}")
            for name, step in self.steps.items()
            for where, message in step.mistakes
        ]
        if problems:
            raise self.loaded.errors(problems)


def _checked(step: StepCheck) -> Schema | None:
    try:
        schema = step.stage.check(step)
        expecting.check(step, schema)
        return schema
    except RecipeError as error:
        step.mistake((), str(error))
        return None


def _defined(step: StepCheck) -> None:
    """Every modality that the step's identity depends on is one of the recipe's."""
    for modality in sorted(step.stage.uses() - set(step.modalities)):
        step.unknown((), modality, "the recipe defines no modality", step.modalities)
