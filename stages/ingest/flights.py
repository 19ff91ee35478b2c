"""The demo's world as a source: short drone flights over procedural terrain, with exact truth.

Each flight is rendered in the worker and written as ordinary files (a Motion-JPEG video, 8- and 16-bit PNGs, a CSV of
telemetry), then read back by the `video` source like anyone's recording. So the demo exercises the real path, and
`folder` keeps the files for a look. Truth never feeds an expert; telemetry is a sensor and may.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.base import UNKNOWN, modality_of
from hyperloom.stages.ingest.sidefile import SideFile
from hyperloom.stages.ingest.source import Item, Piece, Read, Source, Values
from hyperloom.stages.ingest.video import Video

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.stages.ingest.render import Flight, Viewpoint

RGB, POSE = "rgb@camera", "pose@telemetry"
COLUMNS = (RGB, POSE, "semantic@truth", "depth@truth", "normals@truth", "flow@truth")
DEPTH_STEP, FLOW_STEP, FLOW_ZERO = 1 / 200, 1 / 128, 32768
"""Of the 16-bit PNGs: metres, pixels, and the number that stands for no motion."""


class Flights(Source):
    """`{type: flights, flights: 8, frames: 24, seed: 0}`; pictures have the size of the modality `rgb`.

    `rgb@camera`      image
    `pose@telemetry`  vector of 20, see `stages.ingest.camera.TELEMETRY`
    `semantic@truth`  segmentation; ids follow the modality's classes by name (land, forest, road, water, building)
    `depth@truth`     dense, 1 channel, m along the optical axis
    `normals@truth`   dense, 3 channels, unit, camera coordinates (x right, y down, z forward), towards the camera
    `flow@truth`      dense, 2 channels (x, y), pixels: where the same point was in the frame before, minus where it is
                      now; null in a flight's first frame
    """

    fits: ClassVar[bool] = False
    flights: int = Field(8, ge=1)
    frames: int = Field(24, ge=1)
    seed: int = Field(0, ge=0)
    columns: tuple[str, ...] = COLUMNS
    folder: str = placement("")
    """Keep the written files here, one folder a flight; by default they go once they are read."""

    @field_validator("columns")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [c for c in value if c not in COLUMNS]:
            raise ValueError(f"flights have no {unknown}; they have {', '.join(COLUMNS)}")
        if RGB not in value:
            raise ValueError(f"{RGB} cannot be left out")
        return value

    def offers(self) -> tuple[str, ...]:
        return self.columns

    def meaning(self, column: str) -> dict[str, Any]:
        """How many flights there are is content, so it is left out: one more flight leaves the others alone."""
        return {"type": self.type, "revision": type(self).revision, "column": column, "seed": self.seed}

    def check(self, modalities: dict[str, Any]) -> None:
        from hyperloom.stages.ingest.camera import TELEMETRY

        size = modalities["rgb"].shape[:2]
        dense = {"depth@truth": (*size, 1), "normals@truth": (*size, 3), "flow@truth": (*size, 2)}
        shapes = {POSE: (len(TELEMETRY),), **dense}
        for column in self.columns:
            shape, expected = modalities[modality_of(column)].shape, shapes.get(column)
            if expected and shape != expected:
                raise RecipeError(f"{column} of flights has the shape {expected}; the recipe's modality says {shape}")

    def pieces(self, digests: Digests) -> list[Piece]:
        return [Piece(name, name) for name in (f"flight_{n:02d}" for n in range(self.flights))]

    def items(self, piece: Piece) -> list[Item]:
        world = {"seed": self.seed, "flight": piece.name, "frames": self.frames}
        keys = [f"{piece.name}/{t:06d}" for t in range(self.frames)]
        return [Item(key, t, piece.name, t, {}, fingerprint(world | {"frame": t})) for t, key in enumerate(keys)]

    def build(self, modalities: dict[str, Any]) -> Read:
        columns = self._side_files(modalities)
        film = Video(type="video", path=self.folder, column=RGB, columns=columns, decoder="opencv").build(modalities)
        last: dict[str, tempfile.TemporaryDirectory[str]] = {}

        def read(items: list[Item]) -> Iterator[tuple[Item, Values | Exception]]:
            name = items[0].path
            if name not in last:
                last.clear()
                last[name] = tempfile.TemporaryDirectory(prefix="hyperloom-flights-")
                self._record(name, os.path.join(last[name].name, name), modalities["rgb"].shape[:2])
            recorded = {item.key: self._recorded(item, last[name].name, columns) for item in items}
            by_key = {item.key: item for item in items}
            for item, values in film(list(recorded.values())):
                yield by_key[item.key], values

        return read

    def _side_files(self, modalities: dict[str, Any]) -> dict[str, SideFile]:
        """How the files that `_record` writes are read."""
        from hyperloom.stages.ingest.terrain import CLASSES

        sides = {
            POSE: SideFile(path="{stem}/telemetry.csv"),
            "depth@truth": SideFile(path="{stem}/depth/{frame:06d}.png", scale=DEPTH_STEP),
            "normals@truth": SideFile(path="{stem}/normals/{frame:06d}.png", scale=1 / 32767, offset=-1),
            "flow@truth": SideFile(
                path="{stem}/flow/{frame:06d}.png", scale=FLOW_STEP, offset=-FLOW_ZERO * FLOW_STEP, channels=(0, 1)
            ),
        }
        if "semantic@truth" in self.columns:
            names = modalities["semantic"].classes
            ids = {i: names.index(c) if c in names else UNKNOWN for i, c in enumerate(CLASSES)}
            sides["semantic@truth"] = SideFile(path="{stem}/semantic/{frame:06d}.png", remap=ids)
        return {column: sides[column] for column in self.columns if column in sides}

    @staticmethod
    def _recorded(item: Item, folder: str, columns: dict[str, SideFile]) -> Item:
        """The item as one of the recording in `folder`."""
        names = {"stem": item.path, "frame": item.frame}
        paths = {column: os.path.join(folder, side.path.format(**names)) for column, side in columns.items()}
        present = {column: path for column, path in paths.items() if os.path.exists(path)}
        return Item(item.key, item.index, os.path.join(folder, item.path, f"{item.path}.avi"), item.frame, present)

    def _record(self, name: str, folder: str, size: tuple[int, int]) -> None:
        """Render flight `name` into `folder`, and copy it to the kept ones if that is wanted."""
        flight = _flight(self.seed, int(name.rpartition("_")[2]), self.frames, size)
        record((flight.view(t) for t in range(self.frames)), name, folder)
        if self.folder and not os.path.exists(kept := os.path.join(os.path.expanduser(self.folder), name)):
            half = f"{kept}.{os.getpid()}.tmp"
            shutil.copytree(folder, half)
            try:
                os.rename(half, kept)
            except OSError:  # another worker was first
                shutil.rmtree(half)


@lru_cache(maxsize=4)  # of 20 MB each
def _flight(seed: int, number: int, frames: int, size: tuple[int, int]) -> Flight:
    """Most of a small flight's time is its terrain, and a partition or a run later the same flight is often wanted."""
    from hyperloom.stages.ingest.render import Flight

    return Flight(seed, number, frames, size)


def record(views: Iterator[Viewpoint], name: str, folder: str) -> None:
    """Write views as a recording: `{name}.avi`, `telemetry.csv`, and PNGs in semantic, depth, normals, flow."""
    import cv2
    import numpy as np

    from hyperloom.stages.ingest.camera import TELEMETRY

    for part in ("semantic", "depth", "normals", "flow"):
        os.makedirs(os.path.join(folder, part))
    writer, lines = None, [",".join(("frame", *TELEMETRY))]
    for t, view in enumerate(views):
        if writer is None:
            path, code = os.path.join(folder, f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG")
            writer = cv2.VideoWriter(path, cv2.CAP_OPENCV_MJPEG, code, 5, view.rgb.shape[1::-1])
            writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 96)
        writer.write(cv2.cvtColor(view.rgb, cv2.COLOR_RGB2BGR))
        lines.append(",".join([str(t), *(f"{x:.9g}" for x in view.telemetry)]))
        pictures = {"semantic": view.semantic, "depth": view.depth / DEPTH_STEP, "normals": (view.normals + 1) * 32767}
        if view.flow is not None:
            x, y = (view.flow[..., k] / FLOW_STEP + FLOW_ZERO for k in (0, 1))
            pictures["flow"] = np.stack([x, y, np.zeros_like(x)], -1)
        for part, values in pictures.items():
            exact = values if values.dtype == np.uint8 else np.clip(np.rint(values), 0, 65535).astype(np.uint16)
            cv2.imwrite(os.path.join(folder, part, f"{t:06d}.png"), exact[..., ::-1] if exact.ndim == 3 else exact)
    if writer is not None:
        writer.release()
    with open(os.path.join(folder, "telemetry.csv"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
