"""Room on a Ray cluster: which node has CPUs, GPUs and memory left for one more slot.

It counts by node, as Ray does, and pins each slot to the node it was counted on: an actor that fits nowhere would wait
without end. Nodes are asked for anew every few seconds, so what is lost is no longer counted and what joins is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hyperloom.pipeline.commits.units import Resources
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.workers.demand import Demand

ASK_AGAIN = 2.0


@dataclass(frozen=True, eq=False)
class Place:
    """A share of a node (its id) that is taken by a slot."""

    node: str
    resources: Resources

    def strategy(self) -> Any:
        """Ray's scheduling strategy for it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(self.node, soft=True)


class Room:
    """What the nodes of the connected cluster have, and what our slots have taken of it."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._nodes: dict[str, Resources] = {}
        self._asked = 0.0
        self._taken: list[Place] = []
        self._demand = Demand()
        self._waits: set[str] = set()

    def take(self, resources: Resources) -> Place | None:
        """A place for a slot; None where there is none beside those taken, which the cluster's autoscaler, if it has
        one, then hears of. Where no node could hold it alone, fewer CPUs do. Raises StepFailed for a GPU or memory that
        no node has, nor can get."""
        nodes = self._alive()
        resources = self._possible(resources, nodes)
        for node, has in nodes.items():
            taken = [p.resources for p in self._taken if p.node == node]
            if _holds(has, [*taken, resources]):
                self._taken.append(Place(node, resources))
                return self._taken[-1]
        if not nodes:
            self._wait("the cluster has no node with CPUs yet: waiting for one")
        self._demand.want(resources, len(self._taken), anew=not nodes)
        return None

    def capacity(self, resources: Resources, beside: list[Place]) -> int:
        """How many slots of this size all nodes together could hold if there were nothing else but `beside`."""

        def fits(node: str, has: Resources) -> int:
            taken, count = [p.resources for p in beside if p.node == node], 0
            while _holds(has, [*taken, *[resources] * (count + 1)]):
                count += 1
            return count

        return sum(fits(node, has) for node, has in self._alive().items())

    def holds(self, place: Place) -> bool:
        """Is the place's node still there? One that is not is given back."""
        if place.node in self._alive():
            return True
        self.give_back(place)
        return False

    def give_back(self, place: Place) -> None:
        self._taken.remove(place)
        self._asked = 0.0  # it may have gone because its node is gone

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(has.gpus for has in self._alive().values())

    def _wait(self, why: str) -> None:
        """Tell the user, once."""
        if why not in self._waits:
            self._waits.add(why)
            self._say(why)

    def settle(self) -> None:
        """Give back the demand that has been met, or that nobody has any more."""
        self._demand.settle()

    def close(self) -> None:
        """Nothing is wanted any more."""
        self._demand.end()

    def _alive(self) -> dict[str, Resources]:
        self.settle()
        if time.monotonic() - self._asked > ASK_AGAIN:
            import ray

            self._asked = time.monotonic()
            nodes = [n for n in ray.nodes() if n["Alive"]]
            self._demand.look(nodes)
            has = {n["NodeID"]: n["Resources"] for n in nodes}
            self._nodes = {id_: _resources(r) for id_, r in sorted(has.items()) if r.get("CPU")}
        return self._nodes

    def _possible(self, resources: Resources, nodes: dict[str, Resources]) -> Resources:
        if not nodes or any(_holds(has, [resources]) for has in nodes.values()):
            return resources
        most = max(has.cpus for has in nodes.values())
        fewer = replace(resources, cpus=min(resources.cpus, most))
        if any(_holds(has, [fewer]) for has in nodes.values()):
            return fewer
        if self._demand.may_come(resources):
            self._wait(f"no node has {resources.gpus:g} GPUs and {resources.memory_mb} MB of memory: waiting for one")
            return resources
        has = ", ".join(f"{n.cpus:g} CPUs, {n.gpus:g} GPUs, {n.memory_mb} MB" for n in nodes.values())
        raise StepFailed(
            f"a worker asks for {resources.gpus:g} GPUs and {resources.memory_mb} MB of memory, which no node of the "
            f"cluster has ({has}). Next: ask for less in the recipe (gpus, memory_mb), or join a node that has it"
        )


def _resources(ray: dict[str, float]) -> Resources:
    return Resources(ray.get("CPU", 0.0), ray.get("GPU", 0.0), int(ray.get("memory", 0.0) / 2**20))


def _holds(has: Resources, demands: list[Resources]) -> bool:
    return (
        sum(r.cpus for r in demands) <= has.cpus + 1e-9
        and sum(r.gpus for r in demands) <= has.gpus + 1e-9
        and sum(r.memory_mb for r in demands) <= has.memory_mb
    )
