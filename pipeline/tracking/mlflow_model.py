"""A registered model that loads anywhere, made from a `register` event.

The event says:
    name        of the registered model               alias     such as "champion", or null
    model       fingerprint; files {name: path in the root}; loader: path in the root of one .py file that has
                `_load_pyfunc(folder)` and needs nothing of Hyperloom; requirements: pip lines;
                signature {inputs: [{name, dtype, shape}], outputs: [...]} (-1: any length); example: path of a .npy
    tags {}, metrics {}, description

The model version of a fingerprint is made once: a repetition finds it by its tag and only sets the alias again. An
alias that a person has moved stays where it is, until a person moves it or rolls back.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking.wording import allowed, cut_lines, spaced

Event = dict[str, Any]
LONGEST = 5000
"""Characters of a version's tag, and of its description."""
REST = "\n\nThe rest of this card is among the artifacts of the run: 4-model-card.md"
NAMED = "hyperloom.name"
"""Tag of a registered model: the name that recipes give it, whatever a person has renamed it to."""


def chosen(uri: str, name: str, alias: str) -> str:
    """The fingerprint of the release that has the alias in the MLflow at `uri`. Raises HyperloomError where nobody can
    tell."""
    from hyperloom.pipeline.tracking.mlflow_server import Server, line

    try:
        server = Server(uri)
        version = server.call(lambda: server.client.get_model_version_by_alias(name, alias))
    except Exception as error:
        raise HyperloomError(f"MLflow does not say who is the {alias} of {name!r}: {line(error)}") from error
    fingerprint = version.tags.get("fingerprint")
    if not fingerprint:
        raise HyperloomError(
            f"version {version.version} of {name!r}, the {alias} in MLflow, is no release of Hyperloom"
        )
    return str(fingerprint)


FEW = ("gate", "fingerprint")
"""Tags of a version; all that a release says of itself is on its card, the description, and in the logged model's
tags."""
DESCRIPTION = """Students that `hyperloom` released. The alias **champion** is the version that passed its gate last.

```python
import mlflow
answers = mlflow.pyfunc.load_model("models:/{name}@champion").predict(images)  # (N, H, W, 3) uint8 -> by task
```
"""


class Registry:
    """The registered models of one MLflow. `note` takes what a person should know of what others did there."""

    def __init__(self, client: Any, storage: Storage, experiment: str, note: Callable[[str], None]):
        self.client, self.storage, self.experiment, self.note = client, storage, experiment, note

    def register(self, run: str, event: Event) -> str:
        """Make (or find) the model version that `event` describes, under the MLflow run `run`; its number."""
        name, fingerprint = event["name"], event["model"]["fingerprint"]
        self._make_model(name)
        version = self._version(name, fingerprint)
        if version is None:
            tags = {allowed(k): blot(str(v))[:LONGEST] for k, v in (event.get("tags") or {}).items()}
            tags["fingerprint"] = fingerprint
            logged = _log(self.client, self.storage, self.experiment, run, event, tags)
            few = {key: tags[key] for key in FEW if key in tags}
            version = self.client.create_model_version(
                name, logged.artifact_location, run, tags=few, description=_described(event), model_id=logged.model_id
            )
        if event.get("alias"):
            self._follow(name, event["alias"], version)
        return str(version.version)

    def move_alias(self, run: str, event: Event) -> None:
        """Set an alias on the version of `event["fingerprint"]`, and tag the version that it left. A version that was
        deleted is made anew, from the event that registered it; KeyError where there is none."""
        name, alias = event["name"], event["alias"]
        version = self._version(name, event["fingerprint"])
        if version is None:
            before = self._registration(name, event["fingerprint"])
            number = self.register(run, {**before, "alias": None, "t": event["t"]})
            version = self.client.get_model_version(name, number)
            self.note(f"MLflow had lost the version of {name!r} that is {alias} again: made anew as version {number}")
        present = self._holder(name, alias)
        chosen = self._person_chose(name, alias, present)
        if chosen and present != str(version.version):
            self.note(f"version {present} of {name!r}, which a person had made {alias} in MLflow, no longer is")
        self._set(name, alias, version)
        left = self._version(name, event.get("left", ""))
        if left is not None:
            self.client.set_model_version_tag(name, left.version, "rolled_back", "true")

    def _follow(self, name: str, alias: str, version: Any) -> None:
        """Move the alias with a new release, unless a person has moved it elsewhere: that stays, and is said. A release
        that is shown again after a later one, or after it was rolled back, moves nothing."""
        present, number = self._holder(name, alias), str(version.version)
        if present in (None, number):
            self._set(name, alias, version)
        elif self._person_chose(name, alias, present):
            self.client.set_registered_model_tag(name, f"hyperloom.{alias}", number)
            self.note(
                f"a person made version {present} of {name!r} the {alias} in MLflow: it stays so; the root's is "
                f"version {number}. Next: move the alias there to {number}, or make the root follow: "
                "hyperloom release RECIPE --adopt"
            )
        elif int(number) > int(present or 0) and "rolled_back" not in (version.tags or {}):
            self._set(name, alias, version)

    def _person_chose(self, name: str, alias: str, present: str | None) -> bool:
        """Has somebody else moved the alias to version `present`? A tag of the model says where we left it."""
        ours = self.client.get_registered_model(name).tags.get(f"hyperloom.{alias}")
        return present is not None and ours is not None and present != ours

    def _set(self, name: str, alias: str, version: Any) -> None:
        self.client.set_registered_model_alias(name, alias, version.version)
        self.client.set_registered_model_tag(name, f"hyperloom.{alias}", str(version.version))

    def _holder(self, name: str, alias: str) -> str | None:
        """The number of the version that has the alias."""
        number = self.client.get_registered_model(name).aliases.get(alias)
        return None if number is None else str(number)

    def _version(self, name: str, fingerprint: str) -> Any:
        """The version of a release; None where there is none."""
        known = self.client.search_model_versions(f"name = '{name}'")
        return next((v for v in known if v.tags.get("fingerprint") == fingerprint), None)

    def _make_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name, {NAMED: name}, DESCRIPTION.format(name=name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return
        others = self.client.search_registered_models(f"tags.`{NAMED}` = '{name}'")
        renamed = ", ".join(repr(model.name) for model in others if model.name != name)
        if renamed:
            self.note(f"the model {name!r} was renamed in MLflow to {renamed}: a new {name!r} begins at version 1")

    def _registration(self, name: str, fingerprint: str) -> Event:
        """The `register` event of a release, wherever under the root it is."""
        for run in reversed(self.storage.names("events")):
            for event in events.read(self.storage, run):
                if event["kind"] == "register" and event["model"]["fingerprint"] == fingerprint:
                    return event
        raise KeyError(f"{name} has no version {fingerprint[:12]}")


def _described(event: Event) -> str:
    """A version's description: its card, without the heading that repeats the name: tables of versions show the first
    line alone. Of one that is too long for MLflow whole lines, and where the rest is."""
    card = str(event.get("description") or "")
    first, _, rest = card.partition("\n")
    text = spaced(blot(rest.lstrip("\n") if rest.strip() and first.startswith("# ") else card))
    return cut_lines(text, LONGEST, REST)


def _log(client: Any, storage: Storage, experiment: str, run: str, event: Event, tags: dict[str, str]) -> Any:
    """Log the model and return MLflow's record of it. One that a killed tracker left behind is replaced."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

    for old in client.search_logged_models([experiment], f"source_run_id = '{run}'"):
        if old.tags.get("fingerprint") == tags["fingerprint"]:
            client.delete_logged_model(old.model_id)
    logged = client.create_logged_model(experiment, event["name"], run, tags=tags, model_type="hyperloom student")
    with tempfile.TemporaryDirectory() as folder:
        client.log_model_artifacts(logged.model_id, _build(storage, folder, run, logged.model_id, event))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run, [LoggedModelOutput(logged.model_id, 0)])
    values = (event.get("metrics") or {}).items()
    points = [Metric(allowed(k), float(v), event["t"], 0, model_id=logged.model_id) for k, v in values]
    client.log_batch(run, metrics=points)
    return logged


def _build(storage: Storage, folder: str, run: str, model_id: str, event: Event) -> str:
    """Write the pyfunc model below the local `folder`; where it is."""
    import numpy as np
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    spec, data, target = event["model"], Path(folder, "data"), Path(folder, "model")
    data.mkdir()
    for name, path in spec["files"].items():
        Path(data, name).write_bytes(storage.read(path))
    loader = Path(folder, Path(spec["loader"]).name)
    loader.write_bytes(storage.read(spec["loader"]))
    example = np.load(io.BytesIO(storage.read(spec["example"])), allow_pickle=False) if spec.get("example") else None
    save_model(
        str(target),
        loader_module=loader.stem,
        data_path=str(data),
        code_paths=[str(loader)],
        mlflow_model=Model(run_id=run, model_id=model_id),
        signature=signature(spec["signature"]),
        input_example=example,
        pip_requirements=list(spec.get("requirements", [])),
    )
    return str(target)


def signature(spec: dict[str, list[dict[str, Any]]]) -> Any:
    """MLflow's signature of tensors. A single tensor has no name, since it is passed as a bare array."""
    import numpy as np
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    def schema(entries: list[dict[str, Any]]) -> Schema:
        named = len(entries) > 1
        return Schema(
            [TensorSpec(np.dtype(e["dtype"]), tuple(e["shape"]), e["name"] if named else None) for e in entries]
        )

    return ModelSignature(inputs=schema(spec["inputs"]), outputs=schema(spec["outputs"]))
