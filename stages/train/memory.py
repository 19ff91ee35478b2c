"""Memory of a training on CPUs: what an update frees stays with the process until the training ends.

glibc gives freed blocks of some size back to the system at once, and the next update gets them anew, page by page,
each filled with zeros by the kernel: with large pictures a tenth of an update's CPU time. Where the library is another
(musl, macOS, Windows) nothing is changed. No value depends on it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM, MAPPED = -1, -4
"""glibc's M_TRIM_THRESHOLD and M_MMAP_MAX (mallopt(3))."""
DEFAULTS = {TRIM: 128 * 1024, MAPPED: 65536}
HELD = {TRIM: 2**31 - 1, MAPPED: 0}


@contextmanager
def held() -> Iterator[None]:
    """Within it freed memory is kept for what comes next; afterwards it goes back to the system."""
    library = _library()
    if library is None:
        yield
        return
    for option, value in HELD.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in DEFAULTS.items():
            library.mallopt(option, value)
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
