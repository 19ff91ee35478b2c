"""Prefetch: an iterator that runs ahead in a thread of its own, by a bounded number of items.

What the inner iterator raises is raised again to the reader, in its place. Leaving early stops the thread: use `with`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_END = object()


class Prefetch(Generic[T]):
    """Iterates `source`, keeping up to `ahead` items ready."""

    def __init__(self, source: Generator[T, None, None], ahead: int):
        self._source = source
        self._ready: queue.Queue[object] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._items()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while not self._ready.empty():  # wakes a thread that waits for room
            self._ready.get_nowait()
        self._thread.join()

    def _items(self) -> Iterator[T]:
        while True:
            item = self._ready.get()
            if item is _END:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]

    def _work(self) -> None:
        try:
            for item in self._source:
                if not self._offer(item):
                    return
            self._offer(_END)
        except BaseException as error:
            self._offer(_Failure(error))
        finally:
            self._source.close()

    def _offer(self, item: object) -> bool:
        """Wait for room; False when the reader has left."""
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


class _Failure:
    def __init__(self, error: BaseException):
        self.error = error
