"""A trial of a network, once in each process, before its first sample: does it take frames as the recipe gives them,
has each output one map a frame, is a map laid out as it is read, and what are its scores?

The frame is made up (noise, black, white, a ramp; always the same), so what is settled follows from the network alone
and is the same in every process and for every sample. What is wrong is a RecipeError, which ends the step at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import HyperloomError, RecipeError
from hyperloom.stages.label import memory
from hyperloom.stages.label.decode.activation import SLACK
from hyperloom.stages.label.decode.decoders import of_tile, shared_out, tensors_of
from hyperloom.stages.modality import Size

if TYPE_CHECKING:
    from hyperloom.stages.label.decode.decoders import Decoder
    from hyperloom.stages.label.runtimes.network import Network, Session
    from hyperloom.stages.label.runtimes.preprocess import TileGrid

PAIR = 2
"""Frames of a trial where the network takes any number: enough to see whether an output has one map for each."""


def settled(
    expert: Network, session: Session, grid: TileGrid, source: Any, targets: Sequence[Any]
) -> tuple[tuple[Decoder, ...], list[str]]:
    """The decoders with what the trial showed, and what is to be said. Raises RecipeError."""
    layout = expert.preprocess.layout or session.layout
    tile = expert.preprocess.tiles(frame(source), grid, layout, session.dtype, session.channels == 1)[0]
    raws = shared_out(expert.decode, _raws(expert, session, tile))
    decoders, notes = [], []
    for raw, decoder, target, column in zip(raws, expert.decode, targets, expert.out, strict=True):
        used, remarks = decoder.layout or layout, list[str]()
        try:
            tried, why = decoder.tried(of_tile(raw, 0), None, target) if not decoder.spatial else (decoder, "")
            whole = tried.tile(of_tile(raw, 0), used, grid.tile)
            if decoder.spatial:
                remarks += _laid_out(whole, raw[0], used, grid.tile)
                ending = session.ending(decoder.tensor) if whole.size and whole.min() >= -SLACK else None
                tried, why = decoder.tried(whole, ending, target)
        except (ValueError, RecipeError) as error:
            raise RecipeError(f"{expert.path}: {column}: {error}") from error
        decoders.append(tried)
        notes += [f"{column} ({expert.path.rpartition('/')[2]}): {text}" for text in (*remarks, why) if text]
    return tuple(decoders), notes


def frame(source: Any) -> np.ndarray:
    """(H, W, C) of the modality `source`."""
    random = np.random.default_rng(0)
    height, width = source.shape[:2]
    pixels = random.integers(0, 256, (height, width, source.shape[2] if len(source.shape) > 2 else 1), np.uint8)
    quarter = max(1, width // 4)
    pixels[:, :quarter] = 0
    pixels[:, quarter : 2 * quarter] = np.linspace(0, 255, height).astype(np.uint8)[:, None, None]
    pixels[: height // 4, 2 * quarter :] = 255
    return pixels if source.dtype == np.uint8 else pixels.astype(source.dtype) / 255


def check_counts(path: str, outputs: Sequence[Any], tensors: Sequence[str | int], count: int) -> None:
    """Raise RecipeError for an output whose first axis is not that of the frames: nobody knows which is whose."""
    for output, tensor in zip(outputs, tensors, strict=True):
        length = output.shape[0] if output.ndim else 0
        if length != count:
            raise RecipeError(
                f"{path}: the output {tensor!r} has the shape {tuple(output.shape)} for {counted(count, 'frame')}: its "
                "first axis must count them. Next: export it with such an axis, or, of detections, batched: false in "
                "decode"
            )


def _raws(expert: Network, session: Session, tile: np.ndarray) -> list[np.ndarray]:
    tensors = tensors_of(expert.decode)
    most = session.batch or min(PAIR, expert.batch or expert.usual_batch or PAIR)
    for count in dict.fromkeys((most, session.batch or 1)):
        try:
            raws = session(np.stack([tile] * count), tensors)
        except (HyperloomError, MemoryError):
            raise
        except Exception as error:  # a framework raises its own classes
            if memory.ran_out(error):
                raise
            problem = error
            continue
        check_counts(expert.path, raws, tensors, count)
        return raws
    raise RecipeError(
        f"{expert.path} does not take a batch of {tile.shape} {tile.dtype}: {_short(problem)}. Next: preprocess.layout "
        "(nchw or nhwc), preprocess.size or preprocess.channels as the network wants them"
    )


def _laid_out(whole: np.ndarray, raw: np.ndarray, layout: str, tile: Size) -> list[str]:
    """What is to be said of a map that has another aspect than its frame. Raises RecipeError where it has the frame's
    aspect in the other order of axes."""
    if _alike(whole.shape[:2], tile):
        return []
    other, sides = ("nhwc", raw.shape[1:3]) if layout == "nchw" else ("nchw", raw.shape[2:4])
    if raw.ndim == 4 and _alike(sides, tile):
        raise RecipeError(
            f"the output has the shape {raw.shape}, read as a map of {whole.shape[:2]} for a frame of {tile}. "
            f"Next: in decode, layout: {other}"
        )
    return [f"a map of {whole.shape[:2]} is stretched over a frame of {tuple(tile)}, of another aspect"]


def _alike(mapped: Sequence[int], tile: Size) -> bool:
    """Is a map of this height and width a frame's, but for scale and what a stride rounds off?"""
    if min(mapped) < 1:
        return False
    down, across = tile[0] / mapped[0], tile[1] / mapped[1]
    off = min(abs(mapped[0] - tile[0] / across), abs(mapped[1] - tile[1] / down))
    return abs(down - across) <= 0.25 * max(down, across) or off <= 1


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
