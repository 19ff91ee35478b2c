"""Waiting for nodes, and leaving a cluster in peace, with a cluster that is played."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hyperloom.clusters import nodes
from hyperloom.pipeline import cli
from hyperloom.pipeline.workers import ray_internals
from hyperloom.pipeline.workers.ray_internals import RayNode

ELSEWHERE = RayNode("e", "10.9.9.9", False)


class Played:
    """A cluster's nodes; one that is drained ends at the second look."""

    def __init__(self, *alive: RayNode):
        self.alive, self.looks = list(alive), 0
        self.drained: list[str] = []

    def nodes(self, address: str) -> list[RayNode]:
        self.looks += 1
        if self.drained and self.looks > 2:
            self.alive = [n for n in self.alive if n.id not in self.drained]
        return self.alive

    def drain(self, address: str, node: str, seconds: float, why: str) -> bool:
        self.drained.append(node)
        return True


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of something that listens where a head would."""
    monkeypatch.setattr(nodes, "PAUSE", 0.01)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(ray_internals, "bootstrap", lambda given: given)
        yield address


def play(monkeypatch: pytest.MonkeyPatch, *alive: RayNode) -> Played:
    played = Played(*alive)
    monkeypatch.setattr(ray_internals, "nodes", played.nodes)
    monkeypatch.setattr(ray_internals, "drain", played.drain)
    return played


def test_a_working_node_is_drained_and_waited_for(
    head: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played = play(monkeypatch, RayNode("h", "10.9.9.8", True), RayNode("w", "127.0.0.1", False), ELSEWHERE)
    assert cli.main(["cluster", "leave", "--seconds", "5"]) == 0
    assert played.drained == ["w"] and [n.id for n in played.alive] == ["h", "e"]
    assert "draining 127.0.0.1" in capsys.readouterr().out


def test_time_is_up_though_a_node_works_on(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = play(monkeypatch, RayNode("w", "127.0.0.1", False))
    monkeypatch.setattr(played, "drained", [])
    monkeypatch.setattr(ray_internals, "drain", lambda *_: True)
    assert cli.main(["cluster", "leave", "--seconds", "0.1"]) == 0


def test_who_is_in_no_cluster_leaves_none(
    head: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played = play(monkeypatch, ELSEWHERE)
    assert cli.main(["cluster", "leave"]) == 0 and not played.drained
    assert "no node of" in capsys.readouterr().out
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert cli.main(["cluster", "leave"]) == 0


def test_waiting_for_nodes(head: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    play(monkeypatch, RayNode("h", "10.9.9.8", True), ELSEWHERE)
    assert cli.main(["cluster", "wait", "--nodes", "2"]) == 0
    assert cli.main(["cluster", "wait", "--nodes", "3", "--seconds", "0.1"]) == 5
    assert "2 of 3 nodes have joined" in capsys.readouterr().err
