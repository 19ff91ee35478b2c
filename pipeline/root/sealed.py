"""Sealed documents: the small JSON files under a root, each with a digest of where it lies and what it says.

    {"sha256": "<64 hex digits>", "value": <JSON>}

The digest covers the file's path (relative to the root) and the bytes of the value. So a file that was cut, changed,
written by hand, or that belongs in another place is known as such by whoever reads it, and nothing in it is believed.
A sealed file is JSON, to be read with any tool. The seal keeps out accidents, not people: anyone can make one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hyperloom.pipeline import plain
from hyperloom.pipeline.errors import Torn

_HEAD, _BETWEEN = b'{"sha256": "', b'", "value": '
_DIGEST = slice(len(_HEAD), len(_HEAD) + 64)
_START = _DIGEST.stop + len(_BETWEEN)


def dump(path: str, value: Any) -> bytes:
    """The bytes of a document that lies at `path`. The same value gives the same bytes."""
    return wrap(path, plain.dumps(value, sort_keys=True).encode())


def wrap(path: str, text: bytes) -> bytes:
    """The bytes of a document whose value is JSON already, `text`."""
    return b"".join((_HEAD, _digest(path, text), _BETWEEN, text, b"}"))


def load(path: str, data: bytes) -> Any:
    """The value of the document `data` that lies at `path`. Raises Torn, which says what is wrong in a few words."""
    return json.loads(unwrap(path, data))


def unwrap(path: str, data: bytes) -> bytes:
    """The JSON of the document `data` that lies at `path`. Raises Torn."""
    if data[: _DIGEST.start] != _HEAD or data[_DIGEST.stop : _START] != _BETWEEN or data[-1:] != b"}":
        raise Torn("it is empty" if not data else "it is not a file of ours, or not all of it")
    text = data[_START:-1]
    if _digest(path, text) != data[_DIGEST]:
        raise Torn("it was cut or changed, or belongs to another place")
    return text


def _digest(path: str, text: bytes) -> bytes:
    digest = hashlib.sha256(path.encode())
    digest.update(b"\n")
    digest.update(text)
    return digest.hexdigest().encode()
