"""What a recipe says of a network: its trunk, and how large it is.

    model: {trunk: unet, parameters: 430k}

Imports no torch: a recipe is read without it. How the network is taught is not said here (`stages.train`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.plugins import of
from hyperloom.stages.network.trunks import UNet

_SIZES = {"": 1, "k": 1_000, "m": 1_000_000}


class NetworkRecipe(Config):
    """`{trunk: unet, parameters: 430k}`: the width is the one whose count is nearest, unless the trunk gives it."""

    trunk: Annotated[Any, of("trunk")] = UNet(type="unet")
    parameters: int = Field(430_000, gt=0)

    @field_validator("parameters", mode="before")
    @classmethod
    def _with_suffix(cls, value: Any) -> Any:
        match = re.fullmatch(r"([0-9.]+)\s*([km]?)", value.lower()) if isinstance(value, str) else None
        return round(float(match[1]) * _SIZES[match[2]]) if match else value
