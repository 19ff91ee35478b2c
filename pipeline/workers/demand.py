"""Demand: what a run could use beyond the nodes that there are, for the autoscaler of its cluster.

A run opens no more slots than fit, so nothing of it waits at Ray, and a cluster that could grow would not. Where slots
have lacked room for a while, each of some becomes a placement group of its size, which waits at Ray in its place; when
a node has come the group goes, and the slot takes the room. Groups end with the driver, however it ends, so no machine
is kept for a dead run (what `ray.autoscaler.sdk.request_resources` asks for would stay, and there is one such request
for all drivers). There are at most as many of a size as slots at work, so a cluster doubles; where no autoscaler
can start nodes there are none.

Which clusters those are follows from their nodes: what `ray up` and KubeRay start has the label of its group.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits.units import Resources

PATIENCE_SECONDS = 5.0
"""Work that has waited for less is over before a machine could come."""
FORGET_SECONDS = 15.0
"""Nobody has lacked room for so long: the demand is over."""
COME_SECONDS = 900.0
"""A machine of the kind that is wanted comes within this time, or never."""
LOOK_SECONDS = 1.0
GROUP = "ray.io/node-group"
"""Ray's label for the kind of a node that an autoscaler, or KubeRay, has started."""
LEAST = 2
"""Groups of one size for a run that has hardly a slot yet."""


@dataclass
class Want:
    """Slots of one size that lack room: since when, when last, and what waits at Ray for them."""

    since: float
    latest: float
    groups: list[Any] = field(default_factory=list)


class Demand:
    """What one run wants. Belongs to the thread that speaks to Ray."""

    def __init__(self) -> None:
        self._wants: dict[Resources, Want] = {}
        self._grows = False
        self._looked = 0.0

    def look(self, nodes: list[dict[str, Any]]) -> None:
        """What Ray says of the live nodes: one that belongs to a group was started by `ray up` or Kubernetes, not by
        hand, and so may others be."""
        self._grows = any(node.get("Labels", {}).get(GROUP) for node in nodes)

    def may_come(self, resources: Resources) -> bool:
        """Could a node come that holds this, where none of those that are here does?"""
        want = self._wants.get(resources)
        return self._grows and (want is None or time.monotonic() - want.since < COME_SECONDS)

    def want(self, resources: Resources, working: int, anew: bool = False) -> None:
        """A slot had no room beside the `working` ones, or there is no node at all, which whoever built the cluster
        (`anew`) knows how to bring."""
        now = time.monotonic()
        want = self._wants.setdefault(resources, Want(now, now))
        want.latest = now
        most = 1 if anew else max(LEAST, working) if self._grows and now - want.since >= PATIENCE_SECONDS else 0
        if len(want.groups) < most:
            from ray.util import placement_group

            bundle = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory_mb * 2**20)}
            want.groups.append(placement_group([{kind: amount for kind, amount in bundle.items() if amount}]))

    def settle(self) -> None:
        """Give back what has come, and all of a size that nobody wants any more."""
        now = time.monotonic()
        if not self._wants or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for resources, want in list(self._wants.items()):
            if now - want.latest > FORGET_SECONDS:
                _remove(self._wants.pop(resources).groups)
            else:
                come = [group for group in want.groups if group.wait(0)]
                want.groups = [group for group in want.groups if group not in come]
                _remove(come)

    def end(self) -> None:
        """Nothing is wanted any more. Where this process has left the cluster, it is forgotten there already."""
        import ray

        for want in self._wants.values():
            if ray.is_initialized():
                _remove(want.groups)
        self._wants.clear()


def _remove(groups: list[Any]) -> None:
    from ray.util import remove_placement_group

    for group in groups:
        remove_placement_group(group)
