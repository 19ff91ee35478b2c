"""A step of a recipe as an object: its state, its samples, its model, its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import RecipeError, StepFailed

if TYPE_CHECKING:
    from hyperloom.pipeline.api.column import ColumnArray
    from hyperloom.pipeline.api.model import Model
    from hyperloom.pipeline.planning.plan import PlannedStep
    from hyperloom.pipeline.recipes.recipe import RecipeFile
    from hyperloom.pipeline.root.storage import Storage


class PipelineStep:
    """A step as it stands now: `name`, `stage` (its stage's name), `state` (fresh, missing, stale or damaged), `why`
    in sentences, `fingerprint` (its identity), `reads` (names of steps), `config` (its fields, as the recipe names
    them)."""

    def __init__(self, loaded: RecipeFile, storage: Storage, planned: Sequence[PlannedStep], name: str):
        self._loaded, self._storage, self._planned = loaded, storage, planned
        self._step = next(step for step in planned if step.name == name)
        self.name, self.stage = name, str(self._step.stage.stage)
        self.state, self.why = self._step.state, list(self._step.why)
        self.fingerprint, self.reads = self._step.fingerprint, list(self._step.reads)

    @property
    def config(self) -> Any:
        """The stage with its fields: `step.config.epochs`."""
        return self._step.stage

    @property
    def done(self) -> bool:
        """Is there a result?"""
        return self._step.manifest is not None

    @property
    def result(self) -> dict[str, Any]:
        """What the step made, as JSON: of an evaluate step `figures`, of a train step `final`, and so on. Raises
        StepFailed while it has not run."""
        return dict(self._manifest().body)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that its samples have. Raises StepFailed, and RecipeError where it has no samples."""
        return tuple(self._reader(()).columns)

    def read(self, column: str, rows: int | None = None, start: int = 0) -> ColumnArray:
        """`rows` samples of a column from sample `start` on (all by default), as NumPy arrays in memory.

        Raises RecipeError where the step has no such column, StepFailed while it has not run.
        """
        from hyperloom.pipeline.api.column import decoded, joined

        reader = self._reader((column,))
        modality = self._modality(column)
        import pyarrow as pa

        parts = [self._part(column, one, modality) for one in reader.head(2**62 if rows is None else rows, start)]
        return joined(parts or [decoded(column, pa.nulls(0), ([], [], []), modality)])

    def batches(self, column: str) -> Iterator[ColumnArray]:
        """The same, a file or less at a time, for what does not fit into memory."""
        modality = self._modality(column)
        return (self._part(column, rows, modality) for rows in self._reader((column,)))

    def table(self, rows: int = 8, start: int = 0) -> list[dict[str, Any]]:
        """What `hyperloom data head` shows: a mapping a sample, values in words."""
        from hyperloom.stages.data.look import head

        return head(self._reader(()).head(rows, start), self._loaded.recipe.modalities)

    def model(self, ensemble: str | dict[str, Any] = "single") -> Model:
        """The model of a train, distill or release step, to predict with. `ensemble` as in recipes: `{type: masks,
        members: 8}`. Raises RecipeError where the step holds none, StepFailed while it has not run."""
        from hyperloom.pipeline.api.model import model_of

        manifests = {step.name: step.manifest for step in self._planned if step.manifest}
        return model_of(self._storage, self._manifest(), manifests, ensemble, self.name)

    def _part(self, column: str, rows: Any, modality: Any) -> ColumnArray:
        from hyperloom.pipeline.api.column import decoded

        return decoded(column, rows.columns[column], (rows.keys, rows.groups, rows.index), modality)

    def _modality(self, column: str) -> Any:
        from hyperloom.stages.data.reader import modality

        return modality(column, self._loaded.recipe.modalities)

    def _manifest(self) -> Any:
        if self._step.manifest is None:
            raise StepFailed(f"the step {self.name!r} is not done ({'; '.join(self.why)}). Next: recipe.run()")
        return self._step.manifest

    def _reader(self, columns: Sequence[str]) -> Any:
        from hyperloom.stages.data.command import reader

        self._manifest()
        return reader(self._storage, self._planned, self.name, self._loaded.path, columns)

    def __repr__(self) -> str:
        return f"PipelineStep({self.name!r}, {self.stage}, {self.state})"

    def _repr_html_(self) -> str:
        from hyperloom.pipeline.api import page

        text = page.heading(repr(self)) + page.table([self._row()])
        if self.done:
            try:
                text += "".join(self.read(column, 4)._repr_html_() for column in self.columns[:4])
            except RecipeError:
                pass  # it keeps no samples
        return text

    def _row(self) -> dict[str, Any]:
        """The step in a table of steps."""
        manifest = self._step.manifest
        units = f"{len(manifest.records)} units" if manifest and manifest.records else ""
        row = {"step": self.name, "stage": self.stage, "state": self.state, "why": "; ".join(self.why) or units}
        return row | {"rows": manifest.rows if manifest else None}
