"""Secrets: what must not reach an event, a log or MLflow, blotted out of text that may hold it.

Covered are user names and passwords inside URLs, and `key: value` or `key=value` pairs whose key speaks of a secret. It
is a net for accidents; a recipe should name an environment variable instead.
"""

from __future__ import annotations

import re

BLOT = "***"
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+(?=@)")
_PAIR = re.compile(
    r"(?i)(\b[\w.-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|credential)[\w-]*\b['\"]?\s*[:=]\s*['\"]?)([^\s'\",;&}]+)"
)


def blot(text: str) -> str:
    """`text` with secrets replaced by `***`: `s3://me:pw@host/a` becomes `s3://***@host/a`."""
    return _PAIR.sub(lambda m: m[1] + BLOT, _USERINFO.sub(BLOT, text))
