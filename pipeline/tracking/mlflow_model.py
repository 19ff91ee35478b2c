"""A registered model that loads anywhere, made from a `register` event.

The event says:
    name        of the registered model               alias     such as "champion", or null
    model       fingerprint; files {name: path in the root}; loader: path in the root of one .py file that has
                `_load_pyfunc(folder)` and needs nothing of Hyperloom; requirements: pip lines;
                signature {inputs: [{name, dtype, shape}], outputs: [...]} (-1: any length); example: path of a .npy
    tags {}, metrics {}, description

The model version of a fingerprint is made once: a repetition finds it by its tag and only sets the alias again.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.tracking.wording import allowed

Event = dict[str, Any]
LONGEST = 5000
"""Characters of a version's tag."""


def register(client: Any, storage: Storage, experiment: str, run: str, event: Event) -> str:
    """Make (or find) the model version that `event` describes, under the MLflow run `run`; its number."""
    from mlflow.exceptions import MlflowException

    name, fingerprint = event["name"], event["model"]["fingerprint"]
    tags = {allowed(k): blot(str(v))[:LONGEST] for k, v in (event.get("tags") or {}).items()}
    tags["fingerprint"] = fingerprint
    try:
        client.create_registered_model(name, tags={"made_by": "hyperloom"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = client.search_model_versions(f"name = '{name}'")
    version = next((v for v in known if v.tags.get("fingerprint") == fingerprint), None)
    if version is None:
        logged = _log(client, storage, experiment, run, event, tags)
        description = blot(event.get("description") or "")
        version = client.create_model_version(
            name, logged.artifact_location, run, tags=tags, description=description, model_id=logged.model_id
        )
    if event.get("alias"):
        client.set_registered_model_alias(name, event["alias"], version.version)
    return str(version.version)


def move_alias(client: Any, event: Event) -> None:
    """Set an alias on the version of `event["fingerprint"]`, and tag the version that it left.

    Raises KeyError when there is no such version.
    """
    versions = {v.tags.get("fingerprint"): v for v in client.search_model_versions(f"name = '{event['name']}'")}
    if event["fingerprint"] not in versions:
        raise KeyError(f"{event['name']} has no version {event['fingerprint'][:12]}")
    client.set_registered_model_alias(event["name"], event["alias"], versions[event["fingerprint"]].version)
    if event.get("left") in versions:
        client.set_model_version_tag(event["name"], versions[event["left"]].version, "rolled_back", "true")


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
