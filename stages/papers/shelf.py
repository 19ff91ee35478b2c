"""The recipes of papers below a folder, and how each stands: fresh, stale, never run, or without its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from hyperloom.pipeline.errors import HyperloomError, RecipeError, SourceError
from hyperloom.pipeline.host import project
from hyperloom.pipeline.host.project import Project
from hyperloom.pipeline.planning.plan import PlannedStep, StepMeaning, check, identities, plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.recipes.paper import Paper
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near
from hyperloom.stages.papers import record
from hyperloom.stages.papers.moved import moved, outline
from hyperloom.stages.papers.record import PaperRecord
from hyperloom.stages.verdict.stage import VerdictStage

RecordState = Literal["fresh", "stale", "never", "no data"]


@dataclass
class PaperRecipe:
    """One recipe with a `paper:`; `root` is where its steps are kept."""

    path: Path
    loaded: RecipeFile
    root: str
    digests: Digests
    """Shared by a whole shelf: what several read is looked at once."""
    project: Project
    """In which its recipe was read: two papers may each have a module of one name beside them."""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def family(self) -> str:
        return self.path.parent.name

    @property
    def title(self) -> str:
        return f"{self.family}/{self.name}"

    @property
    def paper(self) -> Paper:
        assert self.loaded.recipe.paper is not None
        return self.loaded.recipe.paper

    @property
    def verdict(self) -> str:
        """The step that says what came of it. Raises RecipeError unless there is one."""
        steps = [name for name, step in self.loaded.recipe.steps.items() if isinstance(step, VerdictStage)]
        if len(steps) != 1:
            raise RecipeError(f"{self.path}: a paper ends in one step of stage verdict, here are {len(steps)}")
        return steps[0]

    @property
    def step(self) -> VerdictStage:
        """The step of that name."""
        return self.loaded.recipe.steps[self.verdict]  # type: ignore[no-any-return]

    @cached_property
    def record(self) -> PaperRecord | None:
        return record.read(self.path)

    def enter(self) -> None:
        """Make what the recipe names come from its own project."""
        if project.current().folders != self.project.folders:
            project.leave()
            self.project.enter()

    def planned(self) -> dict[str, PlannedStep]:
        """The verdict step as it would be made now, and what it rests on. Raises SourceError where its data is not
        there."""
        self.enter()
        storage = Storage(self.root)
        return {step.name: step for step in plan(self.loaded, storage, Digests(storage), [self.verdict])}

    @cached_property
    def standing(self) -> RecordState:
        """Neither the plan nor the root is asked for it: a record is fresh as long as it says what was written, and its
        verdict would be the same."""
        if self.record is None:
            return "never"
        if not self.record.whole:
            return "stale"
        try:
            now = self._meanings[self.verdict].fingerprint
            self.digests.save()
            return "fresh" if self.record.fingerprint == now else "stale"
        except SourceError:
            return "no data"

    def mistakes(self) -> str:
        """What its steps say to be wrong before anything runs; empty where nothing is."""
        self.enter()
        try:
            check(self.loaded, [self.verdict])
        except RecipeError as error:
            return str(error)
        return ""

    def outline(self) -> dict[str, Any]:
        """What each step is that the verdict rests on, as a record keeps it."""
        return outline(self.loaded, self._meanings)

    def moved(self) -> list[str]:
        """The lines that differ from those of its record, a sentence each."""
        if self.record is None:
            return []
        if not self.record.whole:
            return ["what it says is nobody's verdict: its seal does not fit"]
        return moved(self.record.steps, self.outline())

    @cached_property
    def _meanings(self) -> dict[str, StepMeaning]:
        self.enter()
        return identities(self.loaded, self.digests, [self.verdict])


def papers(folder: str, chosen: Iterable[str] = (), root: str = "runs/papers") -> list[PaperRecipe]:
    """The papers below `folder`, by number; of those only the ones `chosen` by family, number or name. Raises
    RecipeError where there is none, for what is chosen and not there, and for a recipe that is wrong."""
    digests = Digests(Storage(root), once=True)
    listed = sorted(_below(Path(folder), root, digests), key=lambda one: (one.paper.id, one.name))
    if not listed:
        raise RecipeError(f"{folder} holds no recipe with a `paper:`. Next: --folder, or run it in a checkout")
    _one_paper_an_id(listed)
    names = [str(int(name)) if name.isdecimal() else name for name in chosen]
    known = [name for one in listed for name in (one.family, one.name, str(one.paper.id))]
    for name in names:
        if name not in known:
            raise RecipeError(f"no paper or family {name!r}{near(name, known)}")
    return [one for one in listed if not names or {one.family, one.name, str(one.paper.id)} & {*names}]


def _one_paper_an_id(listed: Iterable[PaperRecipe]) -> None:
    """Raise RecipeError where two papers have one number; several recipes of a paper cite it in the same words."""
    first: dict[int, PaperRecipe] = {}
    for one in listed:
        other = first.setdefault(one.paper.id, one)
        if other.paper.cite != one.paper.cite:
            what = f"the paper of this id is {other.paper.cite!r} in {other.path}, and {one.paper.cite!r} here"
            raise one.loaded.error(("paper", "id"), f"{what}. Next: another id, or cite it in the same words")


def _below(folder: Path, root: str, digests: Digests) -> Iterator[PaperRecipe]:
    for path in sorted(folder.rglob("*.yaml")):
        if "\npaper:" not in f"\n{path.read_text(encoding='utf-8')}":
            continue
        project.leave()
        try:
            loaded = recipe.load(path)
        except HyperloomError as error:
            raise RecipeError(str(error)) from error
        if loaded.recipe.paper is not None:
            yield PaperRecipe(path, loaded, f"{root}/{path.parent.name}-{path.stem}", digests, project.current())
