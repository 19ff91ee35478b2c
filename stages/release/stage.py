"""The release stage: a student becomes a registered model, and the champion if its gate passes.

    release:
      stage: release
      model: student
      report: report
      name: hyperloom-aerial
      gate: {semantic.miou: [">= 0.3", "> best_expert", ">= champion - 0.005"]}

What is released is a folder that needs nothing of Hyperloom: student.onnx, student.json, hyperloom_student.py, an
example of the input and a card. The pointer `release/champion-{name}/` in the root is what counts; MLflow's version
and alias are views of it, made from the `register` event. A gate that does not pass is no failure of the step: the
version exists without the alias, and the output says why. The present champion is read when the step runs and is no
part of its identity, so a finished release stays finished.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.commits.manifest import Manifest, descent
from hyperloom.pipeline.commits.units import read_file
from hyperloom.pipeline.config import StepName
from hyperloom.pipeline.errors import RecipeError, Torn
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages import champion as champions
from hyperloom.stages.distill.int8 import in_bytes
from hyperloom.stages.release.check import checked
from hyperloom.stages.release.gate import Decision, Reigning, judge, parse
from hyperloom.stages.release.lineage import tags
from hyperloom.stages.release.member import released
from hyperloom.stages.release.proof import doubts, remarks
from hyperloom.stages.release.standing import crowned, elsewhere, meaning, standing
from hyperloom.stages.results import Judged, Released, Trained
from hyperloom.stages.schema import recheck

LOADER = "hyperloom_student.py"
NETWORK = "student.onnx"
ALIAS = "champion"
REQUIREMENTS = ("numpy", "onnxruntime", "pillow")


@dataclass(frozen=True)
class Verdict:
    """How a gate ended. `failed`: did a condition not hold? `doubt`: do the figures prove nothing?"""

    passed: bool
    failed: bool
    doubt: bool

    @property
    def word(self) -> str:
        """As a tag."""
        return "passed" if self.passed else "failed" if self.failed else "held"

    @property
    def outcome(self) -> str:
        if self.passed:
            return "is the champion" + (", UNPROVEN, as the recipe wants it" if self.doubt else "")
        whys = [*["the gate failed"] * self.failed, *["its figures prove nothing"] * self.doubt]
        return f"registered, but NOT the champion: {', and '.join(whys)}"


class Release(Stage):
    """`model`: a distill step. `report`: an evaluate step that judged it. `name`: of the registered model."""

    revision: ClassVar[int] = 2
    model: StepName
    report: StepName
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    subject: str = ""
    """The model's name in the report; by default the one that the report gave this very model."""
    gate: dict[str, tuple[str, ...]] = {}
    """Figure -> conditions, see stages.release.gate; without any every model becomes the champion whose figures prove
    something."""
    unproven: bool = False
    """Become the champion though the report proves nothing: judged on what taught the model, or against what is no
    truth (stages.release.proof)."""

    @field_validator("gate", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for figure, one in value.items():
            if isinstance(one, int | float) or one in (None, [], ()):
                raise ValueError(f"{figure}: {one!r} is no condition: write '>= 0.3'")
        return {k: [v] if isinstance(v, str) else v for k, v in value.items()}

    @field_validator("gate")
    @classmethod
    def _parsed(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for figure, conditions in value.items():
            for text in conditions:
                parse(figure, text)
        return value

    def check(self, step: StepCheck) -> None:
        checked(self, step)

    def run(self, step: StepRun) -> Released:
        recheck(step)
        model, report = step.inputs[self.model], Judged.from_manifest(step.inputs[self.report])
        subject, member, why = released(self, model, report)
        champion = champions.load(step.storage, self.name, step.fingerprint)
        met = champion is not None and report.champion == champion.release
        meanings = meaning(report, step.modalities)
        before = standing(champion, report, met, meanings)
        outcomes = self._judged(step, subject, report, before)
        conditions = [outcome.condition for outcome in outcomes]
        doubt = doubts(report, subject, conditions)
        failed = not all(outcome.passed for outcome in outcomes)
        passed = not failed and (self.unproven or not doubt)
        reasons = [*why, *(o.reason for o in outcomes), *remarks(report, subject, conditions), *doubt]
        if not met and any(condition.who == ALIAS for condition in conditions):
            reasons += elsewhere(champion, report)
        student = self._package(step, model, (subject, member), report, reasons, passed)
        figures = report.figures[subject]
        if passed:
            new = crowned(step.fingerprint, report, subject, before, conditions, meanings)
            champions.crown(step.storage, self.name, new, champion)
        self._announce(step, student, figures, reasons, Verdict(passed, failed, bool(doubt)))
        made_of = descent(step.storage, model, step.inputs[self.report])
        learned = Trained.from_manifest(model).learned
        return Released(
            self.name,
            subject,
            passed,
            reasons,
            figures,
            **student,
            member=member or None,
            made_of=made_of,
            learned=learned,
        )

    def lost(self, storage: Storage, manifest: Manifest) -> str:
        """A release that passed its gate leaves a champion, be it this one or a later one."""
        try:
            gone = Released.from_manifest(manifest).passed and champions.current(storage, self.name) is None
        except Torn:
            return ""  # what reads it says so, and so does verify
        return f"{self.name!r} has no champion any more, though this release passed its gate" if gone else ""

    # -- deciding --------------------------------------------------------------------------------------------------
    def _judged(self, step: StepRun, subject: str, report: Judged, champion: Reigning | None) -> list[Decision]:
        conditions = [parse(figure, text) for figure, texts in self.gate.items() for text in texts]
        try:
            return [judge(condition, subject, report, champion) for condition in conditions]
        except ValueError as error:
            raise RecipeError(f"step {step.name!r}: gate: {error}") from error

    # -- packaging -------------------------------------------------------------------------------------------------
    def _package(
        self, step: StepRun, model: Manifest, who: tuple[str, str], report: Judged, reasons: list[str], passed: bool
    ) -> dict[str, Any]:
        """Write the files of the release; what the body and the `register` event say of them. `who`: the subject of the
        report, and which member of a family it is."""
        import numpy as np

        from hyperloom.stages.release.card import card
        from hyperloom.stages.release.network import describe, example, learned

        student, (subject, member) = Trained.from_manifest(model), who
        folder = student.folders(model, member)[0]
        path = f"{folder}/{NETWORK}"
        data = read_file(step.storage, next(file for file in model.all_files() if file.path == path))
        about, signature = describe(data, student, learned(step.storage, model, folder, step.modalities))
        picture = example(step.storage, report, student.visible[0], step.modalities)
        buffer = io.BytesIO()
        np.save(buffer, picture)
        prints = model.fingerprint, step.inputs[self.report].fingerprint
        text = card(self.name, student, report, prints, about, reasons, passed, subject)
        files = {
            NETWORK: step.write(NETWORK, data),
            **{n: step.write(n, read_file(step.storage, f)) for n, f in in_bytes(model, path).items()},
            "student.json": step.write("student.json", json.dumps(about, sort_keys=True, indent=1).encode()),
        }
        return {
            "files": {name: file.path for name, file in files.items()},
            "loader": step.write(LOADER, (Path(__file__).parents[1] / "distill" / LOADER).read_bytes()).path,
            "example": step.write("example.npy", buffer.getvalue()).path,
            "card": step.write("card.md", text.encode()).path,
            "signature": signature,
        }

    def _announce(
        self, step: StepRun, student: Mapping[str, Any], figures: Mapping[str, float], reasons: list[str], gate: Verdict
    ) -> None:
        lineage = tags(step.inputs[self.model], step.inputs[self.report])
        outcome = f"{self.name}: {gate.outcome}"
        step.events.emit(
            "register",
            step.name,
            name=self.name,
            alias=ALIAS if gate.passed else None,
            model={
                "fingerprint": step.fingerprint,
                "requirements": list(REQUIREMENTS),
                **{k: student[k] for k in ("files", "loader", "example", "signature")},
            },
            tags={"gate": gate.word, **{k: v for k, v in lineage.items() if v}},
            metrics=dict(figures),
            description=step.storage.read(student["card"]).decode(),
        )
        step.events.emit("artifact", step.name, path=student["card"], to=None)
        words = {"gate": gate.word, "outcome": outcome, "reasons": "; ".join(reasons)}
        step.events.emit("tag", step.name, values=words)
        for sentence in [*reasons, outcome]:
            step.events.emit("note", step.name, text=sentence)
        step.events.flush()  # once the manifest is there nobody says it again
