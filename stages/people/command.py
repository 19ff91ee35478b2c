"""What `hyperloom export --to label-studio|cvat|coco` and `hyperloom import --from` do; each imports what it needs."""

from __future__ import annotations

import os
from typing import Any

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError


def send(given: Any, loaded: Any, storage: Any, planned: Any) -> int:
    """Samples of a step out to people."""
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.data.versions import named
    from hyperloom.stages.people.export import Export, Sending

    modalities = loaded.recipe.modalities
    step = named(given.step, planned, given.recipe)
    columns = list(given.columns) or _own(step, modalities, given.to)
    if len(columns) != 1:
        what = f"columns of {given.step}: {', '.join(columns) or 'none that it can hold'}"
        raise RecipeError(f"{given.to} gets one column at a time ({what}). Next: --columns with one of them")
    sending = Sending(
        columns[0], given.picture or _picture(planned, modalities), given.to, given.order, given.most, given.again,
        given.folder, given.only,
    )  # fmt: skip
    inside = f"sent/{loaded.recipe.name}/{given.step}-{given.to}"  # a source may read all of the working folder
    out = given.out or storage.full(inside)
    export = Export(storage, planned, modalities, sending)
    counts = export.write(Storage(out))
    given.answer = {**counts, "column": export.ledger.column, "to": out}
    kept = f"; {counts['answered']} have an answer and stay (--again sends them too)" if counts["answered"] else ""
    print(f"wrote {counted(counts['samples'], 'sample')}, {counts['predicted']} with {columns[0]}, below {out}{kept}")
    back = f"hyperloom import FILE --from {given.to} --recipe {given.recipe}"
    print(f"what people change comes back as {export.ledger.column}: {back}")
    return 0


def bring_back(given: Any, loaded: Any, storage: Any) -> int:
    """What people changed back in."""
    from hyperloom.stages.base import modality_of
    from hyperloom.stages.people import importing
    from hyperloom.stages.people.ledger import PeopleLedger

    column = importing.column_named(storage.names("answers"), given.column)
    modalities = loaded.recipe.modalities
    if modality_of(column) not in modalities:
        raise RecipeError(f"{column}: the recipe defines no modality {modality_of(column)!r}. Next: --column")
    if given.confirmed and given.source != "label-studio":
        raise RecipeError(f"--confirmed: {given.source} does not say which pictures somebody has looked at")
    annotations = importing.read_file(given.directory, given.source)
    report = importing.take(
        PeopleLedger(storage, column), modalities[modality_of(column)], annotations, given.confirmed, given.who,
        importing.file_time(given.directory), given.max_quarantine, given.source == "label-studio",
    )  # fmt: skip
    given.answer = {"column": column, **report.as_json()}
    for line in report.lines(column):
        print(line)
    if report.classes:
        from hyperloom.pipeline.output.tables import table

        print(table([{"from": a, "to": b, "count": n} for (a, b), n in report.classes.most_common(10)]))
    reads = [n for n, stage in loaded.recipe.steps.items() if column in getattr(stage, "columns", ())]
    _next(given.recipe, column, reads)
    return 0


def _next(recipe: str, column: str, reads: list[str]) -> None:
    if reads:
        print(f"hyperloom run {os.path.relpath(recipe)} takes them up in {', '.join(reads)}")
    else:
        print(f"no step has them yet. Next: `people: {{stage: people, data: [STEPS], columns: {column}}}` in {recipe}")


def _own(step: Any, modalities: Any, tool: str) -> list[str]:
    """The columns of a step that a tool can hold, but for people's own."""
    from hyperloom.stages.base import is_human, modality_of
    from hyperloom.stages.people.markup import HELD
    from hyperloom.stages.results import Samples

    samples = Samples.of(step.manifest) if step.manifest else None
    if samples is None:
        why = "; ".join(step.why) or f"a {step.stage.stage} step has no samples"
        raise RecipeError(f"nothing of {step.name!r} can go out: {why}. Next: hyperloom run, or another step")
    own = [c for c in samples.columns if modality_of(c) in modalities and not is_human(c)]
    return [c for c in own if modalities[modality_of(c)].markup in HELD[tool]]


def _picture(planned: Any, modalities: Any) -> str:
    """The first column of pictures that an ingest step gives."""
    from hyperloom.stages.base import modality_of
    from hyperloom.stages.results import Ingested

    for step in planned:
        samples = Ingested.of(step.manifest) if step.manifest else None
        for column in samples.columns if samples else ():
            if getattr(modalities.get(modality_of(column)), "rgb", False):
                return str(column)
    raise RecipeError("no ingest step that is done gives pictures. Next: --picture with a column of pictures")
