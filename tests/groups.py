"""Which tests share a process of `pytest -n N --dist loadgroup --no-loadscope-reorder`.

Tests that share something costly to start form a group, and a group stays in one process: all tests on the Ray cluster
of tests/ray/conftest.py, all on the MLflow server of tests/tracking/conftest.py, else those of a file. Groups are
handed out in the order of `ORDER`, the longest first, so that no process works alone for long at the end. (The marks
that pytest-xdist itself offers for this have no effect with pytest 9.2.)
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

SHARED = ("tests/ray/test_train_", "tests/ray/", "tests/tracking/")
"""How the tests begin that share one cluster or server; trainings have a cluster of their own, since one for all would
outlast the rest of the suite."""
ALONE = ("autoscaling", "host_faults", "node_loss", "slurm", "training_hosts")
APART = (*(f"tests/ray/test_{name}.py" for name in ALONE), "tests/tracking/test_team.py")
"""They start clusters or servers of their own."""
FIRST = ("tests/ray/test_training_hosts", "tests/ray/test_train_", "tests/ray/", "tests/real/", "tests/training/")
ORDER = (*FIRST, "tests/tracking/", "tests/stores/", "tests/experts/")
"""In which groups are handed out, by how they begin."""


class Groups(LoadScopeScheduling):
    """Hands out whole groups."""

    def _reschedule(self, node: Any) -> None:
        """A process that has got the last group is told so: else one that was started in place of a crashed one would
        keep its last test and wait for more, without end."""
        super()._reschedule(node)
        if not self.workqueue and not node.shutting_down:
            node.shutdown()

    def remove_node(self, node: Any) -> str | None:
        """The test that ended its process (a timeout does) has failed and is not tried again, as xdist would do; the
        rest of its group goes to another process."""
        units = self.assigned_work.get(node, {}).values()
        crashed = next(((unit, name) for unit in units for name, over in unit.items() if not over), None)
        if crashed is None:
            return super().remove_node(node)
        unit, name = crashed
        unit[name] = True
        super().remove_node(node)
        return name

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """How the tests begin that share a server with this one, or the test's file."""
    path = nodeid.partition("::")[0]
    return next((shared for shared in SHARED if path.startswith(shared) and path not in APART), path)


def rank(item: Any) -> tuple[int, str]:
    """Sorts tests by group, in the order in which groups are handed out."""
    name = group(item.nodeid)
    return next((at for at, first in enumerate(ORDER) if name.startswith(first)), len(ORDER)), name
