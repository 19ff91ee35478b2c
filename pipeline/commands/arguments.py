"""Types of arguments: what is no such thing is refused by argparse, with the usage and exit code 2."""

from __future__ import annotations

import argparse
from typing import Any


def count(text: str) -> int:
    """A whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return number


def instant(text: str) -> Any:
    """An instant in UTC, of ISO 8601 with an offset."""
    from hyperloom.pipeline.recipes import timetable

    try:
        return timetable.instant(text)
    except ValueError as error:
        message = str(error) if "offset" in str(error) else f"{text!r} is no time such as 2026-03-29T01:00:00Z"
        raise argparse.ArgumentTypeError(message) from None
