"""Recipes: one YAML file, one pydantic model, and errors that name file and line.

`${NAME}` and `${NAME:-default}` in strings are taken from the environment, so a path can differ from machine to
machine; what is stored and shown elsewhere is the text as written (`pipeline.recipes.written`), so a secret that comes
through the environment stays there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from hyperloom.pipeline import plugins, registry
from hyperloom.pipeline.config import Config, is_secret, placement
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.fields import SCALARS, deep, step_refs
from hyperloom.pipeline.host import project
from hyperloom.pipeline.recipes import bases, variants
from hyperloom.pipeline.recipes.budget import CostBudget
from hyperloom.pipeline.recipes.document import Base, Document, SourceLine, SourceLines, place
from hyperloom.pipeline.recipes.paper import Paper
from hyperloom.pipeline.recipes.schedule import CronSchedule
from hyperloom.pipeline.recipes.written import Where, Written
from hyperloom.pipeline.secrets import BLOT
from hyperloom.pipeline.spelling import near
from hyperloom.pipeline.stage import Stage

STAGE = "stage"
"""The kind of plug-in that a step is."""


def _stage(value: Any) -> Any:
    if isinstance(value, Stage):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("stage"), str):
        known = ", ".join(registry.known("stage"))
        raise PydanticCustomError("plugin", "{message}", {"message": f"a step is a mapping with a 'stage' ({known})"})
    try:
        cls = plugins.load("stage", value["stage"])
    except PluginError as error:
        raise PydanticCustomError("plugin", "{message}", {"message": str(error)}) from error
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        raise plugins.NestedValidation(error, cls) from error


StepKey = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$")]


class Recipe(Config):
    """What a recipe file may say. Only `modalities` and `steps` bear meaning."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)
    base: str | None = placement(None)
    """Another recipe that this one builds on and changes, by its path from here (pipeline/recipes/bases.py)."""
    root: str = placement("./runs")
    """Where all state lives: a folder or any fsspec URL."""
    tracking: str | None = placement(None)
    """MLflow tracking URI; by default MLFLOW_TRACKING_URI, else a sqlite store in a local root."""
    cluster: dict[str, Any] = placement(default_factory=dict)
    """Where Ray runs; see clusters/spec.py."""
    schedule: CronSchedule | None = placement(None)
    budget: CostBudget | None = placement(None)
    """What one run may cost: {hours, gpu_hours, calls}."""
    matrix: dict[str, list[Any]] = placement(default_factory=dict)
    """Names with their values: steps that mention `${name}` are made once a value (pipeline/recipes/variants.py)."""
    paper: Paper | None = placement(None)
    """The paper whose claim this recipe tests (`hyperloom papers`)."""
    modalities: dict[str, Annotated[Any, plugins.of("modality")]]
    steps: dict[StepKey, Annotated[Any, plugins.Of(_stage, kind=STAGE)]] = Field(min_length=1)
    _reads: dict[str, tuple[Any, dict[str, Where]]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """Let each modality fill what it takes from the others (a map's size from the image's)."""
        if not isinstance(value, dict) or not isinstance(value.get("modalities"), dict):
            return value
        parsed: dict[str, Any] = {}
        for name, raw in value["modalities"].items():
            try:
                parsed[name] = plugins.parse("modality", raw)
            except (ValidationError, PluginError):
                return value  # the field's own validation reports it, with its place
        try:
            done = {n: m.completed(parsed) if hasattr(m, "completed") else m for n, m in parsed.items()}
        except ValueError as error:
            raise PydanticCustomError("modality", "{message}", {"message": str(error)}) from error
        return {**value, "modalities": done}

    def reads(self, step: str) -> list[str]:
        """Names of the steps that a step reads."""
        return list(self.references(step))

    def references(self, step: str) -> Mapping[str, Where]:
        """Names of the steps that a step reads, each with the path of the field that names it first."""
        config, known = self.steps[step], self._reads.get(step)
        if known is None or known[0] is not config:  # a copy of a recipe may have other steps
            known = self._reads[step] = config, step_refs(config)
        return known[1]


@dataclass
class RecipeFile:
    """A recipe with the text it came from, so that later errors can still name lines. `text` holds no secrets."""

    recipe: Recipe
    path: str
    text: str
    lines: SourceLines = field(default_factory=dict)
    written: Written = field(default_factory=lambda: Written(""))
    bases: tuple[Base, ...] = ()
    """What it builds on, the next first."""

    def as_written(self, payload: dict[str, Any]) -> dict[str, Any]:
        """A payload with `${NAME}` where the environment gave the value."""
        return self.written.payload(payload)

    def error(self, where: Where, message: str) -> RecipeError:
        """A RecipeError at the deepest known line of `where`."""
        return self.errors([(where, message)])

    def errors(self, mistakes: Iterable[tuple[Where, str]]) -> RecipeError:
        """One RecipeError of several mistakes, in the order of their lines."""
        lines = [(self._place(where), message) for where, message in mistakes]
        return RecipeError("\n".join(f"{at}: {message}" for at, message in sorted(lines)))

    def _place(self, where: Where) -> SourceLine:
        return place(self.lines, where) if self.lines else SourceLine(self.path, 1)


def load(path: str | Path) -> RecipeFile:
    """Read and check a recipe, in its project: what it names may lie beside it or a recipe that it builds on, or in the
    working folder. Raises RecipeError with file, line and every mistake found."""
    path = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot read the recipe {path}: {error}. Next: give the path of a recipe, such as recipes/demo.yaml"
        ) from error
    document = bases.read(text, path)
    project.enter(*document.folders, os.getcwd())
    return _checked(document, path)


def parse(text: str, path: str = "<recipe>") -> RecipeFile:
    """Check a recipe's text; `path` is only for messages."""
    return _checked(bases.read(text, path), path)


def _checked(document: Document, path: str) -> RecipeFile:
    lines, written = document.lines, document.written
    value = variants.expanded(document.value, lines, document.error, document.written.numerals)
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        messages = [f"{place(lines, w)}: {m}" for w, m in _mistakes(error, (), Recipe, written)]
        raise RecipeError("\n".join(messages)) from None
    loaded = RecipeFile(recipe, path, document.shown, lines, written, document.bases)
    if bare := list(_bare(recipe, {value for value, _ in written.given.values()})):
        raise loaded.errors(bare)
    if unknown := list(_unknown_steps(recipe)):
        raise loaded.errors(unknown)
    if recipe.schedule is not None:
        try:
            recipe.schedule.on.check(recipe.steps)
        except ValueError as error:
            raise loaded.error(("schedule", "on"), str(error)) from error
    return loaded


def _unknown_steps(recipe: Recipe) -> Iterator[tuple[Where, str]]:
    """What steps read that is no step."""
    for name in recipe.steps:
        for read, inside in recipe.references(name).items():
            if read not in recipe.steps:
                what = f"step {name!r} reads {read!r}, which is no step of this recipe{near(read, recipe.steps)}"
                yield ("steps", name, *inside), what


def validate_section(loaded: RecipeFile, section: str, model: type[Config]) -> Any:
    """Check a section that another package owns (`cluster`) with that package's model. Raises RecipeError."""
    try:
        return model.model_validate(getattr(loaded.recipe, section))
    except ValidationError as error:
        mistakes = _mistakes(error, (section,), model, loaded.written)
        raise RecipeError("\n".join(f"{place(loaded.lines, w)}: {m}" for w, m in mistakes)) from None


def _bare(config: Any, given: set[str], place: Where = ()) -> Iterator[tuple[Where, str]]:
    """Fields declared secret whose value the environment did not give."""
    if isinstance(config, BaseModel):
        for field in deep(type(config)):
            value, where = getattr(config, field.name), (*place, field.alias)
            if not field.secret:
                if not isinstance(value, SCALARS) and value is not field.default:
                    yield from _bare(value, given, where)
            elif value and value not in given:
                text = "stands in the recipe itself. Next: set a variable and write ${ITS_NAME} here"
                yield where, f"{'.'.join(map(str, where))} (a secret) {text}"
    elif isinstance(config, dict):
        for key, item in config.items():
            if not isinstance(item, SCALARS):
                yield from _bare(item, given, (*place, key))
    elif isinstance(config, list | tuple):
        for number, item in enumerate(config):
            if not isinstance(item, SCALARS):
                yield from _bare(item, given, (*place, number))


# -- errors ------------------------------------------------------------------------------------------------------------
def _mistakes(
    error: ValidationError, base: Where, model: type[Config] | None, written: Written
) -> list[tuple[Where, str]]:
    out: list[tuple[Where, str]] = []
    errors = error.errors()
    for item in errors:
        where = base + tuple(item["loc"])
        if item["type"] == "too_short" and any(e["loc"][: len(item["loc"])] == item["loc"] != e["loc"] for e in errors):
            continue  # only since what stands in it is wrong
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, plugins.NestedValidation):
            out += _mistakes(inner.error, where, inner.model, written)
            continue
        name = where[-1] if where else ""
        if item["type"] == "extra_forbidden":
            within = _within(model, item["loc"][:-1])
            known = [f.alias or n for n, f in within.model_fields.items()] if within else []
            hint = near(str(name), known) or (f"; known: {', '.join(known)}" if known else "")
            out.append((where, f"unknown field {name!r}{hint}"))
        elif item["type"] == "missing":
            out.append((where[:-1], f"the field {name!r} is missing"))
        else:
            about = model.model_fields.get(str(item["loc"][0])) if model and item["loc"] else None
            value = BLOT if about and is_secret(about) else written.value(where, item["input"])
            got = f" (got {_short(value)})" if not isinstance(item.get("input"), dict) else ""
            if item["type"] == "string_type" and (numeral := written.numerals.get(where)):
                got = f', but {numeral} is a number to YAML. Next: quote it: "{numeral}"'
            message = item["msg"].removeprefix("Value error, ")
            field = message.partition(":")[0]  # "stop: ..." of a rule over several fields is said of the field `stop`
            named = ".".join(map(str, where)) + (" (a secret)" if about and is_secret(about) else "")
            out.append(((*where, field), f"{named}: {message}{got}"))
    return out


def _within(model: type[BaseModel] | None, place: Where) -> type[BaseModel] | None:
    """The model at `place`; None where that is not known."""
    for name in place:
        known = next((f for n, f in model.model_fields.items() if name in (n, f.alias)), None) if model else None
        kinds = (known.annotation, *get_args(known.annotation)) if known else ()
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return model


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
