"""The working folder, where somebody removes it: nothing can be resolved or loaded from there any more.

Some libraries end the process then, with a code and a message of their own (torch's kernels load others of their kind
as torch is imported). So it is looked for when a command starts, and again before torch is loaded, which may be much
later. What is loaded already goes on without one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType

from hyperloom.pipeline.errors import HyperloomError

ENDING = "torch"
"""The package whose import ends the process."""


class Nowhere(HyperloomError):
    """The working folder is gone."""

    def __init__(self) -> None:
        super().__init__(
            "the folder that this command was started in is gone. Next: change to a folder that is there, and run the "
            "same command again (a job of Ray's: submit it again)"
        )


def check() -> None:
    """Raises Nowhere."""
    try:
        os.getcwd()
    except OSError:
        raise Nowhere from None


class _BeforeImport:
    """Asked by Python before it looks for a module; finds none itself."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == ENDING:
            check()


def guard() -> None:
    """From now on look for the working folder before the import that would end the process."""
    if _BeforeImport not in sys.meta_path:
        sys.meta_path.insert(0, _BeforeImport)
