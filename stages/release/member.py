"""Which model a release hands out, where the student's step trained a family of them (`seeds: 3`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.results import Judged, Trained

if TYPE_CHECKING:
    from hyperloom.stages.release.stage import Release


def released(stage: Release, model: Manifest, report: Judged) -> tuple[str, str, list[str]]:
    """The subject of the report whose figures count, the member of a family that it is (none of a single model), and
    what to say of the choice: of a family the best by validation, else the first, unless `subject` names another.

    Raises RecipeError where the report knows the family only as a whole, which no single file can be.
    """
    once = (name for name in report.models if report.costs.get(name, {}).get("members", 1) == 1)  # as its file is asked
    names = [name for name in once if report.models[name] == model.fingerprint]
    trained = Trained.from_manifest(model)
    if not trained.members:
        return stage.subject or names[0], "", []
    members = {name: member for name, member in (report.members or {}).items() if name in names}
    subject = stage.subject or next((n for n, member in members.items() if member == trained.best), "")
    if subject not in members:
        what = f" as {stage.subject!r}" if stage.subject else ""
        raise RecipeError(
            f"{stage.model!r} is a family, and {stage.report!r} judged no member of it{what}. Next: list it under "
            f"`models:` without an ensemble of models{', or mend `subject:`' if stage.subject else ''}"
        )
    by = f"best by {trained.best_by}" if trained.best_by else "the first, since none was validated"
    why = "as `subject` says" if stage.subject else by
    return subject, members[subject], [f"{subject} of {len(trained.members)} is released: {why}"]
