"""Entries of the catalogue, asked for by name: the hub on this machine holds a tiny random model of each architecture.

A line of a recipe goes the whole way: pinned by the hub, fetched, checked, loaded, asked. What comes out has the shape
of its modality, and classes go by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.catalogue import entry
from hyperloom.stages.label.hub import fetch
from hyperloom.stages.label.probe import sample
from tests.experts.hub import Hub, alone, serving

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.experts import tiny

CLASSES = ["car", "Person", "tree"]
MODALITIES = {
    "rgb": {"type": "image", "size": [32, 64]},
    "depth": {"type": "dense", "size": [32, 64]},
    "semantic": {"type": "segmentation", "size": [32, 64], "classes": CLASSES},
    "things": {"type": "instances", "size": [32, 64], "most": 6, "classes": CLASSES},
    "boxes": {"type": "boxes", "most": 5, "classes": CLASSES},
    "kind": {"type": "category", "classes": CLASSES},
    "heard": {"type": "category", "classes": ["speech", "Music"]},
    "embedding": {"type": "embedding", "length": 16},
    "text": {"type": "text", "length": 60},
    "sound": {"type": "audio", "rate": 16000, "seconds": 0.5},
}
KNOWN = {name: plugins.parse("modality", about) for name, about in MODALITIES.items()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Path]]:
    """A hub with a model of each architecture under the name that the catalogue gives, and a cache of one's own."""
    folder = tmp_path_factory.mktemp("hub")
    models = {}
    for name in tiny.ARCHITECTURES:
        model = entry(name).expert["model"]
        if model not in models:
            models[model] = folder / model.replace("/", "--")
            tiny.make(name, models[model])
    with pytest.MonkeyPatch.context() as patch, serving(Hub(models, any_revision=True)) as hub:
        alone(patch, hub, folder / "home")
        yield hub, folder


def asked(hub: tuple[Hub, Path], name: str, **more: Any) -> Any:
    """The answers of an entry to two samples, and its expert."""
    one, what = entry(name), tiny.ARCHITECTURES[name][0]
    expert = plugins.parse("expert", {**one.line, "out": f"{what}@net", **more})
    reads = {c: np.stack([sample(KNOWN[c.partition("@")[0].replace("caption", "text")])] * 2) for c in expert.in_}
    return expert.build(KNOWN, Storage(str(hub[1] / "root")))(reads)[f"{what}@net"], expert


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_a_line_with_a_name_answers(hub: tuple[Hub, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_fetch", in_this_process)
    what = tiny.ARCHITECTURES[name][0]
    answers, expert = asked(hub, name)
    failed = [answer for answer in answers if isinstance(answer, Exception)]
    assert not failed and len(answers) == 2
    given = [answer for answer in answers if answer is not None]
    for value in given:
        KNOWN[what].check(np.asarray(value))
    assert expert.licence == entry(name).licence


def in_this_process(pin: Any) -> Path:
    """As the process that fetches does it; each entry would otherwise start one of its own."""
    import os

    from huggingface_hub import constants, snapshot_download

    place = {"endpoint": os.environ["HF_ENDPOINT"], "cache_dir": constants.HF_HUB_CACHE}
    return Path(snapshot_download(pin.model, revision=pin.commit, allow_patterns=sorted(pin.files), **place))
