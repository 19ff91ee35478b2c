"""A try of an entry of the catalogue, before a recipe relies on it: fetch it, load it, ask it for one made-up sample.

It goes the way of a run: the pin, the weights, the digests, the modalities that the entry gives as an example. The
columns that are read are made up, and always the same, so an answer says that all fits together and how long it takes;
how good it is, only data tell.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.pipeline import plugins
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import INDEX, modality_of
from hyperloom.stages.label.catalogue import Entry
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.label.runtimes.trial import frame


@dataclass(frozen=True)
class Probed:
    """`shapes` of the answers by column; seconds until it is loaded, and for one sample then."""

    shapes: dict[str, tuple[int, ...]]
    load_seconds: float
    sample_seconds: float
    remarks: tuple[str, ...]


def probe(entry: Entry, storage: Storage) -> Probed:
    """Raises HyperloomError or ConnectionError for whatever keeps the entry from working here."""
    modalities = {name: plugins.parse("modality", dict(about)) for name, about in entry.modalities.items()}
    expert = plugins.parse("expert", entry.line)
    remarks = tuple(expert.remarks(storage))
    start = time.perf_counter()
    function = expert.build(modalities, storage)
    loaded = time.perf_counter()
    batch = dict(_made_up(expert, modalities))
    function(batch)
    once = time.perf_counter()
    answer = function(batch)
    taken = time.perf_counter() - once
    shapes = {c: tuple(np.shape(answer[c][0])) for c in expert.out}
    failed = [row for c in expert.out for row in (answer[c][0],) if isinstance(row, Exception)]
    if failed:
        raise failed[0]
    return Probed(shapes, loaded - start, taken, remarks)


def _made_up(expert: Any, modalities: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for column in expert.in_:
        value = sample(modalities[modality_of(column)])[None]
        yield column, value
        for offset in expert.offsets().get(column, ()):
            yield f"{column}[{offset}]", value
            yield f"{INDEX}[{offset}]", np.array([0], np.int64)
            yield INDEX, np.array([1], np.int64)


def sample(modality: Any) -> np.ndarray:
    """A value of `modality`, as a column holds it."""
    if modality.textual:
        return np.asarray(modality.fit("The train from Berlin leaves at noon."))
    if modality.measure == "boxes":
        box = {"x0": 0.2, "y0": 0.2, "x1": 0.6, "y1": 0.7, "class": modality.classes[0], "score": 0.9}
        return np.asarray(modality.fit([box]))
    if modality.rgb:
        return frame(modality)
    random = np.random.default_rng(0)
    low, high = getattr(modality, "range", None) or (0.5, 1.0)
    values: Batch = {"": random.uniform(low, high, modality.shape).astype(modality.dtype)}
    return values[""]
