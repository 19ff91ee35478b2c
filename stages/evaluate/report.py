"""The report of an evaluation: figures by subject, the table, the verdict, the collage, and what MLflow is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.distill import int8, teachers
from hyperloom.stages.evaluate import members, slices, verdict
from hyperloom.stages.evaluate.common import CommonSamples
from hyperloom.stages.evaluate.compare import Comparison
from hyperloom.stages.evaluate.family import families
from hyperloom.stages.evaluate.grounds import Grounds
from hyperloom.stages.evaluate.subject import Subject
from hyperloom.stages.lesson import rehearsal
from hyperloom.stages.measure.intervals import Intervals, Sheets, resampled
from hyperloom.stages.measure.measure import directions, measure_of
from hyperloom.stages.measure.scores import measures
from hyperloom.stages.measure.sheet import exact
from hyperloom.stages.measure.sums import Sums, merged
from hyperloom.stages.results import Judged, Lineage, Shards, Trained

if TYPE_CHECKING:
    from hyperloom.stages.evaluate.rival import Rival
    from hyperloom.stages.evaluate.stage import Evaluate

TABLE, CLASSES, DIFFERENCES, SEEDS, REMARKS = "results", "classes", "differences", "seeds", "remarks"
SLICES, ENSEMBLES = "slices", "ensembles"


class Report:
    """Made of the records of one evaluation: `columns` for the labels in the shards, and one list for each model."""

    def __init__(
        self,
        step: StepRun,
        stage: Evaluate,
        truth: Mapping[str, str],
        who: Sequence[Subject],
        records: Mapping[str, list[Record]],
        costs: Mapping[str, Mapping[str, int]],
    ):
        self.step, self.stage, self.truth, self.who, self.records = step, stage, truth, who, records
        self.costs = costs
        self.candidates = stage.candidates(step)
        self.families = families(stage.models, stage.seeds, self.candidates)
        self.modalities = {m: step.modalities[m] for m in truth}
        self.sums = {s.name: self._sums(s) for s in who}
        self.figures = {name: self._figures(mine) for name, mine in self.sums.items()}
        self._check_truth()

    def judged(self, champion: Rival | None, sheets: Mapping[str, str]) -> Judged:
        """The result; tables and figures also go out as events. `champion` was judged under that name, as far as it
        says the same as the recipe; `sheets` are the spaces of what was judged."""
        grounds = Grounds(self.stage, self.step, self.who, self.truth, champion, self.families)
        decided = verdict.verdict(self.who, self.figures, self.modalities, self._teachers(), self._common)
        rows = verdict.table(self.who, self.figures, self.modalities, self.costs, grounds.rehearsals)
        classes = self._classes()
        best = {m: verdict.best(self.who, self.figures, "expert", m, d) for m, d in self.modalities.items()}
        compared = self._compared(best, decided, grounds)
        verdict.doubted(decided, grounds)
        models = verdict.sentences(decided, grounds, compared.get("differences", ()))
        sentences = [*grounds.sentences(), *models, *compared.pop("said", []), *self._lessons()]
        ensembles = self._ensembles(sentences)
        sliced = self._sliced(sentences, grounds.rehearsals)
        self._tell(rows, classes, decided, sentences, compared)
        return Judged(
            split=self.stage.split,
            samples=sum(r.rows for r in self.records["columns"]),
            truth=dict(self.truth),
            lineage=self._lineage(),
            kinds={s.name: s.kind for s in self.who},
            models={name: self.step.inputs[one.model.model].fingerprint for name, one in self.candidates.items()},
            members={name: one.member for name, one in self.candidates.items() if one.member} or None,
            figures=self.figures,
            costs={name: dict(cost) for name, cost in self.costs.items()},
            table=rows,
            classes=classes,
            best_expert=best,
            **compared,
            temporal=self._steadiness(),
            verdict=decided,
            said=sentences,
            **grounds.body(),
            champion=champion.release if champion and champion.meanings else None,
            apart=champion.apart or None if champion else None,
            remarks=self._remarks(),
            sheets=sheets,
            slices=sliced,
            ensembles=ensembles or None,
        )

    def pictures(self, raw: Sequence[str]) -> None:
        """Write the collages of the chosen samples, one of everything and one of each modality, and tell MLflow."""
        from hyperloom.stages.evaluate.collage import collage

        rows: dict[str, dict[str, Any]] = {}
        for records in self.records.values():
            for record in records:
                self._read(record, rows)
        if not rows:
            return
        shown = {modality: self._shown(modality) for modality in self.truth}
        pages = {"collage": [c for columns in shown.values() for c in columns], **shown}
        for name, columns in pages.items():
            file = self.step.write(f"{name}.png", collage(list(rows.items()), [*raw, *columns], self.step.modalities))
            self.step.events.emit("artifact", self.step.name, path=file.path, to="pictures")

    def _lineage(self) -> Lineage:
        shards = self.step.inputs[self.stage.data]
        columns = {c: producer.about for c, producer in Shards.from_manifest(shards).columns.items()}
        return Lineage(shards.fingerprint, columns, shards.stage)

    def _remarks(self) -> list[str]:
        """What looks suspicious about the data, of the shards and the steps behind them, and what figures leave out; a
        table in MLflow."""
        remarks = list(Shards.from_manifest(self.step.inputs[self.stage.data]).remarks)
        for name, modality in self.modalities.items():
            every = [mine[name] for mine in self.sums.values() if mine.get(name, {}).get("answered")]
            most = max(every, key=lambda sums: sums["answered"], default=None)
            if most and (text := measure_of(modality).omitted(modality, most)):
                remarks.append(f"{self.truth[name]}: {text}")
        if remarks:
            self.step.events.emit("table", self.step.name, name=REMARKS, rows=[{"remark": text} for text in remarks])
        return remarks

    def _shown(self, modality: str) -> list[str]:
        """Columns of one modality, the truth first, then labels, then models."""
        labels = [c for s in self.who for c in s.columns if modality_of(c) == modality]
        predicted = [f"{modality}@{s.name}" for s in self.who if not s.columns and modality in self.sums[s.name]]
        return [self.truth[modality], *labels, *predicted]

    # -- inside ----------------------------------------------------------------------------------------------------
    def _compared(self, best: Mapping[str, str | None], decided: Mapping[str, Any], grounds: Grounds) -> dict[str, Any]:
        """Bounds, seeds, differences and what to say of them; empty where no intervals are wanted."""
        config = self.stage.intervals
        if config is None:
            return {}
        draws, units = {}, 0
        for subject in self.who:
            draws[subject.name], units = resampled(
                config, self.step.storage, self._records_of(subject), self._names(subject)
            )
        rises, of_answers = self._rises(), self._of_answers()
        compared = Comparison(config, self.figures, draws, self.families, rises, self._common, of_answers)
        missing = {"champion"} - {s.name for s in self.who} if self.stage.champion else set()
        against = [name for name in self.stage.against if name not in missing]  # there may be no champion yet
        harder = {(who, m): d["expert"] for who, mine in decided.items() for m, d in mine.items() if d.get("best")}
        rows = compared.differences(self.who, against, best, harder)
        verdict.doubted_differences(rows, grounds.rehearsals)
        return {
            "intervals": {"level": config.level, "draws": config.draws, "over": config.over, "resampled": units},
            "bounds": compared.bounds(),
            "seeds": compared.seeds(),
            "differences": rows,
            "said": verdict.difference_sentences(rows, self.modalities, config.level, grounds),
        }

    def _records_of(self, subject: Subject) -> list[Record]:
        return self.records["columns" if subject.columns else subject.name]

    @cached_property
    def _common(self) -> CommonSamples:
        config, subjects = self.stage.intervals or Intervals(), {s.name: s for s in self.who}

        def sheets(who: str) -> Sheets:
            return Sheets(config, self.step.storage, self._records_of(subjects[who]))

        return CommonSamples(sheets, {s.name: self._names(s) for s in self.who}, self.figures)

    def _of_answers(self) -> set[str]:
        return {f"{m}.{key}" for m, kind in self.modalities.items() for key in measure_of(kind).of_answers}

    def _sliced(self, sentences: list[str], rehearsals: Collection[str]) -> list[dict[str, Any]] | None:
        """Figures by slice, a table in MLflow; who is weakest where goes to `sentences`, but of `rehearsals`."""
        if not self.stage.slices:
            return None
        shards = Shards.from_manifest(self.step.inputs[self.stage.data]).shards
        paths = [s.path for s in shards if s.split == self.stage.split and s.rows]
        parts = slices.members(self.stage.slices, self.step.storage, paths, self.step.modalities)
        rows: list[dict[str, Any]] = []
        for subject in self.who:
            if not self.figures[subject.name]:
                continue
            sheets = Sheets(slices.drawing(self.stage.intervals), self.step.storage, self._records_of(subject))
            looked = slices.look(subject.name, sheets, self._names(subject), parts)
            rows += looked.rows
            sentences += [said] if subject.name not in rehearsals and (said := looked.sentence()) else []
        if rows:
            self.step.events.emit("table", self.step.name, name=SLICES, rows=rows)
        return rows

    def _ensembles(self, sentences: list[str]) -> dict[str, dict[str, Any]]:
        """How the members of each ensemble differ, by subject and modality, a table in MLflow; of which it makes worse
        goes to `sentences`."""
        described: dict[str, dict[str, Any]] = {}
        for who, cost in self.costs.items():
            for modality, kind in self.modalities.items() if cost.get("members", 1) > 1 else ():
                sums, records = self.sums[who].get(modality, {}), self.records[who]
                row = members.ensemble(self.step.storage, kind, modality, sums, records, cost["members"])
                if row:
                    described.setdefault(who, {})[modality] = row
                    sentences += [text] if (text := members.worse(who, kind, modality, row)) else []
        if described:
            each = [(who, m, row) for who, mine in described.items() for m, row in mine.items()]
            rows = [{"who": who, "modality": m, **members.short(row)} for who, m, row in each]
            self.step.events.emit("table", self.step.name, name=ENSEMBLES, rows=rows)
            spreads = {f"spread/{row['modality']}/{row['who']}": row["spread"] for row in rows}
            self.step.events.metric(self.step.name, spreads)
        return described

    def _rises(self) -> dict[str, bool]:
        """By figure: is a higher one better?"""
        return {f"{m}.{key}": up for m, kind in self.modalities.items() for key, up in directions(kind).items()}

    def _teachers(self) -> dict[str, set[str]]:
        """Student -> what its teacher is judged as, asked in whatever ways."""
        steps = {name: self.step.inputs[one.model.model] for name, one in self.candidates.items()}
        teachers = {name: one.payload.get("config", {}).get("teacher") for name, one in steps.items()}
        return {
            student: {name for name, one in steps.items() if one.fingerprint == teacher["step"]}
            for student, teacher in teachers.items()
            if teacher
        }

    def _lessons(self) -> list[str]:
        """What taught each student, what its 8 bits cost, and how well what it was taught fits, once a step."""
        steps = dict.fromkeys(one.model.model for one in self.candidates.values())
        models = {name: Trained.from_manifest(self.step.inputs[name]) for name in steps}
        lines = [f"{name} {teachers.sentence(model.taught)}" for name, model in models.items() if model.taught]
        exported = {name: (model.onnx or {}).get("int8") for name, model in models.items()}
        lines += [f"{name}: {int8.sentence(about)}" for name, about in exported.items() if about]
        return [*lines, *(f"{name}: {remark}" for name, model in models.items() for remark in model.remarks)]

    def _names(self, subject: Subject) -> dict[str, tuple[str, Any]]:
        """What the subject's sheets call each modality -> its name and itself."""
        names = {c: modality_of(c) for c in subject.columns} or {m: m for m in self.truth}
        return {name: (m, self.modalities[m]) for name, m in names.items()}

    def _steadiness(self) -> dict[str, Any] | None:
        """How steady the truth itself is, as a measure of the flow: nobody can be expected to be steadier."""
        if self.stage.temporal is None:
            return None
        figures: dict[str, float] = {}
        for modality, column in self.truth.items():
            records = [r for r in self.records["columns"] if column in r.meta["sums"]]
            sums = merged([r.meta["sums"][column] for r in records])
            sums = exact(self.step.storage, [r.files[1].path for r in records], {column: sums})[column]
            if sums.get("moved"):
                figures[f"{modality}.consistency"] = sums["same"] / sums["moved"]
            elif sums.get("changes"):
                figures[f"{modality}.flicker"] = sums["change"] / sums["changes"]
        return {"gap": self.stage.temporal.gap, "truth": figures}

    def _sums(self, subject: Subject) -> dict[str, Sums]:
        """Statistics by modality, over all shards."""
        records = self.records["columns" if subject.columns else subject.name]
        parts = [r.meta["sums"] for r in records]
        names = subject.columns or [m for m in self.truth if m in parts[0]]
        sums = {name: merged([p[name] for p in parts]) for name in names}
        sums = exact(self.step.storage, [r.files[1].path for r in records], sums)
        return {modality_of(name) if subject.columns else name: mine for name, mine in sums.items()}

    def _figures(self, sums: Mapping[str, Sums]) -> dict[str, float]:
        measured = {m: measures(self.modalities[m], s) for m, s in sums.items()}
        return {f"{m}.{key}": value for m, mine in measured.items() for key, value in mine.items()}

    def _check_truth(self) -> None:
        """Raises SourceError when the truth of a modality is null in the whole split."""
        for modality in self.truth:
            sums = [mine[modality] for mine in self.sums.values() if mine.get(modality)]
            measure = measure_of(self.modalities[modality])
            if sums and not any(measure.known(s) for s in sums):
                raise SourceError(
                    f"step {self.step.name!r}: {self.truth[modality]} is missing for every sample of the split "
                    f"{self.stage.split!r}. Next: pin labelled groups to that split, or leave {modality!r} out of "
                    "`truth:`"
                )

    def _classes(self) -> list[dict[str, Any]]:
        """IoU, recall and precision by class, one row for each subject, modality and measure."""
        rows = []
        for subject in self.who:
            for modality, sums in self.sums[subject.name].items():
                kind = self.modalities[modality]
                if self.figures[subject.name]:
                    for measure, values in measure_of(kind).by_class(kind, sums).items():
                        rows.append({"who": subject.name, "modality": modality, "measure": measure, **values})
        return rows

    def _tell(
        self,
        rows: list[Any],
        classes: list[Any],
        decided: Mapping[str, Any],
        sentences: list[str],
        compared: Mapping[str, Any],
    ) -> None:
        events, name = self.step.events, self.step.name
        for subject, figures in self.figures.items():
            if figures:
                events.metric(name, {f"{key}/{subject}": value for key, value in figures.items()})
        events.metric("", verdict.decisive(decided), by=name)
        events.emit("table", name, name=TABLE, rows=rows)
        if compared.get("differences"):
            events.emit("table", name, name=DIFFERENCES, rows=compared["differences"])
        for family, figures in compared.get("seeds", {}).items():
            events.metric(name, {f"{key}/{family}": row["mean"] for key, row in figures.items()})
        if compared.get("seeds"):
            seeds = [
                {"who": family, "figure": key, **row}
                for family, f in compared["seeds"].items()
                for key, row in f.items()
            ]
            events.emit("table", name, name=SEEDS, rows=seeds)
        if classes:
            events.emit("table", name, name=CLASSES, rows=classes)
        if short := {who: d["rehearsal"] for who, m in decided.items() for d in m.values() if d.get("rehearsal")}:
            events.emit("tag", name, values={"outcome": rehearsal(short)})
        for i, sentence in enumerate(sentences):
            events.emit("tag", name, values={f"verdict.{i}": sentence})
            events.emit("note", name, text=sentence)

    def _read(self, record: Record, rows: dict[str, dict[str, Any]]) -> None:
        """Add what a unit kept of the chosen samples to `rows`: key -> column -> value."""
        from hyperloom.stages.table import read_table

        table = read_table(self.step.storage, record.file.path)
        for column in table.column_names:
            if column == KEY:
                continue
            values, present = self.step.modalities[modality_of(column)].decode(table[column])
            for key, value, known in zip(table[KEY].to_pylist(), values, present, strict=True):
                rows.setdefault(key, {})[column] = value if known else None
