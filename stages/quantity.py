"""Quantities: which units of measure tell the same, and by how much one is the other.

A unit is what a modality's `unit` says, by its symbol or its English name. Those listed here convert within their kind;
any other (px, lux, C) is equal to itself alone. Nothing is guessed: a column without a unit has none.
"""

from __future__ import annotations

import math
import re

PER = re.compile(r"/|\bper\b")
KINDS: dict[str, dict[str, float]] = {
    "length": {"m": 1, "dm": 0.1, "cm": 0.01, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "km": 1e3,
               "in": 0.0254, "ft": 0.3048, "yd": 0.9144, "mi": 1609.344},
    "angle": {"rad": 1, "mrad": 1e-3, "deg": math.pi / 180},
    "time": {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60, "h": 3600},
    "speed": {"m/s": 1, "cm/s": 0.01, "mm/s": 1e-3, "km/h": 1 / 3.6},
    "turn": {"rad/s": 1, "deg/s": math.pi / 180},
    "acceleration": {"m/s2": 1, "cm/s2": 0.01, "g0": 9.80665},
    "mass": {"kg": 1, "g": 1e-3, "mg": 1e-6, "t": 1e3},
    "frequency": {"Hz": 1, "kHz": 1e3, "MHz": 1e6},
}  # fmt: skip
"""Kind -> unit -> how much of the kind's first unit it is."""
NAMES = {
    **dict.fromkeys(("metre", "meter"), "m"),
    **dict.fromkeys(("centimetre", "centimeter"), "cm"),
    **dict.fromkeys(("millimetre", "millimeter"), "mm"),
    **dict.fromkeys(("kilometre", "kilometer"), "km"),
    **dict.fromkeys(("µm", "μm", "micrometre", "micrometer"), "um"),
    "inch": "in",
    "inches": "in",
    "foot": "ft",
    "feet": "ft",
    "yard": "yd",
    "mile": "mi",
    "radian": "rad",
    "degree": "deg",
    "°": "deg",
    "second": "s",
    "sec": "s",
    "millisecond": "ms",
    "minute": "min",
    "hour": "h",
    **dict.fromkeys(("mps", "m/sec", "m s-1", "m*s-1"), "m/s"),
    **dict.fromkeys(("kph", "kmh", "km/hour"), "km/h"),
    "°/s": "deg/s",
    "m/s^2": "m/s2",
    "m/s²": "m/s2",
    "kilogram": "kg",
    "gram": "g",
    "tonne": "t",
    "hertz": "Hz",
    "hz": "Hz",
    **dict.fromkeys(("pixel", "pix", "px"), "px"),
}
"""Other names of units, in the singular."""


def symbol(unit: str) -> str:
    """The unit by its symbol, `m` for `metres`; what nobody knows as it is."""
    bare = unit.strip().strip("[]")
    for name in (bare, bare.casefold(), bare.casefold().removesuffix("s")):
        if name in NAMES:
            return NAMES[name]
    return bare


def counted(unit: str) -> str:
    """What a unit counts by its symbol, whether by itself or per something: `px` of `pixels/frame`."""
    return symbol(PER.split(symbol(unit))[0])


def factor(source: str, target: str) -> float | None:
    """What numbers in `source` are multiplied by to be in `target`; None where the two do not measure the same."""
    one, other = symbol(source), symbol(target)
    if one == other:
        return 1.0
    kind = next((units for units in KINDS.values() if one in units and other in units), None)
    return None if kind is None else kind[one] / kind[other]


def kind(unit: str) -> str:
    """The kind of quantity (a key of KINDS) that a unit measures; empty where nobody knows."""
    return next((name for name, units in KINDS.items() if symbol(unit) in units), "")
