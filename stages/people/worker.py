"""The worker of people: one partition's answers, beside the keys of its samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.errors import StepFailed
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.column import produced
from hyperloom.stages.people.ledger import WHEN, WHO, PeopleEntry, PeopleLedger, picture_digest
from hyperloom.stages.table import read_table, write_table


@dataclass
class PeopleWorker:
    """Writes `column`; a sample without an answer to its very picture is null, of several the last counts."""

    column: str
    modalities: dict[str, Any]
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        kind = self.modalities[modality_of(self.column)]
        keys = read_table(out.storage, unit.payload["keys"], [KEY])[KEY].to_pylist() if unit.payload["keys"] else []
        places = {key: i for i, key in enumerate(keys)}
        answers = [PeopleEntry(key, "", 0, picture, "", who, when, digest, path, row, column)
                   for path, row, key, picture, column, who, when, digest in unit.payload["answers"]]  # fmt: skip
        held = self._of_these_pictures(unit, out, answers, places)
        values: list[Any] = [None] * len(keys)
        who: list[str | None] = [None] * len(keys)
        when: list[str | None] = [None] * len(keys)
        for entry, value in zip(held, self._values(out, held, kind), strict=True):
            at = places[entry.key]
            values[at], who[at], when[at] = value, entry.who, entry.when
        counts: dict[str, int] = {}
        for name in (w for w in who if w is not None):
            counts[name] = counts.get(name, 0) + 1
        columns = {KEY: pa.array(keys, pa.string()), WHO: pa.array(who, pa.string()), WHEN: pa.array(when, pa.string())}
        fields = [pa.field(name, pa.string()) for name in columns]
        columns[self.column] = kind.encode(values)
        fields.append(produced(kind.field(self.column), {"kind": "people"}))
        out.rows = len(keys)
        given = len({entry.key for entry in held})
        out.meta = {"pid": unit.payload["pid"], "answered": given, "stale": len(answers) - len(held), "who": counts}
        out.meta["missing"] = {self.column: columns[self.column].null_count}
        if keys:
            out.write("parquet", write_table(columns, fields))

    def _values(self, out: Output, held: list[PeopleEntry], kind: Any) -> list[Any]:
        try:
            return PeopleLedger(out.storage, self.column).values(held, kind)
        except ValueError as error:
            raise StepFailed(f"what people said of {self.column} means something else now: {error}") from error

    def _of_these_pictures(
        self, unit: Unit, out: Output, answers: list[PeopleEntry], places: dict[str, int]
    ) -> list[PeopleEntry]:
        """The answers whose sample still has the picture that people saw."""
        arrays: dict[str, Any] = {}
        for column, path in unit.payload["pictures"].items():
            if path:
                table = read_table(out.storage, path, [KEY, column])
                arrays[column] = dict(zip(table[KEY].to_pylist(), range(table.num_rows), strict=True)), table[column]
        held = []
        for entry in answers:
            rows, array = arrays.get(entry.column, ({}, None))
            if entry.key in places and entry.key in rows and picture_digest(array, rows[entry.key]) == entry.picture:
                held.append(entry)
        return held
