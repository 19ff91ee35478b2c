"""Following a job whose server goes away: a broken connection, and one that is only silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")
from ray.job_submission import JobStatus

from hyperloom.clusters import following
from hyperloom.clusters.spec import ClusterError

URL = "http://head:8265"


class Server:
    """A job server: each connection to it sends some pieces of the log, and then ends, breaks, or says nothing more."""

    def __init__(self, *connections: tuple[list[str], str]):
        self.connections, self.status, self.known = list(connections), JobStatus.RUNNING, True

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        pieces, then = self.connections.pop(0)
        for piece in pieces:
            yield piece
        if then == "silent":
            await asyncio.sleep(1000)
        if then == "broken":
            raise RuntimeError("closed unexpectedly")
        self.status = JobStatus.SUCCEEDED

    def get_job_status(self, job: str) -> JobStatus:
        return self.get_job_info(job).status

    def get_job_info(self, job: str) -> Any:
        if not self.known:
            raise RuntimeError("Request failed with status code 404: Job demo-1 does not exist.")
        return SimpleNamespace(status=self.status, message="", driver_exit_code=0)


@pytest.fixture(autouse=True)
def knocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """How many more knocks at the server are answered, as {"answered": count}; and nobody is patient."""
    state = {"answered": float("inf")}

    def probe(host: str, port: int) -> None:
        assert (host, port) == ("head", 8265)
        state["answered"] -= 1
        if state["answered"] < 0:
            raise TimeoutError("timed out")

    async def sleep(seconds: float, real: Any = asyncio.sleep) -> None:
        await real(min(seconds, 0.01) if seconds < 100 else seconds)

    monkeypatch.setattr(following, "probe", probe)
    monkeypatch.setattr(following, "SILENCE_SECONDS", 0.02)
    monkeypatch.setattr(following.asyncio, "sleep", sleep)
    return state


def test_a_broken_log_goes_on_where_it_broke(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server((["one\n", "two\n"], "broken"), (["one\n", "two\nthree\n"], "ends"))
    assert following.follow(server, URL, "demo-1") == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\njob demo-1: succeeded\n"


def test_a_log_that_is_silent_for_ever_ends_with_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    """The connection never says that its other end is gone."""
    server = Server((["one\n"], "silent"))
    server.status = JobStatus.SUCCEEDED
    assert following.follow(server, URL, "demo-1") == 0
    assert capsys.readouterr().out.startswith("one\n")


def test_a_head_that_is_gone_without_a_word_is_given_up(
    knocks: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server((["one\n"], "silent"))
    knocks["answered"] = 1
    with pytest.raises(ClusterError, match="lost the job server while following demo-1"):
        following.follow(server, URL, "demo-1")
    assert capsys.readouterr().out == "one\n"


def test_a_cluster_that_was_started_anew_does_not_know_the_job() -> None:
    server = Server((["one\n"], "silent"))
    server.known = False
    with pytest.raises(ClusterError, match="was started anew. Next: submit again"):
        following.follow(server, URL, "demo-1")
