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
from typing import Any

from hyperloom.pipeline.host.process import named
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking import landing
from hyperloom.pipeline.tracking.mlflow_model import Event, Registry
from hyperloom.pipeline.tracking.mlflow_runs import Runs, begun, first_times, last_by
from hyperloom.pipeline.tracking.mlflow_server import Server
from hyperloom.pipeline.tracking.tracker import Position
from hyperloom.pipeline.tracking.wording import apart, cut_lines, markdown, spaced, state

LONGEST_NOTE, LESSON = 7900, "learned_from."
"""Characters of a run's description; how the tags begin that say what a model learned from."""
REST = "\n\nMLflow takes no more of it here; `hyperloom report` shows all."


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
        self.runs.first = first_times(batch)
        for event in batch:  # the run has its name before anything is said of it, whoever wrote first
            if event["kind"] == "run_started":
                position.about.setdefault("name", event.get("name", ""))
                position.about["order"] = event.get("steps", [])
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
        for name, about in (("", position.about), *self._steps().items()):
            if about.get("status") == "running":
                about["status"] = "killed"
                self.server.call(partial(self._note_step, {"step": name}))
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
        about.update(name=event.get("name", ""), status="running", experiment=self.runs.experiment, begun=[])
        parent = about["parent"] = self.runs.parent(event)
        self.client.update_run(parent, status="RUNNING")
        source = {"mlflow.source.name": event.get("path"), "mlflow.source.type": "LOCAL"}
        self.runs.tags(parent, {**source, "kind": "run"})
        self.runs.params(parent, event.get("params", {}))
        self.client.log_text(parent, blot(event.get("recipe", "")), landing.RECIPE)
        self._note()

    def _on_run_finished(self, event: Event) -> None:
        self._flush()
        self.runs.restore()  # what was deleted after its last event
        about = self._position.about
        about.update(status=event.get("status", ""), seconds=event.get("seconds"))
        verdict = about.get("verdict") or "; ".join(about.get("verdicts", ()))
        self.runs.tags(self.runs.parent(event), {"verdict": verdict or about["status"]})
        self._note()
        self._arrange()
        self.client.set_terminated(self.runs.parent(event), state(event), event["t"])

    def _on_step_started(self, event: Event) -> None:
        run = self._begin(event, "running", [entry["name"] for entry in event.get("inputs", ())])
        self.client.update_run(run, status="RUNNING")
        self.runs.tags(run, {"fingerprint": event.get("fingerprint"), "reused": "false", "kind": event.get("stage")})
        params = {k: v for k, v in event.get("params", {}).items() if k != "stage"}  # it is the tag `kind`
        self._steps()[event["step"]]["others"] = self.runs.params(run, self._named(params))
        self._inputs(run, event.get("inputs", []))
        self._note_step(event)

    def _begin(self, event: Event, status: str, reads: list[str]) -> str:
        """Note what the event's step is; its run. What is told of a step with another fingerprint is told no longer."""
        run, name, steps = self.runs.step(event), event["step"], self._steps()
        before = steps.get(name, {})
        anew = before.get("fingerprint") not in (None, event.get("fingerprint"))
        what = {"stage": event.get("stage"), "fingerprint": event.get("fingerprint"), "status": status, "reads": reads}
        steps[name] = what if anew else before | what
        high = self._position.high
        begun(self._position, name, anew)
        if anew:
            self._forget(run, before)
        else:
            high[name] = {key: at or -1 for key, at in high.get(name, {}).items()}  # what is said once is said anew
        return run

    def _forget(self, run: str, before: dict[str, Any]) -> None:
        """Take what came of a step from its page and from that of the whole run, but for what other steps say too."""
        about, steps = self._position.about, self._steps().values()
        sentences, tables = (
            {text for text in before.get(key, ()) if not any(text in step.get(key, ()) for step in steps)}
            for key in ("sentences", "tables")
        )
        about["verdicts"] = [text for text in about.get("verdicts", ()) if text not in sentences]
        about["tables"] = {table: text for table, text in about.get("tables", {}).items() if table not in tables}
        if before.get("tables"):
            self._draw_as_tables(run, [])
        if before.get("sentences"):
            self.runs.tags(run, {"verdict": ""})
        self._note()

    def _on_step_reused(self, event: Event) -> None:
        run = self._begin(event, "reused", event.get("reads", []))
        query = f"tags.fingerprint = '{event.get('fingerprint')}' and tags.reused = 'false'"
        query += " and attributes.status = 'FINISHED'"
        earlier = self.client.search_runs([self.runs.experiment], query, max_results=1)
        made_by, its = (earlier[0].info.run_id, earlier[0].data.tags) if earlier else (None, {})
        verdict = "" if "gate" in its else its.get("verdict", "")  # who is the champion may have changed since
        tags = {"fingerprint": event.get("fingerprint"), "reused": "true", "made_by": made_by, "verdict": verdict}
        self.runs.tags(run, {**tags, "kind": event.get("stage")})
        if verdict:  # it holds of this run too
            for texts in self._verdicts(), self._steps()[event["step"]].setdefault("sentences", []):
                texts += [verdict] if verdict not in texts else []
        self._on_metric({**event, "step": "", "values": event.get("figures", {}), "by": event["step"]})
        self._note_step(event)
        if made_by:
            self.runs.attempt(f"what {event['step']} shows", partial(self._show_again, event, made_by))
        self.client.set_terminated(run, "FINISHED", event["t"])

    def _show_again(self, event: Event, made_by: str) -> None:
        """Put picture and results of a step that another run has done on the page of this one."""
        about, parent = self._position.about, self.runs.parent(event)
        for file in self.client.list_artifacts(made_by, "pictures"):
            before = about.get("picture")
            about["picture"] = landing.first_picture(before, made_by, file.path)
            if about["picture"] != before:
                self._show(parent, file.path, self._get(made_by, file.path))
        if any(file.path == "tables/results.json" for file in self.client.list_artifacts(made_by, "tables")):
            table = json.loads(self._get(made_by, "tables/results.json"))
            self._results(parent, table["columns"], table["data"])
            about.setdefault("tables", {})["results"] = self._in_short("results", table["columns"], table["data"])
        self._note()

    def _on_step_finished(self, event: Event) -> None:
        run = self.runs.step(event)
        self._steps().setdefault(event["step"], {}).update(status=event.get("status"), seconds=event.get("seconds"))
        counts = ("rows", "quarantined") if event.get("rows") or event.get("quarantined") else ()  # none of a training
        numbers = {k: event[k] for k in (*counts, "seconds") if isinstance(event.get(k), int | float)}
        self._on_metric({**event, "values": numbers, "at": 0})
        self._flush()
        self._note_step(event)
        self.client.set_terminated(run, state(event), event["t"])

    def _on_metric(self, event: Event) -> None:
        run, at = self.runs.step(event), int(event.get("at", 0))
        high = self._position.high.setdefault(event["step"], {})
        last = last_by(self._position.about, event)
        fresh = {key: value for key, value in event["values"].items() if at > high.get(key, -1) or key in last}
        high |= dict.fromkeys(fresh, at)
        names = apart(high)
        if not event["step"] and fresh:
            figures = self._position.about.setdefault("figures", [])
            figures += [names[key] for key in fresh if names[key] not in figures]
            self._arrange()
        for key, value in fresh.items():
            point = partial(self._point, run, names[key], value, last.get(key, int(event["t"])), at)
            self.runs.attempt(f"the metric {key}", point)

    def _point(self, run: str, name: str, value: Any, t: int, at: int) -> None:
        from mlflow.entities import Metric

        self._points.setdefault(run, []).append(Metric(name, float(value), t, at))

    def _on_artifact(self, event: Event) -> None:
        run, about, step, to = self.runs.step(event), self._position.about, event["step"], event.get("to") or ""
        data, name = self.storage.read(event["path"]), os.path.basename(event["path"])
        before = about.get("picture")
        if step:
            self._put(run, f"{to}/{name}".lstrip("/"), data)
            about["picture"] = landing.first_picture(before, run, f"{to}/{name}".lstrip("/"))
        if shown := landing.on_the_run(event["path"], step, to):
            self._put(self.runs.parent(event), shown, data)
            about.update({"report": shown} if shown == landing.REPORT else {})
        if about.get("picture") != before:
            self._show(self.runs.parent(event), name, data)

    def _show(self, parent: str, name: str, data: bytes) -> None:
        """The picture of the whole run, and how its page shows it."""
        self._put(parent, f"{landing.PICTURE}{Path(name).suffix}", data)
        self._put(parent, landing.PREVIEW, landing.preview(data))

    def _in_short(self, name: str, columns: list[str], data: list[list[Any]]) -> str:
        """A table as a description shows it."""
        return landing.in_short(columns, data, self._position.about.get("figures", ()) if name == "results" else ())

    def _put(self, run: str, path: str, data: bytes) -> None:
        """A file among a run's artifacts; what is there under this name is replaced."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, os.path.basename(path))
            local.write_bytes(data)
            self.client.log_artifact(run, str(local), os.path.dirname(path) or None)

    def _get(self, run: str, path: str) -> bytes:
        """A file among a run's artifacts."""
        with tempfile.TemporaryDirectory() as folder:
            return Path(self.client.download_artifacts(run, path, folder)).read_bytes()

    def _on_table(self, event: Event) -> None:
        run, rows, name = self.runs.step(event), event["rows"], event["name"]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[row.get(column) for column in columns] for row in rows]
        self.client.log_dict(run, {"columns": columns, "data": data}, f"tables/{name}.json")
        if name == "results":
            self._results(self.runs.parent(event), columns, data)
        self.client.log_text(run, markdown(columns, data), f"tables/{name}.md")
        shown = self._steps().setdefault(event["step"], {}).setdefault("tables", [])
        if name not in shown:
            shown.append(name)
        self._draw_as_tables(run, [f"tables/{n}.json" for n in shown])
        self._position.about.setdefault("tables", {})[name] = self._in_short(name, columns, data)
        self._note_step(event)
        self._note()

    def _results(self, parent: str, columns: list[str], data: list[list[Any]]) -> None:
        """The results, on the page of the whole run."""
        self.client.log_dict(parent, {"columns": columns, "data": data}, landing.RESULTS)
        self._draw_as_tables(parent, [landing.RESULTS])

    def _draw_as_tables(self, run: str, paths: list[str]) -> None:
        self.client.set_tag(run, "mlflow.loggedArtifacts", json.dumps([{"path": p, "type": "table"} for p in paths]))

    def _on_tag(self, event: Event) -> None:
        values, about = dict(event["values"]), self._position.about
        outcome = str(values.pop("outcome", ""))
        if not event["step"]:
            about["verdict"] = outcome or about.get("verdict", "")  # the run's tag, at its end
            return self.runs.tags(self.runs.step(event), values)
        sentences = [str(t) for k, t in values.items() if k.startswith("verdict.")]
        lessons = [f"learned from {k.removeprefix(LESSON)}: {t}" for k, t in values.items() if k.startswith(LESSON)]
        verdicts = self._verdicts()
        verdicts += [text for text in sentences if text not in verdicts]
        words = {k: t for k, t in values.items() if not k.startswith("verdict.")}
        self.runs.tags(self.runs.step(event), words | ({"verdict": outcome} if outcome else {}))
        shown = self._steps().setdefault(event["step"], {}).setdefault("sentences", [])
        reasons = f"{outcome}: {words['reasons']}" if outcome and words.get("reasons") else outcome
        shown += [text for text in (reasons, *sentences, *lessons) if text and text not in shown]
        self._note_step(event)

    def _on_failure(self, event: Event) -> None:
        self.runs.tags(self.runs.step(event), {"last_failure": f"{event.get('unit', '')}: {event.get('error', '')}"})

    def _on_register(self, event: Event) -> None:
        run = self.runs.step(event)
        version = self._registry().register(run, event)
        self.runs.tags(run, {"registered": f"{event['name']} version {version}"})
        self._position.about.setdefault("models", {})[event["name"]] = version
        self._arrange()

    def _on_alias(self, event: Event) -> None:
        self._registry().move_alias(self.runs.step(event), event)

    def _registry(self) -> Registry:
        return Registry(self.client, self.storage, self.runs.experiment, self._position.note)

    # -- what is shown ---------------------------------------------------------------------------------------------
    def _verdicts(self) -> list[str]:
        verdicts: list[str] = self._position.about.setdefault("verdicts", [])
        return verdicts

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
        about, parent = self._position.about, self._position.parent
        text = landing.description(self.run, about, self._steps(), blot(str(self.storage)))
        self.client.set_tag(parent, landing.NOTE, cut_lines(spaced(text), LONGEST_NOTE, REST))

    def _note_step(self, event: Event) -> None:
        """Write the description of the step's run."""
        if event["step"]:
            step = self._steps().setdefault(event["step"], {})
            text = blot(landing.step_description(event["step"], self._position.about, step))
            self.client.set_tag(self.runs.step(event), landing.NOTE, cut_lines(spaced(text), LONGEST_NOTE, REST))

    def _named(self, value: Any) -> Any:
        """Parameters in which a step that was read has its name beside its fingerprint."""
        if isinstance(value, dict):
            return {key: self._named(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self._named(entry) for entry in value]
        names = (name for name, step in self._steps().items() if value and step.get("fingerprint") == value)
        return next((f"{name} ({value[:12]})" for name in names), value)

    def _arrange(self) -> None:
        """Say which columns the experiment's table has, and what the experiment is."""
        about, experiment = self._position.about, self.runs.experiment
        for key, value in (
            (landing.VIEW, landing.view(about.get("figures", ()))),
            (landing.NOTE, landing.about_experiment(about.get("name", ""), about.get("models", {}))),
        ):
            self.client.set_experiment_tag(experiment, key, value[: landing.LONGEST])
