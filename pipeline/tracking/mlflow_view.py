"""What MLflow shows: a parent run for the pipeline run, a child run for each step.

Every call names its run (MlflowClient, never the fluent API), and every call may be repeated: runs are found again by
their tags, a metric point has the time of its event, an artifact replaces itself. What MLflow refuses for good (a wrong
name, a missing file) is left out and said in the parent's tag `hyperloom.refused`; when the server does not answer,
`Unavailable` goes up and the events wait.

An event whose `step` is empty belongs to the parent run. Shards, labels and checkpoints are never uploaded: a data set
is a name, a digest and a URI. Secrets are blotted out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from hyperloom.pipeline.process import named
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.tracking.mlflow_model import Event, move_alias, register
from hyperloom.pipeline.tracking.store import artifacts
from hyperloom.pipeline.tracking.tracker import Position, Unavailable
from hyperloom.pipeline.tracking.wording import allowed, flat, markdown, state

LONGEST = 500
"""Characters of a parameter's or tag's value that are shown."""
POINTS, PAIRS = 1000, 100
"""The most metrics, and the most tags or parameters, in one request."""
REFUSALS = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "INVALID_STATE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
)
STRANGERS = ("UNAUTHENTICATED", "PERMISSION_DENIED")
LOGIN = "Next: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user who may write there"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The pages for training, not for chat."""
PAUSES = (0.5, 2.0)
"""Seconds before a call that failed for no clear reason is tried again."""
NOTE = Path(__file__).parents[2] / "mlflow" / "run.md"
SETTINGS = {
    "HTTP_REQUEST_TIMEOUT": "10",
    "HTTP_REQUEST_MAX_RETRIES": "1",
    "DISABLE_TELEMETRY": "true",
    "SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MLflow:
    """The view. `uri` is MLflow's tracking URI; the experiment is made when it is missing. Raises Unavailable."""

    def __init__(self, storage: Storage, run: str, uri: str, experiment: str):
        os.environ.pop("MLFLOW_RUN_ID", None)  # it would turn child runs into that run
        for key, value in SETTINGS.items():
            os.environ.setdefault(f"MLFLOW_{key}", value)
        from mlflow import MlflowClient

        self.storage, self.run, self.where = storage, run, blot(uri)
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.experiment: str = self._guarded(partial(self._find_experiment, uri, experiment))
        self._points: dict[str, list[Any]] = {}
        self._position = Position(self.where)

    # -- the protocol of pipeline.tracking.tracker.View ------------------------------------------------------------
    def take(self, batch: list[Event], position: Position) -> None:
        """Show `batch`. Raises Unavailable."""
        self._position, self._points = position, {}
        for event in batch:
            handle = getattr(self, f"_on_{event['kind']}", None)
            if handle is not None:
                self._try(event, partial(handle, event))
        self._flush()

    def abandon(self, position: Position) -> None:
        """Mark what still runs as killed; a later driver of the same run sets it running again. Raises Unavailable."""
        self._position = position
        for about in (position.about, *self._steps().values()):
            if about.get("status") == "running":
                about["status"] = "killed"
        self._guarded(self._note)
        closed = f"{named(position.driver)}, the driver, ended without a word; the same command goes on where it was"
        self._guarded(lambda: self._tags(position.parent, {"hyperloom.closed": closed}))
        for id_ in [*position.steps.values(), position.parent]:
            run = self._guarded(partial(self.client.get_run, id_))
            if run.info.status == "RUNNING":
                self._guarded(partial(self.client.set_terminated, id_, "KILLED"))

    # -- events ----------------------------------------------------------------------------------------------------
    def _on_run_started(self, event: Event) -> None:
        about = self._position.about
        about.update(name=event.get("name", ""), status="running")
        parent = self._parent(event)
        self.client.update_run(parent, status="RUNNING")
        self._tags(parent, {"mlflow.source.name": event.get("path"), "mlflow.source.type": "LOCAL"})
        self._params(parent, event.get("params", {}))
        self.client.log_text(parent, blot(event.get("recipe", "")), "recipe.yaml")
        self._note()

    def _on_run_finished(self, event: Event) -> None:
        self._flush()
        self._position.about.update(status=event.get("status", ""), seconds=event.get("seconds"))
        self._note()
        self.client.set_terminated(self._parent(event), state(event), event["t"])

    def _on_step_started(self, event: Event) -> None:
        run, before = self._step(event), self._steps().get(event["step"], {})
        if before.get("fingerprint") not in (None, event.get("fingerprint")):
            self._position.high.pop(event["step"], None)  # another training: its points are new
        what = {"stage": event.get("stage"), "fingerprint": event.get("fingerprint")}
        self._steps()[event["step"]] = before | what | {"status": "running"}
        self.client.update_run(run, status="RUNNING")
        self._tags(run, what | {"reused": "false"})
        self._params(run, event.get("params", {}))
        self._inputs(run, event.get("inputs", []))

    def _on_step_reused(self, event: Event) -> None:
        run, what = self._step(event), {"stage": event.get("stage"), "fingerprint": event.get("fingerprint")}
        self._steps()[event["step"]] = what | {"status": "reused"}
        query = f"tags.fingerprint = '{event.get('fingerprint')}' and tags.reused = 'false'"
        made_by = self.client.search_runs([self.experiment], query, max_results=1)
        self._tags(run, what | {"reused": "true", "made_by": made_by[0].info.run_id if made_by else None})
        self.client.set_terminated(run, "FINISHED", event["t"])

    def _on_step_finished(self, event: Event) -> None:
        run = self._step(event)
        self._steps().setdefault(event["step"], {}).update(status=event.get("status"), seconds=event.get("seconds"))
        numbers = {k: event[k] for k in ("rows", "quarantined", "seconds") if isinstance(event.get(k), int | float)}
        self._on_metric({**event, "values": numbers, "at": 0})
        self._flush()
        self.client.set_terminated(run, state(event), event["t"])

    def _on_metric(self, event: Event) -> None:
        from mlflow.entities import Metric

        run, at = self._step(event), int(event.get("at", 0))
        high = self._position.high.setdefault(event["step"], {})
        for key, value in event["values"].items():
            if at > high.get(key, -1):
                high[key] = at
                self._points.setdefault(run, []).append(Metric(allowed(key), float(value), event["t"], at))

    def _on_artifact(self, event: Event) -> None:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, os.path.basename(event["path"]))
            local.write_bytes(self.storage.read(event["path"]))
            self.client.log_artifact(self._step(event), str(local), event.get("to"))

    def _on_table(self, event: Event) -> None:
        run, rows, name = self._step(event), event["rows"], event["name"]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[row.get(column) for column in columns] for row in rows]
        self.client.log_dict(run, {"columns": columns, "data": data}, f"tables/{name}.json")
        self.client.log_text(run, markdown(columns, data), f"tables/{name}.md")
        shown = self._steps().setdefault(event["step"], {}).setdefault("tables", [])
        if name not in shown:
            shown.append(name)
        listed = [{"path": f"tables/{n}.json", "type": "table"} for n in shown]
        self.client.set_tag(run, "mlflow.loggedArtifacts", json.dumps(listed))  # makes the page draw them as tables
        self._position.about.setdefault("tables", {})[name] = markdown(columns, data)
        self._note()

    def _on_tag(self, event: Event) -> None:
        self._tags(self._step(event), event["values"])

    def _on_failure(self, event: Event) -> None:
        self._tags(self._step(event), {"last_failure": f"{event.get('unit', '')}: {event.get('error', '')}"})

    def _on_register(self, event: Event) -> None:
        run = self._step(event)
        version = register(self.client, self.storage, self.experiment, run, event)
        self._tags(run, {"registered": f"{event['name']} version {version}"})

    def _on_alias(self, event: Event) -> None:
        move_alias(self.client, event)

    # -- the server ------------------------------------------------------------------------------------------------
    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Call MLflow. A server that does not answer becomes Unavailable; a refusal goes on as MlflowException."""
        from mlflow.exceptions import MlflowException

        for pause in PAUSES:
            try:
                return call()
            except MlflowException as error:
                if error.error_code in REFUSALS:
                    raise
                if error.error_code in STRANGERS:
                    raise Unavailable(f"MLflow at {self.where} lets us not do this: {_line(error)}. {LOGIN}") from error
                self._ping(error)
                time.sleep(pause)  # it lives, so this may be a passing trouble of that one call
        try:
            return call()
        except MlflowException as error:
            if isinstance(error.__context__, OSError):  # the way there: what stores its files, as a rule
                raise Unavailable(f"MLflow at {self.where} cannot do this now: {_line(error)}") from error
            raise

    def _ping(self, reason: Exception) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.search_experiments(max_results=1)
        except MlflowException:
            raise Unavailable(f"MLflow at {self.where} does not answer: {_line(reason)}") from reason

    def _try(self, event: Event, call: Callable[[], Any]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._guarded(call)
        except (MlflowException, OSError, ValueError, TypeError, KeyError) as error:
            if getattr(getattr(error, "response", None), "status_code", 0) >= 500:  # the store of its artifacts is away
                raise Unavailable(f"MLflow at {self.where} cannot do this now: {_line(error)}") from error
            problem = f"{event['kind']} of {event['step'] or 'the run'}: {type(error).__name__}: {error}"
            print(f"hyperloom tracking: left out of MLflow: {problem}", file=sys.stderr, flush=True)
            if self._position.parent:
                self._guarded(lambda: self._tags(self._position.parent, {"hyperloom.refused": problem}))

    def _find_experiment(self, uri: str, name: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return self.client.create_experiment(name, artifacts(uri, name), dict(KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self._find_experiment(uri, name)  # another run made it at the same moment
        if experiment.lifecycle_stage != "active":
            self.client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id

    # -- runs ------------------------------------------------------------------------------------------------------
    def _parent(self, event: Event) -> str:
        if not self._position.parent:
            name = self._position.about.get("name") or self.run
            self._position.parent = self._find_run(f"{name} {self.run}", {"hyperloom.run": self.run}, event["t"])
        return self._position.parent

    def _step(self, event: Event) -> str:
        """The MLflow run of the event's step, made when it is missing; the parent run for an empty step."""
        parent, step = self._parent(event), event["step"]
        if not step:
            return parent
        if step not in self._position.steps:
            tags = {"hyperloom.step_of": self.run, "step": step, "mlflow.parentRunId": parent}
            self._position.steps[step] = self._find_run(step, tags, event["t"])
        return self._position.steps[step]

    def _find_run(self, name: str, tags: dict[str, str], at: int) -> str:
        where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self.client.search_runs([self.experiment], where, max_results=1)
        return (runs[0] if runs else self.client.create_run(self.experiment, at, tags, name)).info.run_id

    def _steps(self) -> dict[str, dict[str, Any]]:
        return self._position.about.setdefault("steps", {})

    def _tags(self, run: str, values: dict[str, Any]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(allowed(k), blot(str(v))[:LONGEST]) for k, v in values.items() if v is not None]
        for first in range(0, len(tags), PAIRS):
            self.client.log_batch(run, tags=tags[first : first + PAIRS])

    def _params(self, run: str, values: dict[str, Any]) -> None:
        """Log what the run has not yet: parameters are immutable in MLflow, so a repetition must not touch them."""
        from mlflow.entities import Param

        known = self.client.get_run(run).data.params
        params = [Param(allowed(k), blot(v)[:LONGEST]) for k, v in flat(values).items() if allowed(k) not in known]
        for first in range(0, len(params), PAIRS):
            self.client.log_batch(run, params=params[first : first + PAIRS])

    def _inputs(self, run: str, inputs: list[dict[str, Any]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entries = []
        for entry in inputs:
            source = json.dumps({"uri": blot(str(entry.get("uri", "")))})
            dataset = Dataset(entry["name"], str(entry.get("digest", ""))[:36], "uri", source)
            entries.append(DatasetInput(dataset, [InputTag("mlflow.data.context", str(entry.get("stage", "")))]))
        if entries:
            self.client.log_inputs(run, entries)

    def _flush(self) -> None:
        points, self._points = self._points, {}
        for run, all_ in points.items():
            for first in range(0, len(all_), POINTS):
                some = all_[first : first + POINTS]
                self._try({"kind": "metrics", "step": run}, partial(self.client.log_batch, run, metrics=some))

    def _note(self) -> None:
        """Write the parent's description, which the run page shows first."""
        about = self._position.about
        steps = [
            [name, s.get("stage"), str(s.get("fingerprint"))[:12], s.get("status"), s.get("seconds")]
            for name, s in self._steps().items()
        ]
        tables = sorted(about.get("tables", {}).items(), key=lambda t: t[0] != "results")  # what people look for first
        text = Template(NOTE.read_text()).safe_substitute(
            name=about.get("name", ""),
            run=self.run,
            root=blot(str(self.storage)),
            status=about.get("status", ""),
            steps=markdown(["step", "stage", "fingerprint", "status", "seconds"], steps),
            tables="\n".join(f"**{name}**\n\n{table}\n" for name, table in tables),
        )
        self.client.set_tag(self._position.parent, "mlflow.note.content", text[:7900])


def _line(error: Exception) -> str:
    return blot(str(error).partition("\n")[0])
