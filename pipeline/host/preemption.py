"""Preemption: the machine of this process goes away soon, and there is time to put something away.

A slot is told by SIGTERM (a batch system that ends a job, systemd, a container), or sees that Ray drains its node. Work
that runs for long asks `preemption()` now and then, stores what it has, and raises `Stopped`; other work goes on until
its process is gone, which costs a repetition. In a private cluster, whose processes start with SIGTERM blocked
(`ray_internals.shielded`), a slot takes no notice of it: the driver does, and tells whom it concerns.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


class Preemption:
    """`preemption()`: was it announced? `also` is asked each time that it was not; it may take a moment."""

    def __init__(self, also: Callable[[], bool] = lambda: False):
        self._also = also
        self._said = threading.Event()
        self._heeded = 0

    def __call__(self) -> bool:
        if not self._said.is_set() and self._also():
            self._said.set()
        return self._said.is_set()

    def __enter__(self) -> Preemption:
        """Inside the block somebody heeds what is said, and SIGTERM does not end the process."""
        self._heeded += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._heeded -= 1

    def on_sigterm(self) -> None:
        """From now on SIGTERM says it; where nobody heeds it, the process ends as before. Where it is blocked it says
        nothing. Main thread only; nothing happens in others."""
        if threading.current_thread() is threading.main_thread():
            blocked = signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            signal.signal(signal.SIGTERM, _nothing if blocked else self._asked)

    def _asked(self, *_: object) -> None:
        self._said.set()
        if not self._heeded:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def unblock() -> None:
    """What this thread starts can be ended by SIGTERM, though this process may take no notice of it: children inherit
    what is blocked, and would hang whoever ends them so."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _nothing(*_: object) -> None:
    pass
