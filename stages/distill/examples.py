"""Examples: good values of a network's inputs, drawn at random, to trace and compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.network.architecture import Input


def examples(inputs: Sequence[Input], samples: int) -> list[np.ndarray]:
    """For each input (samples, *shape) in its dtype, the same each time; numbers have the statistics of the training
    data. Raises RecipeError for a type of one's own whose example it refuses itself."""
    random = np.random.default_rng(0)
    return [np.stack([_checked(item, random) for _ in range(samples)]) for item in inputs]


def _checked(item: Input, random: np.random.Generator) -> np.ndarray:
    drawn = item.modality.example(random, item.scale.mean, item.scale.std)
    value = np.asarray(drawn).astype(item.modality.dtype)
    try:
        item.modality.check(value)
    except ValueError as error:
        raise RecipeError(
            f"no example of {item.column} could be made to test {type(item.modality).__name__} with: {error}. "
            "Next: derive the type from the one whose values it has, or give it `limits` or a method `example`"
        ) from error
    return value
