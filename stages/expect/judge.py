"""The judge of expectations: parses, checks and lists them, and says what a finished step does not keep of them.

Each that fails is a sentence with its line, what was seen and up to three samples, at the terminal and as a tag
`expect.0` in MLflow; with `warn: true` it stops nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.planning.check import Schema, StepCheck
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages.expect import expectation


class Expectations:
    """See `hyperloom.pipeline.expecting`, which asks it."""

    def parsed(self, value: Any) -> dict[str, Any]:
        return expectation.parsed(value)

    def lines(self, expected: Mapping[str, Any]) -> list[str]:
        return expectation.lines(expected)

    def check(self, step: StepCheck, schema: Schema | None) -> None:
        from hyperloom.stages.expect.check import checked

        checked(step, schema)

    def accept(self, step: StepRun, manifest: Manifest) -> None:
        """Raises StepFailed."""
        from hyperloom.stages.expect.evidence import look
        from hyperloom.stages.expect.unmet import unmet

        expected = step.stage.expect
        seen = look(step, manifest, expected)
        seen.keep(step.storage, manifest)
        failing = unmet(expected, seen)
        shown = [(one, one.sentence(_samples(step, manifest, one))) for one in failing]
        for i, (_, text) in enumerate(shown):
            step.events.emit("note", step.name, text=text)
            step.events.emit("tag", step.name, values={f"expect.{i}": text})
        met = len(expected) - len({one.column for one in failing})
        step.events.emit("tag", step.name, values={"expect": f"{met} of {len(expected)} as expected"})
        fatal = [text for one, text in shown if not one.warn]
        if fatal:
            raise StepFailed(
                f"step {step.name!r}: {'; '.join(fatal)}. Next: mend the data, or the line under `expect:` (`warn: "
                "true` on a column says it and goes on)"
            )

    def wrong(self, stage: Stage, storage: Storage, manifest: Manifest) -> str:
        """Of a finished step, what is expected by now and is not so, or was not looked at."""
        from hyperloom.stages.expect.evidence import kept
        from hyperloom.stages.expect.unmet import unmet

        seen = kept(storage, manifest)
        if lacking := seen.lacks(stage.expect):
            return f"expect: {', '.join(lacking)}: not looked at yet"
        return "; ".join(one.sentence() for one in unmet(stage.expect, seen) if not one.warn)


def _samples(step: StepRun, manifest: Manifest, failing: Any) -> list[str]:
    """Keys of samples that show what fails."""
    from hyperloom.stages.base import KEY
    from hyperloom.stages.catalogue import catalogue
    from hyperloom.stages.expect.unmet import SHOWN, samples
    from hyperloom.stages.results import Samples, Shards
    from hyperloom.stages.table import read_table

    if not (failing.wrong or failing.groups):
        return []
    if shards := Shards.of(manifest):
        files = [(s.group, s.path) for s in shards.shards if s.rows and (failing.groups or s.split == "train")]
    elif Samples.of(manifest):
        offered = catalogue([manifest])
        column = failing.column if "@" in failing.column else next(iter(offered.producers))
        records = [(p.group, offered.record(column, p.pid)) for p in offered.partitions]
        files = [(group, r.file.path) for group, r in records if r is not None and r.files]
    if failing.groups:
        firsts = {group: path for group, path in reversed(files) if group in failing.groups}
        tables = [read_table(step.storage, firsts[g], [KEY]) for g in failing.groups if g in firsts]
        return [str(table[KEY][0].as_py()) for table in tables[:SHOWN]]
    return samples(step.storage, [path for _, path in files], step.modalities, failing)
