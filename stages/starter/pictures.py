"""Pictures of a pilot: what a person looks at when it has ended. First what is of use already: what the experts say,
laid over the pictures themselves; then what was judged, or the first samples of the last shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import read_file
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.data.layer import PNG, encoded, layer
from hyperloom.stages.data.look import picture
from hyperloom.stages.data.reader import SampleReader, values
from hyperloom.stages.evaluate import collage
from hyperloom.stages.label.stage import Label
from hyperloom.stages.legend import Legend, legends
from hyperloom.stages.results import Ingested, Samples, Shards

ROWS = 8
SHOWN = 6
"""Samples with the experts' labels over them."""
MOST_COLUMNS = 5
WIDTH = 360
"""Pixels of a panel."""
COVER = 0.7
"""How much of the picture a map over it hides."""
THICK = 2


def pictures(storage: Storage, planned: Sequence[PlannedStep], modalities: dict[str, Any]) -> dict[str, bytes]:
    """PNG bytes by a step's name, of the steps that are done; experts' labels first."""
    shown: dict[str, bytes] = {}
    for step in planned:
        asks = isinstance(step.stage, Label) and any(e.type != "model" for e in step.stage.experts)
        if asks and (data := labels(storage, step, planned, modalities)):
            shown[step.name] = data
    for step in planned:
        for file in step.manifest.files if step.manifest else ():
            if file.path.endswith(".png"):
                shown.setdefault(step.name, read_file(storage, file))
    if not shown:
        shown |= _shards(storage, planned, modalities)
    return shown


def labels(
    storage: Storage, step: PlannedStep, planned: Sequence[PlannedStep], modalities: dict[str, Any]
) -> bytes | None:
    """A row for each of some samples: its picture, and what each expert says laid over it. None where nothing lies in a
    picture."""
    ingests = [s.manifest for s in planned if s.manifest is not None and Ingested.of(s.manifest)]
    frames = [SampleReader(storage, "frames", manifest, [manifest]) for manifest in ingests]
    base = next(((f, c) for f in frames for c in f.columns if modalities[modality_of(c)].rgb), None)
    if base is None or step.manifest is None:
        return None
    labels = SampleReader(storage, step.name, step.manifest, ingests)
    columns = [c for c in labels.columns if not modalities[modality_of(c)].rgb][:MOST_COLUMNS]
    rows = list(
        _some(labels, columns, sum(p.rows for p in Samples.from_manifest(step.manifest).partitions), modalities)
    )
    photos = dict(_named(base[0], base[1], {key for key, _ in rows}, modalities))
    drawn = [
        (key, [photos[key], *(laid_over(photos[key], v, modalities[modality_of(c)]) for c, v in mine.items())])
        for key, mine in rows
        if key in photos
    ]
    meant = legends(modalities, (mine for _, mine in rows)).values()
    return _sheet(drawn, [base[1], *columns], meant) if drawn and columns else None


def laid_over(photo: np.ndarray, value: Any, modality: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a picture with what one value says of it on top; grey where that is missing or has no place
    in it."""
    import cv2

    canvas = photo.copy()
    if value is None:
        return np.full_like(canvas, collage.GREY)
    if (marks := modality.marks(value)) is not None:
        height, width = canvas.shape[:2]
        for mark in marks:
            ends = [(round(x * width), round(y * height)) for x, y in ((mark.x0, mark.y0), (mark.x1, mark.y1))]
            cv2.rectangle(canvas, ends[0], ends[1], mark.colour, THICK)
            at = ends[0][0] + 2, max(12, ends[0][1] - 4)
            cv2.putText(canvas, mark.name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, mark.colour, 1, cv2.LINE_AA)
        return canvas
    drawn = layer(value, modality, widest=canvas.shape[1])
    if not (drawn.over and drawn.mime == "image/png"):
        return np.full_like(canvas, collage.GREY)
    over = cv2.imdecode(np.frombuffer(drawn.data, np.uint8), cv2.IMREAD_UNCHANGED)
    over = cv2.resize(over, canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    share = over[..., 3:].astype(np.float32) / 255 * COVER
    return (canvas * (1 - share) + over[..., 2::-1] * share).round().astype(np.uint8)


def _some(
    reader: SampleReader, columns: Sequence[str], total: int, modalities: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys of samples spread over all, and their values by column."""
    chosen = {int((i + 0.5) * total / SHOWN) for i in range(SHOWN)}
    first = 0
    for part in reader:
        for place in (w - first for w in sorted(chosen) if first <= w < first + len(part)):
            mine = {c: values(part.columns[c].slice(place, 1), modalities[modality_of(c)])[0] for c in columns}
            yield part.keys[place], mine
        first += len(part)


def _named(
    reader: SampleReader, column: str, keys: set[str], modalities: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """The pictures that these samples have, as wide as a panel."""
    import cv2

    for part in reader:
        for place, key in enumerate(part.keys):
            if key in keys:
                value = values(part.columns[column].slice(place, 1), modalities[modality_of(column)])[0]
                if value is None:
                    continue
                size = WIDTH, max(1, round(value.shape[0] * WIDTH / value.shape[1]))
                yield key, cv2.resize(np.ascontiguousarray(value), size, interpolation=cv2.INTER_AREA)


def _sheet(rows: Sequence[tuple[str, list[np.ndarray]]], columns: Sequence[str], meant: Iterable[Legend]) -> bytes:
    """PNG bytes of the rows with captions, and what colours mean below."""
    parts = [collage.caption(f"{columns[0]} and, over it, {', '.join(columns[1:])}", len(columns) * WIDTH)]
    for key, panels in rows:
        parts += [collage.caption(key, len(columns) * WIDTH), np.concatenate(panels, 1)]
    sheet = np.concatenate(parts, 0)
    for colours in meant:
        sheet = np.concatenate([sheet, collage.legend(colours, sheet.shape[1])], 0)
    return encoded(sheet, PNG)


def _shards(storage: Storage, planned: Sequence[PlannedStep], modalities: dict[str, Any]) -> dict[str, bytes]:
    """Of a chain that neither labels nor judges: the first samples of its last shards."""
    for step in reversed(planned):
        if step.manifest is not None and Shards.of(step.manifest):
            reader = SampleReader(storage, step.name, step.manifest, [])
            return {step.name: picture(reader.head(ROWS), modalities)}
    return {}
