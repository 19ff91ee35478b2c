"""What a run asks an autoscaler for, on a cluster whose nodes are said here."""

from __future__ import annotations

from typing import Any

import pytest

ray = pytest.importorskip("ray")
from ray import util  # noqa: E402

from hyperloom.pipeline.commits.units import Resources  # noqa: E402
from hyperloom.pipeline.errors import StepFailed  # noqa: E402
from hyperloom.pipeline.workers import demand, room  # noqa: E402


class Group:
    """A placement group of Ray's."""

    def __init__(self, bundles: list[dict[str, float]]):
        self.bundles, self.ready = bundles, False

    def wait(self, seconds: float) -> bool:
        return self.ready


class Cluster:
    """Its nodes, with or without the label of an autoscaler's group, and the groups that wait."""

    def __init__(self, label: str):
        self.label, self.cpus, self.groups = label, [1.0], list[Group]()

    def nodes(self) -> list[dict[str, Any]]:
        labels = {"ray.io/node-group": self.label}
        return [{"Alive": True, "NodeID": str(i), "Resources": {"CPU": c, "memory": 2**30}, "Labels": labels}
                for i, c in enumerate(self.cpus)]  # fmt: skip

    def placement_group(self, bundles: list[dict[str, float]]) -> Group:
        self.groups.append(Group(bundles))
        return self.groups[-1]


def cluster_of(monkeypatch: pytest.MonkeyPatch, label: str) -> Cluster:
    cluster = Cluster(label)
    monkeypatch.setattr(ray, "nodes", cluster.nodes)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(util, "placement_group", cluster.placement_group)
    monkeypatch.setattr(util, "remove_placement_group", cluster.groups.remove)
    monkeypatch.setattr(room, "ASK_AGAIN", -1.0)
    monkeypatch.setattr(demand, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(demand, "PATIENCE_SECONDS", 0.0)
    return cluster


ONE = Resources(1.0)


def test_slots_without_room_are_asked_for_until_they_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_of(monkeypatch, "workers")
    places = room.Room(print)
    assert places.take(ONE) is not None
    assert [places.take(ONE) for _ in range(5)] == [None] * 5
    assert [g.bundles for g in cluster.groups] == [[{"CPU": 1.0}]] * 2, "a cluster that has one slot may get two more"
    cluster.cpus.append(1.0)
    cluster.groups[0].ready = True
    assert places.take(ONE) is not None
    assert len(cluster.groups) == 1, "what has come is not asked for any more"
    places.close()
    assert cluster.groups == []


def test_what_is_over_soon_or_wanted_no_more_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_of(monkeypatch, "workers")
    places = room.Room(print)
    places.take(ONE)
    monkeypatch.setattr(demand, "PATIENCE_SECONDS", 60.0)
    assert places.take(ONE) is None and cluster.groups == []
    monkeypatch.setattr(demand, "PATIENCE_SECONDS", 0.0)
    assert places.take(ONE) is None and len(cluster.groups) == 1
    monkeypatch.setattr(demand, "FORGET_SECONDS", -1.0)
    places.settle()
    assert cluster.groups == []


def test_a_gpu_that_no_node_has_is_waited_for_only_where_one_may_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = Resources(1.0, 1.0)
    cluster = cluster_of(monkeypatch, "workers")
    places = room.Room(print)
    assert places.take(gpu) is None and places.take(gpu) is None
    assert [g.bundles for g in cluster.groups] == [[{"CPU": 1.0, "GPU": 1.0}]] * 2
    assert capsys.readouterr().out == "no node has 1 GPUs and 0 MB of memory: waiting for one\n"
    monkeypatch.setattr(demand, "COME_SECONDS", -1.0)
    with pytest.raises(StepFailed, match="which no node of the cluster has"):
        places.take(gpu)


def test_a_cluster_that_was_started_by_hand_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_of(monkeypatch, "")
    places = room.Room(print)
    assert places.take(ONE) is not None and places.take(ONE) is None
    with pytest.raises(StepFailed, match="which no node of the cluster has"):
        places.take(Resources(1.0, 1.0))
    assert cluster.groups == []


def test_where_no_node_is_one_is_asked_for_whatever_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_of(monkeypatch, "")
    cluster.cpus.clear()
    places = room.Room(print)
    assert [places.take(ONE) for _ in range(3)] == [None] * 3 and len(cluster.groups) == 1
    cluster.cpus.append(1.0)
    cluster.groups[0].ready = True
    assert places.take(ONE) is not None, "it is counted on its node"
    assert places.take(ONE) is None and cluster.groups == []
