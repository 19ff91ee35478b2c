"""Speed: the student against the ensemble, in one process on one thread, interleaved.

Times are medians of milliseconds for one frame at a time. The ensemble's is the networks' passes alone; what its inputs
cost besides, the experts over the photo, stands under `experts_ms`, without which the ensemble sees nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hyperloom.pipeline.manifest import Manifest
from hyperloom.pipeline.recipe import Recipe
from hyperloom.pipeline.storage import Storage

PHOTO, PICTURE = "photo@camera", "rgb@camera"
ROUNDS, EXPERT_ROUNDS = 15, 3


def speed(recipe: Recipe, manifests: dict[str, Manifest], storage: Storage) -> dict[str, Any]:
    """Milliseconds a frame of ensemble, single pass, student (torch and ONNX Runtime) and experts, and their ratios."""
    import torch

    from hyperloom.stages.network.ensemble import predictor

    torch.set_num_threads(1)
    members = next(e.ensemble for e in recipe.steps["answers"].experts if "semantic@ensemble" in e.out)
    inputs = _inputs(recipe, manifests["teacher"].body["columns_in"])
    picture = {PICTURE: inputs[PICTURE]}
    teacher, alone = predictor(storage, manifests["teacher"], members), predictor(storage, manifests["teacher"])
    student = predictor(storage, manifests["student"])
    onnx = _onnx(storage, manifests["student"], inputs[PICTURE])
    timed = _timed(
        {
            "ensemble_ms": lambda: teacher(inputs),
            "single_ms": lambda: alone(inputs),
            "student_ms": lambda: student(picture),
            "student_onnx_ms": onnx,
        },
        ROUNDS,
    )
    experts = _experts(recipe, storage)
    return {
        **timed,
        "experts_ms": experts,
        "student_vs_ensemble": round(timed["ensemble_ms"] / timed["student_ms"], 1),
        "student_onnx_vs_ensemble_with_experts": round((timed["ensemble_ms"] + experts) / timed["student_onnx_ms"], 1),
    }


def _inputs(recipe: Recipe, columns: list[str]) -> dict[str, np.ndarray]:
    """One frame of noise: what a network computes does not depend on it."""
    generator = np.random.default_rng(0)
    found = {}
    for column in columns:
        modality: Any = recipe.modalities[column.partition("@")[0]]
        values = generator.random((1, *modality.shape))
        found[column] = (values * (255 if modality.type == "image" else 1)).astype(modality.dtype)
    return found


def _onnx(storage: Storage, student: Manifest, picture: np.ndarray) -> Callable[[], Any]:
    import onnxruntime

    from hyperloom.stages.distill.export import STUDENT_ONNX

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    data = storage.read(f"{student.folder}/{STUDENT_ONNX}")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: picture}
    return lambda: session.run(None, feed)


def _experts(recipe: Recipe, storage: Storage) -> float:
    """All experts that read the photo, one after the other; those that rework their answers cost next to nothing."""
    readers = [e for e in recipe.steps["labels"].experts if e.in_ == (PHOTO,)]
    photo: Any = recipe.modalities[PHOTO.partition("@")[0]]
    frame = {PHOTO: np.full((1, *photo.shape), 128, np.uint8)}
    built = [e.build(recipe.modalities, storage) for e in readers]
    return _timed({"all": lambda: [function(frame) for function in built]}, EXPERT_ROUNDS)["all"]


def _timed(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, call in work.items():
            began = time.perf_counter()
            call()
            spent[name].append(1000 * (time.perf_counter() - began))
    return {name: round(statistics.median(times[1:]), 2) for name, times in spent.items()}
