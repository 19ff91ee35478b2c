"""Raw data in a bucket of a real S3 server: what consoles, Macs and cards leave beside it is no sample, and a bucket
gives the same samples, partitions and indices as a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from tests.stores import roots
from tests.stores.roots import Store
from tests.unit import inline
from tests.unit.test_ingest import KNOWN, film, rows, stage

pytest.importorskip("s3fs")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with roots.opened("moto", tmp_path_factory.mktemp("moto")) as store:
        yield store


def card(folder: Path) -> dict[str, bytes]:
    """A card that a Mac has seen: four pictures, a label for each, a film, and hidden files beside all of them."""
    files: dict[str, bytes] = {}
    for n in range(4):
        picture = cv2.imencode(".png", np.full((12, 16, 3), 40 * n, np.uint8))[1].tobytes()
        label = cv2.imencode(".png", np.full((12, 16), n % 2, np.uint8))[1].tobytes()
        files |= {f"imgs/{n}.png": picture, f"labels/{n}.png": label}
    films = film(folder / "made" / "a.avi", 3)
    files["films/a.avi"] = films.read_bytes()
    hidden = {f"{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}": bytes(4096) for name in files}
    return files | hidden | {"imgs/.cache/9.png": files["imgs/0.png"], "imgs/.DS_Store": bytes(100)}


MARKERS = ("", "imgs/", "labels/", "films/", "imgs/deep/", "imgs_$folder$")
"""Objects of no byte that consoles and Hadoop make for folders, below the prefix."""


def ingest(root: Path, source: dict[str, Any]) -> tuple[Manifest, Storage]:
    storage = Storage(str(root))
    return inline.finish(inline.step(stage(source), storage, KNOWN)), storage


@pytest.mark.parametrize(
    ("kind", "path"),
    [("files", "imgs"), ("files", "imgs/*.png"), ("files", "imgs/**"), ("files", "im*s/*"), ("video", "films")],
)
def test_a_bucket_gives_what_a_folder_does(store: Store, tmp_path: Path, kind: str, path: str) -> None:
    bucket, prefix = Storage(store.url).fs, f"hyperloom/{tmp_path.name}"
    for name, data in card(tmp_path).items():
        (tmp_path / "card" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "card" / name).write_bytes(data)
        bucket.pipe_file(f"{prefix}/{name}", data)
    for name in MARKERS:
        bucket.pipe_file(f"{prefix}/{name}", b"")
    bucket.invalidate_cache()
    both = {}
    for place, base in (("local", f"{tmp_path}/card"), ("bucket", f"s3://{prefix}")):
        source = {"type": kind, "path": f"{base}/{path}"}
        if kind == "files":
            source["columns"] = {"semantic@truth": f"{base}/labels/{{stem}}.png"}  # type: ignore[assignment]
        made, storage = ingest(tmp_path / place, source)
        labels = inline.column(storage, KNOWN, made, "semantic@truth") if kind == "files" else {}
        assert made.quarantined == 0 and all(value is not None for value in labels.values())
        both[place] = (rows(made, storage), [tuple(p) for p in made.body["partitions"]])
    assert len(both["local"][0]) == (4 if kind == "files" else 3)
    assert both["local"] == both["bucket"]
