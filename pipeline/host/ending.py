"""The end of a run that is asked for from outside, with time left to put away what is half done.

It begins with SIGTERM, with Ctrl-C, with the end of the terminal (SIGHUP, unless `nohup` has it ignored), or with a
notice under the root (`pipeline.running.cancelling`). Whoever has something to
put away registers what tells it so (`ending.telling(callback)`): a training is told to store a checkpoint. The engine
then waits for a while and raises the `Ended` of the reason. A second signal ends everything at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hyperloom.pipeline.errors import Ended, HungUp, Interrupted

WHY: dict[int, type[Ended]] = {signal.SIGTERM: Ended, signal.SIGINT: Interrupted, signal.SIGHUP: HungUp}
"""What ends a run, by signal."""
GRACE_SECONDS = 120.0
"""How long a run that is to end waits for units that beat."""


class Ending:
    """Whether the run is to end, and whom to tell. Thread-safe."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self._told = False
        self._callbacks: list[Callable[[], None]] = []
        self._handlers: dict[int, Callable[..., None]] = {}
        self._why: Callable[[], Ended] = Ended

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

    def begin(self, why: Callable[[], Ended] = Ended) -> None:
        """The run is to end. Returns at once, since it is called where a signal may have interrupted anything."""
        if not self.begun:
            self._why = why
            self._begun.set()
            threading.Thread(target=self._tell, name="ending", daemon=True).start()

    def error(self) -> Ended:
        """What a run that ended for this reason raises."""
        return self._why()

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
    def on_signals(self) -> Iterator[None]:
        """Inside the block SIGTERM, SIGHUP and Ctrl-C begin the end; the next one is taken as it was before. Main
        thread only; nothing happens in others."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in WHY}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def handler(number: int, _: object) -> None:
            restore()
            if number == signal.SIGHUP:  # a shell and the kernel both send it
                signal.signal(number, signal.SIG_IGN)
            self.begin(WHY[number])

        self._handlers = {n: handler for n in WHY if before[n] is not signal.SIG_IGN}  # nohup, a shell's `&`
        self.arm()
        try:
            yield
        finally:
            self._handlers = {}
            restore()

    def arm(self) -> None:
        """Take the signals (again): libraries that were started meanwhile have handlers of their own."""
        if not self.begun:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
