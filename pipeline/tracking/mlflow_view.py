"""What MLflow shows: a parent run for the pipeline run, a child run for each step.

Every call names its run (MlflowClient, never the fluent API), and every call may be repeated: runs are found again by
their tags, a metric point has the time of its event, an artifact replaces itself. What MLflow refuses for good (a
missing file) is left out and said, at the terminal and in the parent's tag `hyperloom.refused`; when the server does
not answer, `Unavailable` goes up and the events wait.

An event whose `step` is empty belongs to the parent run. Shards, labels and checkpoints are never uploaded: a data set
is a name, a digest and a URI. Secrets are blotted out.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from hyperloom.pipeline.process import named
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.tracking.mlflow_model import Event, Registry
from hyperloom.pipeline.tracking.mlflow_runs import Runs
from hyperloom.pipeline.tracking.mlflow_server import Server
from hyperloom.pipeline.tracking.tracker import Position
from hyperloom.pipeline.tracking.wording import apart, markdown, state

NOTE = Path(__file__).parents[2] / "mlflow" / "run.md"


class MLflow:
    """The view. `uri` is MLflow's tracking URI; the experiment is made when it is missing. Raises Unavailable."""

    def __init__(self, storage: Storage, run: str, uri: str, experiment: str):
        self.storage, self.run, self.server = storage, run, Server(uri)
        self.client, self.store = self.server.client, self.server.identity()
        self.runs = Runs(self.server, run, experiment)
        self._points: dict[str, list[Any]] = {}
        self._position = Position(self.server.where)

    # -- the protocol of pipeline.tracking.tracker.View ------------------------------------------------------------
    def take(self, batch: list[Event], position: Position) -> None:
        """Show `batch`. Raises Unavailable, Forgotten."""
        self._position, self._points = position, {}
        self.runs.begin(position)
        for event in batch:
            handle = getattr(self, f"_on_{event['kind']}", None)
            if handle is not None:
                self.runs.attempt(f"{event['kind']} of {event['step'] or 'the run'}", partial(handle, event))
        self._flush()

    def abandon(self, position: Position) -> None:
        """Mark what still runs as killed; a later driver of the same run sets it running again. Raises Unavailable,
        Forgotten."""
        self._position = position
        self.runs.begin(position)
        self.runs.restore()
        for about in (position.about, *self._steps().values()):
            if about.get("status") == "running":
                about["status"] = "killed"
        self.server.call(self._note)
        closed = f"{named(position.driver)}, the driver, ended without a word; the same command goes on where it was"
        self.runs.tags(position.parent, {"hyperloom.closed": closed})
        for id_ in [*position.steps.values(), position.parent]:
            run = self.server.call(partial(self.client.get_run, id_))
            if run.info.status == "RUNNING":
                self.server.call(partial(self.client.set_terminated, id_, "KILLED"))

    # -- events ----------------------------------------------------------------------------------------------------
    def _on_run_started(self, event: Event) -> None:
        about = self._position.about
        about.update(name=event.get("name", ""), status="running")
        parent = self.runs.parent(event)
        self.client.update_run(parent, status="RUNNING")
        self.runs.tags(parent, {"mlflow.source.name": event.get("path"), "mlflow.source.type": "LOCAL"})
        self.runs.params(parent, event.get("params", {}))
        self.client.log_text(parent, blot(event.get("recipe", "")), "recipe.yaml")
        self._note()

    def _on_run_finished(self, event: Event) -> None:
        self._flush()
        self.runs.restore()  # what was deleted after its last event
        self._position.about.update(status=event.get("status", ""), seconds=event.get("seconds"))
        self._note()
        self.client.set_terminated(self.runs.parent(event), state(event), event["t"])

    def _on_step_started(self, event: Event) -> None:
        run, before = self.runs.step(event), self._steps().get(event["step"], {})
        if before.get("fingerprint") not in (None, event.get("fingerprint")):
            self._position.high.pop(event["step"], None)  # another training: its points are new
        what = {"stage": event.get("stage"), "fingerprint": event.get("fingerprint")}
        self._steps()[event["step"]] = before | what | {"status": "running"}
        self.client.update_run(run, status="RUNNING")
        self.runs.tags(run, what | {"reused": "false"})
        self.runs.params(run, event.get("params", {}))
        self._inputs(run, event.get("inputs", []))

    def _on_step_reused(self, event: Event) -> None:
        run, what = self.runs.step(event), {"stage": event.get("stage"), "fingerprint": event.get("fingerprint")}
        self._steps()[event["step"]] = what | {"status": "reused"}
        query = f"tags.fingerprint = '{event.get('fingerprint')}' and tags.reused = 'false'"
        made_by = self.client.search_runs([self.runs.experiment], query, max_results=1)
        self.runs.tags(run, what | {"reused": "true", "made_by": made_by[0].info.run_id if made_by else None})
        self.client.set_terminated(run, "FINISHED", event["t"])

    def _on_step_finished(self, event: Event) -> None:
        run = self.runs.step(event)
        self._steps().setdefault(event["step"], {}).update(status=event.get("status"), seconds=event.get("seconds"))
        numbers = {k: event[k] for k in ("rows", "quarantined", "seconds") if isinstance(event.get(k), int | float)}
        self._on_metric({**event, "values": numbers, "at": 0})
        self._flush()
        self.client.set_terminated(run, state(event), event["t"])

    def _on_metric(self, event: Event) -> None:
        run, at = self.runs.step(event), int(event.get("at", 0))
        high = self._position.high.setdefault(event["step"], {})
        fresh = {key: value for key, value in event["values"].items() if at > high.get(key, -1)}
        high |= dict.fromkeys(fresh, at)
        names = apart(high)
        for key, value in fresh.items():
            self.runs.attempt(f"the metric {key}", partial(self._point, run, names[key], value, event["t"], at))

    def _point(self, run: str, name: str, value: Any, t: int, at: int) -> None:
        from mlflow.entities import Metric

        self._points.setdefault(run, []).append(Metric(name, float(value), t, at))

    def _on_artifact(self, event: Event) -> None:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, os.path.basename(event["path"]))
            local.write_bytes(self.storage.read(event["path"]))
            self.client.log_artifact(self.runs.step(event), str(local), event.get("to"))

    def _on_table(self, event: Event) -> None:
        run, rows, name = self.runs.step(event), event["rows"], event["name"]
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
        self.runs.tags(self.runs.step(event), event["values"])

    def _on_failure(self, event: Event) -> None:
        self.runs.tags(self.runs.step(event), {"last_failure": f"{event.get('unit', '')}: {event.get('error', '')}"})

    def _on_register(self, event: Event) -> None:
        run = self.runs.step(event)
        version = self._registry().register(run, event)
        self.runs.tags(run, {"registered": f"{event['name']} version {version}"})

    def _on_alias(self, event: Event) -> None:
        self._registry().move_alias(self.runs.step(event), event)

    def _registry(self) -> Registry:
        return Registry(self.client, self.storage, self.runs.experiment, self._position.note)

    # -- what is shown ---------------------------------------------------------------------------------------------
    def _steps(self) -> dict[str, dict[str, Any]]:
        return self._position.about.setdefault("steps", {})

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
            self.runs.attempt("metrics", partial(self.runs.batch, "metrics", run, all_))

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
