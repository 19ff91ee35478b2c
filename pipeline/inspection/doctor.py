"""Doctor: looks at what a run would need, before it needs it. Every finding says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from urllib.parse import urlparse

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.root import claims
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking.health import problem
from hyperloom.pipeline.tracking.store import store_uri

Finding = tuple[str, str, str]
"""(ok | note | bad, what was looked at, what was found and what to do)"""

LIBRARIES = {
    "ray": "ray",
    "torch": "train",
    "mlflow": "mlflow",
    "pyarrow": "",
    "cv2": "vision",
    "onnxruntime": "onnx",
    "ai_edge_litert": "litert",
}
CV2 = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
DISTRIBUTIONS = {"cv2": CV2, "ai_edge_litert": ("ai-edge-litert", "ai-edge-litert-nightly")}
"""What brings a module that is not named like it. Asking what all installed packages bring takes a second."""


def examine(root: str, tracking: str | None, connect: Callable[[], None] | None) -> Iterator[Finding]:
    """Findings, from the cheap to the dear. `connect` (None: not tried) starts or joins Ray."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield ("ok" if sys.version_info >= (3, 11) else "bad", "python", f"{version} ({sys.executable})")
    for module, extra in LIBRARIES.items():
        if find_spec(module) is None:
            yield "note", module, f"not installed. Next, if a recipe needs it: pip install 'hyperloom[{extra}]'"
        else:
            yield "ok", module, _version(module)
    storage = Storage(root)
    yield from _root(storage)
    yield _tracking(store_uri(storage, tracking))
    if connect is not None:
        yield _ray(connect)


def _root(storage: Storage) -> Iterator[Finding]:
    try:
        storage.check_writable()
        yield "ok", "root", f"{storage} can be written"
        exclusive = storage.probe_exclusive()
        yield ("ok", "root", "keeps exclusive creation") if exclusive else (
            "note", "root", "does not keep exclusive creation: claims take seconds, since they are read back",
        )  # fmt: skip
        for card in claims.cards(storage):
            yield "note", "root", f"in use by {process.named(card)}, recipe {card['recipe']!r}"
    except HyperloomError as error:
        yield "bad", "root", str(error)
    if storage.is_local and os.path.isdir(storage.base):
        free = shutil.disk_usage(storage.base).free / 2**30
        yield (
            ("ok" if free > 2 else "bad"),
            "disk",
            f"{free:.1f} GiB free" + ("" if free > 2 else ". Next: free some space"),
        )


def _tracking(uri: str) -> Finding:
    parsed = urlparse(uri)
    if not uri:
        return (
            "bad",
            "mlflow",
            "a remote root has no store of its own. Next: set MLFLOW_TRACKING_URI or `tracking:` in the recipe",
        )
    origin = (
        " (MLFLOW_TRACKING_URI in your environment names it)" if uri == os.environ.get("MLFLOW_TRACKING_URI") else ""
    )
    try:
        if parsed.scheme in ("http", "https"):
            port = parsed.port or (443 if parsed.scheme == "https" else 80)
            socket.create_connection((parsed.hostname or "", port), timeout=3).close()
    except (OSError, ValueError) as error:
        waits = f"{parsed.hostname} does not answer ({error}); runs go on, and are replayed once it does"
        return "bad", "mlflow", waits + origin
    trouble = problem(uri) if find_spec("mlflow") else ""
    if trouble:
        return "bad", "mlflow", trouble + origin
    shown = f"{parsed.hostname}:{parsed.port} answers" if parsed.hostname else f"store {uri.split('://')[0]}"
    return "ok", "mlflow", f"{shown}{origin}; `hyperloom ui RECIPE` shows it"


def _ray(connect: Callable[[], None]) -> Finding:
    try:
        connect()
        import ray

        resources = ray.cluster_resources()
        return (
            "ok",
            "ray",
            f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs, {counted(len(ray.nodes()), 'node')}",
        )
    except HyperloomError as error:
        return "bad", "ray", str(error)


def _version(module: str) -> str:
    for name in DISTRIBUTIONS.get(module, (module,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "installed"
