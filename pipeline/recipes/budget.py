"""The budget of a run: its `budget` section.

    budget: {hours: 8, gpu_hours: 4, calls: 5000}

What counts towards each bound says `pipeline.planning.spending`. All fields are placement.
"""

from __future__ import annotations

from hyperloom.pipeline.config import Config, placement


class CostBudget(Config):
    """What a run may cost at most; a bound that is left out is none."""

    hours: float | None = placement(None, gt=0)
    gpu_hours: float | None = placement(None, ge=0)
    calls: int | None = placement(None, ge=0)
