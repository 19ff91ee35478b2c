"""The start of workers' processes, where it fails: a module that is missing or broken on a node, an environment that
cannot be set up.

What makes one process raise before its first work makes the next one raise too. So two of them with one error end the
step, instead of being retried as if a machine had died. A process that is killed says nothing of that kind and does not
count here, nor does a cluster that is too busy to answer.
"""

from __future__ import annotations

import re
from collections import Counter

MOST = 2
"""Starts that may fail with one error."""
_NAMES_AN_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning)\b")
_DIFFERS = re.compile(r"\b(0x)?[0-9a-f]{16,}\b|\bpid=\d+")
_PASSES = re.compile(r"timed? ?out|connect|unavailable", re.IGNORECASE)


class FailedStarts:
    """Counts starts that failed, by their error."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, text: str) -> tuple[str, bool]:
        """Count one, of which Ray or Python said `text`. Gives what to tell the user, and whether another try is
        hopeless."""
        cause = _cause(text)
        self._counts[cause] += 1
        if self._counts[cause] < MOST:
            return f"a worker's process failed to start: {cause}", False
        return (
            f"workers' processes cannot start; {MOST} of them failed with the same error: {cause}\n"
            "Next: mend it on every node (what workers import must be installed there, or lie beside the recipe), then "
            f"run the same command again. The whole of the last one:\n{text.strip()}"
        ), True


def failed_to_start(error: Exception) -> bool:
    """Does this error of Ray say that a process raised before its first work?"""
    import ray

    if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
        return not _PASSES.search(str(error))
    return bool(getattr(error, "actor_init_failed", False))


def _cause(text: str) -> str:
    """The last line that names an exception, without what differs from process to process."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason was given"]
    named = [line for line in lines if _NAMES_AN_EXCEPTION.match(line)]
    return _DIFFERS.sub("...", (named or lines)[-1])[:500]
