"""Networks: a look at a file, with three samples: how it wants its pictures, and what its outputs are.

How pictures are to be scaled stands in no file. It is told by what the network does: one that sees what it was trained
on answers differently to different pictures, and for a mirrored picture gives the mirrored answer. Each usual scaling
is tried and the one that does so best is taken. What came out is then run once more as the expert that the recipe
will hold, so that whatever is wrong is said here.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.stages.label.runtimes.preprocess import Preprocess
from hyperloom.stages.starter.outputs import Guess, NetworkOutputs, guess
from hyperloom.stages.starter.truth import NotUnderstood, names_of, read_names

TYPES = {".onnx": "onnx", ".tflite": "litert", ".pt": "torch", ".pt2": "torch"}
SCALES: dict[str, dict[str, Any]] = {
    "0..255": {},
    "0..1": {"divide": 255},
    "ImageNet's mean and deviation": {"normalise": "imagenet"},
    "-1..1": {"mean": [127.5], "std": [127.5]},
}
KNOWN = {"fastestdet": {"channels": "bgr", "divide": 255}}
"""How the networks of a family that the outputs tell were trained."""
CLOSE = 1.3
"""A scaling whose rival is nearer than this factor is not certain."""
STRIDE, LARGEST = 32, 640
"""Of networks that take any size: sides are multiples of the one and at most the other."""
MINE = '{{type: python, call: "mine:label", in: {column}, out: NAME@{source}}}'


@dataclass
class NetworkLook:
    """An expert as the recipe will write it, the modality of its answer without a size, and what is to be said."""

    path: str
    source: str
    guess: Guess
    type: str
    preprocess: dict[str, Any]
    remarks: list[str] = field(default_factory=list)
    rivals: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Other scalings that fit nearly as well."""

    @property
    def column(self) -> str:
        return f"{self.guess.modality}@{self.source}"

    def expert(self, column: str) -> dict[str, Any]:
        """As a recipe writes it."""
        network: dict[str, Any] = {"type": self.type, "path": self.path, "in": column, "out": self.column}
        if self.preprocess:
            network["preprocess"] = self.preprocess
        decode = self.guess.decode
        return {**network, "decode": decode["type"] if len(decode) == 1 else decode}


def look(path: str, pictures: Sequence[np.ndarray], task: str = "", names: Sequence[str] = ()) -> NetworkLook:
    """Look at a network file with pictures (H, W, 3) uint8. Raises NotUnderstood, naming what to do by hand."""
    path = os.path.abspath(os.path.expanduser(path))
    source = source_of(path)
    session = _session(path, source)
    grid = Preprocess(size=None if session.size else _size(pictures[0])).grid(pictures[0].shape[:2], session.size)
    size = {} if session.size else {"size": list(grid.size)}
    outputs = list(session.outputs) if hasattr(session, "outputs") else [0]
    ask = _asking(session, grid, outputs, path, source)
    scales = SCALES if session.dtype.kind == "f" else {"0..255": {}}
    scores = {name: _follows(ask, {**scale, **size}, pictures, session.layout) for name, scale in scales.items()}
    order = sorted(scores, key=lambda name: -scores[name])
    best, tensors = order[0], ask({**scales[order[0]], **size}, pictures)
    given = list(names) or _names(path, session)
    seen = NetworkOutputs(
        dict(zip(map(str, outputs), tensors, strict=True)), session.layout, grid.tile, session.ending(outputs[0]),
        given, os.path.basename(path), task, session.choices(outputs[0]) if hasattr(session, "choices") else None,
    )  # fmt: skip
    reading = guess(seen)
    if reading is None:
        shapes = ", ".join(f"{n} {list(t.shape)}" for n, t in seen.tensors.items())
        raise NotUnderstood(f"{path}: nothing here reads its outputs ({shapes}). {_by_hand(source)}")
    network = NetworkLook(path, source, reading, TYPES[os.path.splitext(path)[1].lower()], {**scales[best], **size})
    if reading.family:
        network.preprocess = {**KNOWN[reading.family], **size}
    elif len(scales) > 1:
        _doubt(network, scores, order, scales, size)
    return network


def _doubt(network: NetworkLook, scores: dict[str, float], order: list[str], scales: Any, size: dict[str, Any]) -> None:
    """Say how certain the scaling is."""
    best, next_ = order[:2]
    how = f"pixels as {best}: of the usual scalings its answers follow the picture best with it"
    if scores[best] < CLOSE * max(scores[next_], 1e-9):
        network.rivals = {n: {**scales[n], **size} for n in order[1:] if scores[best] < CLOSE * max(scores[n], 1e-9)}
        others = " or ".join(f"{n} ({Preprocess(**scales[n]).arithmetic or 'no preprocess'})" for n in network.rivals)
        network.remarks.append(f"{how}, but not by much; its maker may say {others}")
    else:
        network.remarks.append(f"{how}. If its maker says BGR: channels: bgr")


def source_of(path: str) -> str:
    """A source's name from a file's: its first word that is more than a number."""
    words = [w for w in re.split(r"[^a-z0-9]+", os.path.splitext(os.path.basename(path))[0].lower()) if w]
    return next((w for w in words if not w.isdecimal()), "net")


def _by_hand(source: str) -> str:
    line = MINE.format(column="rgb@camera", source=source)
    return f"Next: leave it out, and write it as an expert of your own in mine.py (docs/experts.md): {line}"


def _session(path: str, source: str) -> Any:
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path):
        raise NotUnderstood(f"{path} is no file. Next: give the path of a network file (--expert net.onnx)")
    if suffix not in TYPES:
        known = ", ".join(TYPES)
        raise NotUnderstood(
            f"{path}: a {suffix or 'file without suffix'} does not say how its network is built; {known} do. Next: "
            f'export it to ONNX (torch.onnx.export), or name its class: {{type: torch, net: "mine:Net", path: ...}}'
        )
    expert = plugins.parse(
        "expert", {"type": TYPES[suffix], "path": path, "in": "rgb@camera", "out": f"map@{source}", "decode": "dense"}
    )
    try:
        session = expert.session()
    except HyperloomError as error:
        raise NotUnderstood(f"{error}. {_by_hand(source)}") from error
    if session.channels not in (None, 1, 3):
        raise NotUnderstood(f"{path} wants pictures of {session.channels} channels. {_by_hand(source)}")
    return session


def _size(picture: np.ndarray) -> tuple[int, int]:
    scale = min(1.0, LARGEST / max(picture.shape[:2]))
    height, width = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in picture.shape[:2])
    return height, width


def _asking(session: Any, grid: Any, outputs: list[Any], path: str, source: str) -> Callable[..., list[np.ndarray]]:
    """A function: the outputs (n, ...) for pictures that are prepared in some way."""

    def ask(scale: dict[str, Any], pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        prepare, grey = Preprocess.model_validate(scale), session.channels == 1
        tiles = [prepare.tiles(p, grid, session.layout, session.dtype, grey)[0] for p in pictures]
        try:
            each = [session(np.stack([t] * (session.batch or 1)), outputs) for t in tiles]
        except HyperloomError:
            raise
        except Exception as error:  # a framework raises its own classes
            text = " ".join(str(error).split())[:300]
            raise NotUnderstood(
                f"{path} does not take a picture of {tiles[0].shape}: {text}. {_by_hand(source)}"
            ) from error
        if any(np.ndim(t) == 0 for t in each[0]):
            raise NotUnderstood(f"{path}: an output is one number for all. {_by_hand(source)}")
        return [np.concatenate([np.asarray(one[i])[:1] for one in each]) for i in range(len(outputs))]

    return ask


def _follows(ask: Any, scale: dict[str, Any], pictures: Sequence[np.ndarray], layout: str) -> float:
    """How far the answer follows the picture, 0 to 1: what differs from picture to picture is mirrored with it (a
    correlation), times how much that is of all that varies."""
    plain = ask(scale, pictures)[0].astype(np.float64)
    mirrored = ask(scale, [np.ascontiguousarray(p[:, ::-1]) for p in pictures])[0].astype(np.float64)
    over: tuple[int, ...] = (0,)
    if plain.ndim == 4:
        axis = 3 if layout == "nchw" else 2
        mirrored, over = np.flip(mirrored, axis), (0, 2, 3) if layout == "nchw" else (0, 1, 2)
    elif plain.ndim == 3 and min(plain.shape[1:]) > 3:
        rows = 2 if plain.shape[1] < plain.shape[2] else 1
        plain, mirrored = plain.max(rows), mirrored.max(rows)
    if not (np.isfinite(plain).all() and np.isfinite(mirrored).all()):
        return -1.0
    spread = plain.std(over, keepdims=True) + 1e-9
    mean = (plain.mean(0) + mirrored.mean(0)) / 2
    one, other = (plain - mean) / spread, (mirrored - mean) / spread
    own = one.var() / max(float(((plain - plain.mean(over, keepdims=True)) / spread).var()), 1e-9)
    pairs = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other) if a.std() > 0 and b.std() > 0]
    return float(np.mean(pairs)) * float(np.sqrt(min(own, 1 / max(own, 1e-9)))) if pairs else 0.0


def _names(path: str, session: Any) -> list[str]:
    """Names of classes: in an ONNX file's metadata, or in a file beside it that is named like it."""
    stem = os.path.splitext(path)[0]
    for suffix in (".txt", ".names", ".json", ".yaml", "_labels.txt", "_classes.txt", ".labels.txt"):
        if os.path.isfile(stem + suffix) and (names := read_names(stem + suffix)):
            return names
    noted = session.noted("names") if hasattr(session, "noted") else ""
    try:
        value = ast.literal_eval(noted) if noted else None
    except (ValueError, SyntaxError):
        value = None
    if isinstance(value, dict):
        numbers = all(str(k).isdecimal() for k in value)  # as letters "10" comes before "2"
        return [str(value[k]) for k in sorted(value, key=(lambda k: int(k)) if numbers else str)]
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return list(value)
    reading = names_of([os.path.dirname(path)])
    return reading.names if reading and value is None and len(os.listdir(os.path.dirname(path))) <= 6 else []
