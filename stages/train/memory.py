"""Memory of a training on CPUs: what an update frees stays with the process until the training ends.

glibc gives freed blocks of some size back to the system at once, and the next update gets them anew, page by page,
each filled with zeros by the kernel: with large pictures a tenth of an update's CPU time. Where the library is another
(musl, macOS, Windows) nothing is changed. No value depends on it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TRIM, MAPPED = -1, -4
"""glibc's M_TRIM_THRESHOLD and M_MMAP_MAX (mallopt(3))."""
HELD = {TRIM: 2**31 - 1, MAPPED: 0}
BEFORE = {TRIM: ("MALLOC_TRIM_THRESHOLD_", 128 * 1024), MAPPED: ("MALLOC_MMAP_MAX_", 65536)}
"""The variable by which a user sets an option, and glibc's own value."""


@contextmanager
def held(device: torch.device) -> Iterator[None]:
    """Within it freed memory is kept for what comes next, where the training is on a CPU; afterwards it goes back to
    the system."""
    library = _library() if device.type == "cpu" else None
    if library is None:
        yield
        return
    for option, value in HELD.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, (variable, own) in BEFORE.items():
            given = os.environ.get(variable, "")
            library.mallopt(option, int(given) if given.isdecimal() else own)
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    """glibc, if this process has it."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return (
        library if all(hasattr(library, name) for name in ("mallopt", "malloc_trim", "gnu_get_libc_version")) else None
    )
