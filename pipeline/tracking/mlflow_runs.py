"""The MLflow runs that show one pipeline run, its parent and one for each step, and what is logged to them.

People delete things in MLflow's pages, also while they are written to. What was deleted is restored, under a note; what
was removed for good (`mlflow gc`, another database) is `Forgotten`: the run is then shown anew from its first event. Of
a batch in which MLflow refuses one entry, only that entry is left out, and said.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking.mlflow_model import Event
from hyperloom.pipeline.tracking.mlflow_server import REFUSALS, Server, line
from hyperloom.pipeline.tracking.store import artifacts
from hyperloom.pipeline.tracking.tracker import Forgotten, Position, Unavailable
from hyperloom.pipeline.tracking.wording import apart, cut, flat

LONGEST = 500
"""Characters of a parameter's or tag's value that are shown."""
POINTS, PAIRS = 1000, 100
"""The most metrics, and the most tags or parameters, in one request."""
DELETED = "somebody had deleted"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The pages for training, not for chat."""


def first_times(batch: Iterable[Event]) -> dict[str, int]:
    """The time of the first event of each step, in milliseconds since 1970, of those that have one."""
    first: dict[str, int] = {}
    for event in batch:
        if event.get("t"):
            first[event["step"]] = min(event["t"], first.get(event["step"], event["t"]))
    return first


def last_by(about: dict[str, Any], event: Event) -> dict[str, int]:
    """The figures of the whole run that this event says in the place of a report that came before: of several that
    judge the same model the last one of the recipe counts, whichever ends first. `about`: of the run's position, which
    keeps who said each: a run may go on with a recipe of another order, and one that it has no longer comes first. With
    each the time to write it at, later than that before: of two at one time MLflow shows the larger."""
    if event["step"]:
        return {}
    places = {name: place for place, name in enumerate(about.get("order", []))}
    said_by, times, own = about.setdefault("by", {}), about.setdefault("times", {}), places.get(event.get("by", ""), -1)
    last = {
        k: max(event["t"], times.get(k, -1) + 1) for k in event["values"] if own > places.get(said_by.get(k, ""), -1)
    }
    said_by |= dict.fromkeys(last, event.get("by", ""))
    times |= last
    return last


def begun(position: Position, step: str, anew: bool) -> None:
    """Note that a step begins, or is taken as it is. One that works `anew` has new points, and so has the whole run: of
    its figures those stay that a step has said since this start of the run, which says them once."""
    about, high = position.about, position.high
    if anew:
        current = {key for key, who in about.get("by", {}).items() if who != step and who in about.get("begun", ())}
        high.pop(step, None)
        high[""] = {key: at if key in current else -1 for key, at in high.get("", {}).items()}
        about["by"] = {key: who for key, who in about.get("by", {}).items() if key in current}
    about.setdefault("begun", []).append(step)


class Runs:
    """The runs of pipeline run `run` in the experiment `name`, which is made when it is missing. Raises Unavailable."""

    def __init__(self, server: Server, run: str, name: str):
        self.server, self.client, self.run, self.name = server, server.client, run, name
        self.position = Position(server.where)
        self.first: dict[str, int] = {}
        """When the first event of each step was written, in milliseconds since 1970; an empty step is the run."""
        self._early: list[str] = []
        self.experiment: str = server.call(self._find_experiment)

    def begin(self, position: Position) -> None:
        """From now on notes and ids are kept in `position`."""
        self.position = position
        for text in self._early:
            position.note(text)
        self._early.clear()

    # -- which runs ------------------------------------------------------------------------------------------------
    def parent(self, event: Event) -> str:
        if not self.position.parent:
            name = self.position.about.get("name") or self.run
            at = min([event["t"], *self.first.values()])  # whichever writer was read first
            self.position.parent = self._find_run(f"{name} {self.run}", {"hyperloom.run": self.run}, at)
        return self.position.parent

    def step(self, event: Event) -> str:
        """The MLflow run of the event's step, made when it is missing; the parent run for an empty step."""
        parent, step = self.parent(event), event["step"]
        if not step:
            return parent
        if step not in self.position.steps:
            tags = {"hyperloom.step_of": self.run, "step": step, "mlflow.parentRunId": parent}
            self.position.steps[step] = self._find_run(step, tags, self.first.get(step) or event["t"])
        return self.position.steps[step]

    def restore(self) -> bool:
        """Restore what somebody has deleted of the experiment and these runs: was there anything? Raises Forgotten
        where it was removed for good."""
        deleted = self._restore_experiment()
        ids = {"the run itself": self.position.parent, **self.position.steps}
        for name, id_ in ids.items():
            if not id_:
                continue
            if self._present(partial(self.client.get_run, id_), name).info.lifecycle_stage != "active":
                self.server.call(partial(self.client.restore_run, id_))
                self.position.note(f"{DELETED} {name!r} in MLflow: restored, with all that it had")
                deleted = True
        return deleted

    def _restore_experiment(self) -> bool:
        name = f"the experiment {self.name!r}"
        experiment = self._present(partial(self.client.get_experiment, self.experiment), name)
        if experiment.lifecycle_stage == "active":
            return False
        self.server.call(partial(self.client.restore_experiment, self.experiment))
        self.position.note(f"{DELETED} {name} in MLflow: restored, with all its runs")
        return True

    def _present(self, call: Callable[[], Any], what: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.server.call(call)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise Forgotten(f"MLflow has lost {what!r} for good: made anew, from the events of the run") from error

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(self.name)
        if experiment is None:
            try:
                return self.client.create_experiment(self.name, artifacts(self.server.uri, self.name), dict(KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self._find_experiment()  # another run made it at the same moment
        if experiment.lifecycle_stage != "active":
            self.client.restore_experiment(experiment.experiment_id)
            self._early.append(f"{DELETED} {self.name!r}, the experiment, in MLflow: restored with its runs")
        return experiment.experiment_id

    def _find_run(self, name: str, tags: dict[str, str], at: int) -> str:
        from mlflow.entities import ViewType

        where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self.client.search_runs([self.experiment], where, ViewType.ALL)
        active = [run for run in runs if run.info.lifecycle_stage == "active"]
        if runs and not active:
            self.client.restore_run(runs[0].info.run_id)
            self.position.note(f"{DELETED} {name!r} in MLflow: restored, with all that it had")
        return ([*active, *runs] or [self.client.create_run(self.experiment, at, tags, name)])[0].info.run_id

    # -- what is logged --------------------------------------------------------------------------------------------
    def attempt(self, what: str, call: Callable[[], Any]) -> None:
        """Do what an event asks for; what MLflow refuses for good is left out and said. Raises Unavailable
        and Forgotten."""
        from mlflow.exceptions import MlflowException

        try:
            self._again_if_restored(call)
        except (MlflowException, OSError, ValueError, TypeError, KeyError) as error:
            if getattr(getattr(error, "response", None), "status_code", 0) >= 500:  # the store of its artifacts is away
                raise Unavailable(f"MLflow at {self.server.where} cannot do this now: {line(error)}") from error
            self._refuse(f"{what}: {type(error).__name__}: {error}")

    def batch(self, kind: str, run: str, entries: list[Any]) -> None:
        """Log metrics, params or tags; of those that are refused each is left out alone."""
        from mlflow.exceptions import MlflowException

        most = POINTS if kind == "metrics" else PAIRS
        for first in range(0, len(entries), most):
            part = entries[first : first + most]
            try:
                self._again_if_restored(partial(self.client.log_batch, run, **{kind: part}))
            except MlflowException as error:
                if error.error_code not in REFUSALS:
                    raise
                if len(part) == 1:
                    self._refuse(f"{part[0].key}: {line(error)}")
                    continue
                for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                    self.batch(kind, run, half)

    def tags(self, run: str, values: dict[str, Any]) -> None:
        from mlflow.entities import RunTag

        names = apart(values)
        tags = [RunTag(names[k], cut(blot(str(v)), LONGEST)) for k, v in values.items() if v is not None]
        self.batch("tags", run, tags)

    def params(self, run: str, values: dict[str, Any]) -> list[str]:
        """Log what the run has not yet: parameters are immutable in MLflow, so a repetition must not touch them. Those
        that it has with other values, in words."""
        from mlflow.entities import Param

        known, flat_ = self.client.get_run(run).data.params, flat(values)
        names = apart(flat_)
        params = [Param(names[k], cut(blot(v), LONGEST)) for k, v in flat_.items()]
        self.batch("params", run, [param for param in params if param.key not in known])
        return [f"{p.key}: {p.value} (not {known[p.key]})" for p in params if known.get(p.key, p.value) != p.value]

    def _again_if_restored(self, call: Callable[[], Any]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.server.call(call)
        except MlflowException as error:
            if error.error_code not in REFUSALS or not self.restore():
                raise
            self.server.call(call)

    def _refuse(self, problem: str) -> None:
        print(f"hyperloom tracking: left out of MLflow: {problem}", file=sys.stderr, flush=True)
        self.position.lack(blot(problem))
        if self.position.parent:
            text = "; ".join(self.position.lacks)[-LONGEST:]
            self._again_if_restored(partial(self.client.set_tag, self.position.parent, "hyperloom.refused", text))
