"""Exit codes: what whoever started a command (a shell, cron, Kubernetes, Slurm) may conclude from its end.

The table for people is in docs/clusters.md.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    """Failed for a reason without a code of its own, or found what it looked for (`verify`, `failed`, `doctor`)."""
    WRONG = 2
    """Wrong for ever: recipe, usage, a refused token, a root that may not be written. Somebody must mend it."""
    BUSY = 3
    """Another driver has what this one needs."""
    STEP = 4
    """A step failed for good; what else could be done is committed."""
    CLUSTER = 5
    """No Ray cluster answers, or it went away."""
    STORE = 6
    """The store of the root does not answer, or is full."""
    CANCELLED = 7
    """`hyperloom cancel` ended the run."""
    BUDGET = 8
    """The recipe's `budget` is spent."""
    INTERRUPTED = 130
    """Ctrl-C."""
    KILLED = 137
    """SIGKILL, as the shell says it: out of memory, a lost node. No command returns it by itself."""
    ENDED = 143
    """SIGTERM: what was in flight is put away."""


AGAIN = frozenset({Exit.BUSY, Exit.CLUSTER, Exit.STORE, Exit.KILLED, Exit.ENDED})
"""The same command may well succeed later: nothing is wrong with it."""
NEVER = frozenset({Exit.WRONG, Exit.CANCELLED, Exit.BUDGET, Exit.INTERRUPTED})
"""The same command ends the same way until a person acts. With all other codes a few tries are worth it."""
