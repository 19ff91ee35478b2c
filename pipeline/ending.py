"""The end of a run that is asked for from outside (SIGTERM), with time left to put away what is half done.

Whoever has something to put away registers what tells it so (`ending.telling(callback)`): a training is told to store a
checkpoint. The engine then waits for a while and raises `Ended`. Ctrl-C is no such request: it ends everything at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE_SECONDS = 120.0
"""How long a run that is to end waits for units that beat."""


class Ending:
    """Whether the run is to end, and whom to tell. Thread-safe."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self._told = False
        self._callbacks: list[Callable[[], None]] = []
        self._handler: Callable[..., None] | None = None

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the run is to end: is it?"""
        return self._begun.wait(seconds)

    @contextmanager
    def telling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Inside the block `callback` is called once when the run is to end, from another thread; at once if it is
        already. What it raises is lost."""
        with self._lock:
            self._callbacks.append(callback)
            late = self._told
        try:
            if late:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)

    def begin(self) -> None:
        """The run is to end. Returns at once, since it is called where a signal may have interrupted anything."""
        if not self.begun:
            self._begun.set()
            threading.Thread(target=self._tell, name="ending", daemon=True).start()

    def _tell(self) -> None:
        with self._lock:
            self._told, callbacks = True, list(self._callbacks)
        for callback in callbacks:
            callback()

    @property
    def awaited(self) -> bool:
        """Is there still somebody who was told, or would be?"""
        with self._lock:
            return bool(self._callbacks)

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Inside the block SIGTERM begins the end; the second one is taken as it was before. Main thread only; nothing
        happens in others."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGTERM)

        def handler(*_: object) -> None:
            signal.signal(signal.SIGTERM, before)
            self.begin()

        self._handler = handler
        self.arm()
        try:
            yield
        finally:
            self._handler = None
            signal.signal(signal.SIGTERM, before)

    def arm(self) -> None:
        """Take SIGTERM (again): libraries that were started meanwhile have handlers of their own."""
        if self._handler is not None and not self.begun:
            signal.signal(signal.SIGTERM, self._handler)
