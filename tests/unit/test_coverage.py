"""Processors of Hugging Face models: those that show a model the whole frame, and those that would shift its maps."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.label.hub.coverage import hold_whole

if find_spec("transformers") is None:  # to import it here would cost each process of the tests a second
    pytest.skip("needs transformers", allow_module_level=True)
SQUARE = {"height": 64, "width": 64}
SIZE = (60, 84)


def hold(kind: str, **settings: Any) -> None:
    import transformers

    processor = getattr(transformers, kind)(**settings)
    hold_whole(lambda frames: processor(images=list(frames), return_tensors="pt"), SIZE, "a model")


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("SegformerImageProcessor", {"size": SQUARE}),
        ("SegformerImageProcessor", {"size": {"height": 240, "width": 120}, "resample": 3}),
        ("DPTImageProcessor", {"size": SQUARE, "keep_aspect_ratio": True, "ensure_multiple_of": 14}),
        ("Mask2FormerImageProcessor", {"size": SQUARE}),
        ("Mask2FormerImageProcessor", {"size": {"shortest_edge": 60, "longest_edge": 100}, "size_divisor": 32}),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 64}, "do_center_crop": False}),
    ],
)
def test_the_whole_frame_is_seen(kind: str, settings: Any) -> None:
    hold(kind, **settings)


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("ZoeDepthImageProcessor", {"do_resize": False}),  # mirrors the edges
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 72}, "crop_size": SQUARE}),
    ],
)
def test_what_is_cropped_or_padded_is_refused(kind: str, settings: Any) -> None:
    with pytest.raises(RecipeError, match=r"of a model crops or pads frames of \[60, 84\].*do_pad: false"):
        hold(kind, **settings)


def test_a_pixel_more_at_one_side_is_too_much() -> None:
    def padded(frames: np.ndarray) -> Any:
        numbers = frames.transpose(0, 3, 1, 2) / 255.0
        return {"pixel_values": np.pad(numbers, [(0, 0), (0, 0), (0, 0), (0, 1)])}

    with pytest.raises(RecipeError, match="crops or pads"):
        hold_whole(padded, SIZE, "a model")
    hold_whole(lambda frames: {"pixel_values": padded(frames)["pixel_values"][..., :-1]}, SIZE, "a model")
