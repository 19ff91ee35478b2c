"""The student's network as a release describes it: what goes in, what comes out, and an example of a real input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import read_file
from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.network.architecture import MODEL_JSON, Architecture
from hyperloom.stages.results import Judged, Shards, Trained
from hyperloom.stages.table import open_table


def describe(network: bytes, model: Trained, modalities: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """student.json and MLflow's signature for ONNX bytes whose outputs are named after the tasks of `model`.

    The `onnx` of `model` says the outputs' shapes; it takes one picture. Raises IntegrityError where the network lacks
    a task.
    """
    import onnxruntime

    shapes = {o["name"]: o["shape"] for o in (model.onnx or {})["outputs"]}
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    outputs = {o.name for o in session.get_outputs()}
    tasks: dict[str, Any] = {}
    signature: dict[str, Any] = {"outputs": []}
    column = model.visible[0]
    picture = modalities[modality_of(column)]
    shape = picture.shape
    for task in model.tasks:
        if task not in outputs:
            raise IntegrityError(f"the network has no output {task!r}, it has {', '.join(sorted(outputs))}")
        modality = modalities[task]
        tasks[task] = {**modality.to_recipe(), "output": task}
        ids = modality.categorical and modality.height_width is not None  # the loader makes ids of its probabilities
        given = modality.shape if ids else shapes[task]
        signature["outputs"].append({"name": task, "dtype": "uint8" if ids else "float32", "shape": [-1, *given]})
    signature["inputs"] = [{"name": column, "dtype": "uint8", "shape": [-1, *shape]}]
    rules = {name: getattr(picture, name) for name in ("orientation", "levels", "megapixels")}
    return {"input": column, "size": list(shape[:2]), "picture": rules, "tasks": tasks}, signature


def learned(storage: Storage, model: Manifest, folder: str, modalities: Mapping[str, Any]) -> dict[str, Any]:
    """`modalities` with what the network in `folder` learned of its tasks: the words of a text are told by it alone."""
    described = next((f for f in model.all_files() if f.path.startswith(f"{folder}/") and _describes(f.path)), None)
    if described is None:
        return dict(modalities)
    architecture = Architecture.from_json(json.loads(read_file(storage, described)))
    return {**modalities, **{task.name: task.modality for task in architecture.tasks}}


def _describes(path: str) -> bool:
    return path.endswith(f"/{MODEL_JSON}")


def example(storage: Storage, report: Judged, column: str, modalities: Mapping[str, Any]) -> np.ndarray:
    """(1, H, W, 3) uint8: the first image of the split that the report judged on."""
    shards = manifests.load(storage, report.lineage.stage, report.lineage.shards)
    if shards is None:
        raise IntegrityError(
            f"the shards {report.lineage.shards[:12]} of the report are gone. Next: run the same command again"
        )
    path = next(s.path for s in Shards.from_manifest(shards).shards if s.split == report.split and s.rows)
    with open_table(storage, path) as file:
        for part in file.iter_batches(64, columns=[column]):
            values, valid = modalities[modality_of(column)].decode(part.column(column))
            if valid.any():
                return values[valid][:1]
    raise IntegrityError(f"{storage.full(path)} has no {column}")
