"""The nodes of the cluster that this machine has joined: waiting for them, and leaving it in peace.

`leave` is what a machine that is to go calls first (a pod's hook, a spot machine's notice, a unit of systemd). On a
node that works, Ray drains it: trainings store a checkpoint and go on elsewhere, nothing new begins, and units in
flight have the time that is given. On the head it asks the drivers to end, since the cluster ends with it. It returns
when nothing is left here, or when the time is over, and never fails for want of a cluster: then there is nothing to
leave.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from hyperloom.clusters.connect import authenticate, probe
from hyperloom.clusters.spec import Cluster, ClusterError
from hyperloom.pipeline.workers import ray_internals

PAUSE = 0.5
ELSEWHERE = "192.0.2.1"
"""An address that nobody has: the route to it says which of ours others see. Nothing is sent."""
AWAY = (OSError, ConnectionError, RuntimeError, ValueError)
"""What Ray raises where a cluster does not answer."""


def wait(count: int, seconds: float) -> int:
    """Return when `count` nodes have joined: how many have. Raises ClusterError when they have not within `seconds`."""
    address, end = _address(), time.monotonic() + seconds
    while (joined := len(_nodes(address))) < count:
        if time.monotonic() > end:
            raise ClusterError(
                f"{joined} of {count} nodes have joined {address} within {seconds:g} s. Next: look at what `ray start` "
                "says on the others"
            )
        time.sleep(PAUSE)
    return joined


def leave(seconds: float, say: Callable[[str], None] = print) -> None:
    """Take this machine out of its cluster within `seconds`."""
    end = time.monotonic() + seconds
    try:
        address = ray_internals.bootstrap(_address())
    except (ClusterError, *AWAY):
        say("this machine is in no cluster")
        return
    here = [n for n in _nodes(address) if n.address in _own(address)]
    if not here:
        say(f"this machine is no node of {address}")
    elif any(node.head for node in here):
        _end_jobs(address, end, say)
    else:
        _drain(address, here, end, say)


def _drain(address: str, here: list[ray_internals.RayNode], end: float, say: Callable[[str], None]) -> None:
    for node in here:
        if not ray_internals.drain(address, node.id, max(0.0, end - time.monotonic()), "the machine goes away"):
            say(f"the cluster does not let {node.address} go")
    say(f"draining {here[0].address}: what runs here is told")
    ours = {node.id for node in here}
    while ours & {node.id for node in _nodes(address)} and time.monotonic() < end:
        time.sleep(PAUSE)


def _end_jobs(address: str, end: float, say: Callable[[str], None]) -> None:
    """Ask the drivers of submitted jobs to end. Each has the time that RAY_JOB_STOP_WAIT_TIME_S gave its cluster."""
    from ray.job_submission import JobSubmissionClient

    client: Any = None
    informed: set[str] = set()
    try:
        client = JobSubmissionClient(ray_internals.job_server(address))
        while (jobs := _running(client)) and time.monotonic() < end:
            for job in jobs - informed:
                say(f"asking job {job} to end")
                client.stop_job(job)
            informed |= jobs
            time.sleep(PAUSE)
    except AWAY:
        say("no job server answers" if client is None else "the job server is gone")


def _running(client: Any) -> set[str]:
    return {j.submission_id for j in client.list_jobs() if j.submission_id and not j.status.is_terminal()}


def _address() -> str:
    """The cluster of this machine: RAY_ADDRESS, or the one that `ray start` has joined."""
    authenticate(private=False)
    where = Cluster().where
    return "auto" if where == "local" else where


def _nodes(address: str) -> list[ray_internals.RayNode]:
    """The live nodes; none where nobody answers."""
    try:
        address = ray_internals.bootstrap(address)
        host, _, port = address.rpartition(":")
        probe(host, int(port))  # Ray itself would try for long
        return ray_internals.nodes(address)
    except AWAY:
        return []


def _own(address: str) -> set[str]:
    """Our addresses as the head and others see them."""
    own = set()
    for host in (address.rpartition(":")[0], ELSEWHERE):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
            try:
                route.connect((host, 9))
            except OSError:
                continue
            own.add(route.getsockname()[0])
    return own
