"""What paid endpoints answered, kept under the root, so that no question is paid for twice.

    {root}/calls/{identity of what is asked[:12]}/{first two digits}/{question's sha256}.json

An answer is written, whole or not at all, before anybody looks at it: a process that dies loses the questions that it
had in the air, never an answer. Nothing else is kept: no address, no header, no key. Remove the folder to ask anew.

Who asks claims the question first (`.asking`), so that two processes that meet it in the same moment ask once. A claim
whose process is gone counts for nothing; of a process on another machine that is judged by the claim's age.
"""

from __future__ import annotations

import time
from typing import Any

from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.fingerprint import SHORT, fingerprint
from hyperloom.pipeline.host import process
from hyperloom.pipeline.root.storage import Storage

FOLDER = "calls"


class Replay:
    """Answers by question, for one expert: `identity` is all that decides its answers beside the question itself;
    `seconds` is how long a claim from another machine is believed."""

    def __init__(self, storage: Storage, identity: Any, seconds: float):
        self._storage, self._seconds = storage, seconds
        self._folder = f"{FOLDER}/{fingerprint(identity)[:SHORT]}"

    @staticmethod
    def key(question: Any) -> str:
        """The name of a question: 64 hex digits of its canonical JSON."""
        return fingerprint(question)

    def get(self, key: str) -> tuple[Any] | None:
        """The answer, in a tuple since it may be null; None when it was never given, or its file is torn."""
        try:
            return (self._storage.read_json(self._path(key))["answer"],)
        except (FileNotFoundError, Torn):
            return None

    def put(self, key: str, answer: Any) -> None:
        self._storage.write_json(self._path(key), {"answer": answer})

    def claim(self, key: str) -> bool:
        """True: the question is this process's to ask. False: somebody asks it just now, or has."""
        if self.get(key) is not None:
            return False
        path, mine = self._claim(key), {**process.this(), "at": time.time()}
        if not self._storage.create_json(path, mine):
            if self._alive(path):
                return False
            self._storage.write_json(path, mine)
        if self.get(key) is not None:  # answered between the look and the claim
            self.release(key)
            return False
        return True

    def release(self, key: str) -> None:
        """Let others ask, or find the answer."""
        self._storage.delete(self._claim(key))

    def _alive(self, path: str) -> bool:
        try:
            claim = self._storage.read_json(path)
            if claim["host"] == process.host():
                return not process.is_gone(claim)
            return abs(time.time() - claim["at"]) < self._seconds  # one from hours ahead is of a clock that was wrong
        except (FileNotFoundError, Torn):
            return False

    def _claim(self, key: str) -> str:
        return f"{self._folder}/{key[:2]}/{key}.asking"

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key[:2]}/{key}.json"
