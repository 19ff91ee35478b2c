"""`on: drift`: a slot runs when the new samples have drifted from those of the champion.

Whether they have takes new labels and shards, so the recipe's drift steps, and what they read, run first; the rest,
training above all, only on an alarm or where there is no champion yet. Sources that no drift step goes back to are no
reason to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hyperloom.pipeline.scheduling.trigger import NewData, TriggerCase, TriggerVerdict
from hyperloom.pipeline.stage import Stage
from hyperloom.stages.drift.stage import Drift
from hyperloom.stages.results import Drifted


class OnDrift(NewData):
    """`{type: drift, samples: 500}`: with fewer new `samples` nothing is looked at."""

    def check(self, steps: Mapping[str, Stage]) -> None:
        if not any(isinstance(stage, Drift) for stage in steps.values()):
            raise ValueError(
                "on: drift needs a step that looks for it. Next: add one, such as drift: {stage: drift, ...}"
            )

    def judge(self, case: TriggerCase) -> TriggerVerdict:
        steps = [step for step in case.steps if isinstance(step.stage, Drift)]
        arrived = super().judge(_looked_at(case, [step.name for step in steps]))
        if not arrived.due:
            return arrived
        if stale := tuple(step.name for step in steps if step.manifest is None or step.state != "fresh"):
            return TriggerVerdict(True, f"{arrived.why}; whether they drifted is looked at first", stale)
        results = [Drifted.from_manifest(step.manifest) for step in steps if step.manifest]
        why = "; ".join(reason for result in results for reason in result.reasons)
        alarm = any(result.alarm for result in results)
        first = any(result.first and not result.compared for result in results)
        return TriggerVerdict(alarm or first, f"drift: {why}" if alarm else why)


def _looked_at(case: TriggerCase, drift: Iterable[str]) -> TriggerCase:
    """The case as if sources that these steps do not go back to were as they were."""
    reads, behind = {step.name: step.reads for step in case.steps}, set[str]()
    left = list(drift)
    while left:
        behind.add(name := left.pop())
        left += [one for one in reads.get(name, ()) if one not in behind]
    others = {name: now for name, now in case.sources.items() if name not in behind}
    return replace(case, base={**case.base, **others}) if case.base else case
