"""What paid endpoints answered, kept under the root, so that no question is paid for twice.

    {root}/calls/{identity of what is asked[:12]}/{first two digits}/{question's sha256}.json

An answer is written, whole or not at all, before anybody looks at it: a process that dies loses the questions that it
had in the air, never an answer. Nothing else is kept: no address, no header, no key. Remove the folder to ask anew.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.fingerprint import SHORT, fingerprint
from pipeline.storage import Storage

FOLDER = "calls"


class Replay:
    """Answers by question, for one expert: `identity` is all that decides its answers beside the question itself."""

    def __init__(self, storage: Storage, identity: Any):
        self._storage = storage
        self._folder = f"{FOLDER}/{fingerprint(identity)[:SHORT]}"

    @staticmethod
    def key(question: Any) -> str:
        """The name of a question: 64 hex digits of its canonical JSON."""
        return fingerprint(question)

    def get(self, key: str) -> tuple[Any] | None:
        """The answer, in a tuple since it may be null; None when it was never given, or its file is torn."""
        try:
            return (json.loads(self._storage.read(self._path(key)))["answer"],)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, answer: Any) -> None:
        self._storage.write(self._path(key), json.dumps({"answer": answer}).encode())

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key[:2]}/{key}.json"
