"""All that Hyperloom takes of Ray beyond its public interface, each with the reason. No other module does.

It holds for the versions of Ray that pyproject.toml allows; tests/unit/test_ray_internals.py fails outside of them. For
a new version: read this file beside Ray's sources, run tests/ray, and move the bound. Importing this imports no Ray.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set inside a Ray job's driver, to the job's configuration as JSON."""
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")
"""Loggers that report each folder they send."""
GUARD = 'trap "" TERM; read -r word || kill -s KILL -- "-$1"'
"""Waits until its driver says that the session $1 has ended, or is gone: then it ends the session."""

PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
AGENT = (
    "trap '' TERM"
    f'; cd "$1" && for port in {" ".join(PORTS)}; do printf %s -1 > .$port && mv .$port ${{port}}_$2; done'
    "; exec cat"
)
"""Says to the raylet of node $2, in the session's folder $1, that it has none of the ports, and ends with it. A raylet
that found a file without a number yet would end at once, so each comes whole; and one whose agent is gone ends too, so
what is sent to the driver's neighbours must not reach the agent, for which a raylet unblocks all signals."""


def in_job() -> bool:
    """Is this process the driver of a submitted job?"""
    return JOB in os.environ


def job_environment() -> dict[str, Any]:
    """The runtime environment that the job of this driver was submitted with; empty outside of one."""
    return json.loads(os.environ.get(JOB) or "{}").get("runtime_env") or {}


def read_auth_mode() -> None:
    """Make Ray read RAY_AUTH_MODE again: it does so when it is imported, and never after that."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")


@contextmanager
def shielded() -> Iterator[None]:
    """The processes of a cluster that is started inside the block end with its driver, and by nothing that is sent to
    the driver's neighbours too: Ctrl-C and a batch system's SIGTERM reach a whole process group or a whole cgroup, and
    a driver whose Ray is gone can put nothing away. So they are sessions of their own, and SIGTERM is blocked in them
    (Ray's servers have handlers for it, so ignoring it would not last). Linux ends them with their driver, however that
    ends, and a guard ends what they have started: Ray's agents outlive them by a minute."""
    from ray._private import services

    class Shielded(services.ConsolePopen):  # type: ignore[misc]
        def __init__(self, *command: Any, preexec_fn: Callable[[], None], **options: Any):
            def before() -> None:
                preexec_fn()
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

            super().__init__(*command, preexec_fn=before, start_new_session=True, **options)
            guard = ["/bin/sh", "-c", GUARD, "hyperloom-guard", str(self.pid)]
            null = subprocess.DEVNULL
            self._guard = subprocess.Popen(
                guard, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True
            )

        def terminate(self) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._guard.communicate(b"ended\n")

    with _instead(services, "ConsolePopen", Shielded):
        yield


@contextmanager
def bare(logs: bool) -> Iterator[None]:
    """A cluster of one machine that is started inside the block has no more processes than units need, which is half of
    the work of starting it. Ray has no option against the others: the dashboard's server, which it starts for its
    statistics of use where no dashboard is asked for, and waits for; an autoscaler; a reader of the workers' output,
    also where nobody is shown that, hence `logs`; and the dashboard's agent, which a raylet cannot be without and waits
    for, a quarter of a minute at most. So an agent takes its place that serves nothing. Nor does it start a process for
    each CPU beforehand: those have an environment that no slot has, and would be ended unused."""
    from ray._private import node, ray_constants, services, utils

    def nothing(self: Any, **options: Any) -> None:
        pass

    def start(command: list[str], kind: str, *rest: Any, **options: Any) -> Any:
        if kind == ray_constants.PROCESS_TYPE_RAYLET:
            command = [_bare(part, command) for part in command]
        return start_process(command, kind, *rest, **options)

    start_process = services.start_ray_process
    with ExitStack() as changed:
        for name in ("start_api_server", "start_monitor", *(() if logs else ("start_log_monitor",))):
            changed.enter_context(_instead(node.Node, name, nothing))
        absent = ImportError("a private cluster has no dashboard")  # Ray would import it to see if it can be had
        changed.enter_context(_instead(utils, "get_dashboard_dependency_error", lambda: absent))
        changed.enter_context(_instead(services, "start_ray_process", start))
        yield


def _bare(part: str, raylet: list[str]) -> str:
    """A part of a raylet's command, for a bare cluster."""
    option = part.partition("=")[0]
    if option == "--num_prestart_python_workers":
        return f"{option}=0"
    if option != "--dashboard_agent_command":
        return part
    options = dict(p.split("=", 1) for p in raylet if "=" in p)
    agent = ["/bin/sh", "-c", AGENT, "hyperloom-agent", options["--session_dir"], options["--node_id"]]
    return f"{option}={subprocess.list2cmdline(agent)}"


@contextmanager
def _instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Something of Ray's is `value` inside the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def job_config() -> Any:
    """Configuration of a driver whose folders do not come first in its workers. Ray puts the driver's working folder
    and that of its script before Python's own modules there, and has no option against it."""
    from ray.job_config import JobConfig

    config = JobConfig()
    config._py_driver_sys_path = _Closed()  # type: ignore[attr-defined]
    return config


class _Closed(list[str]):
    """A list that stays empty."""

    def extend(self, items: object) -> None:
        pass


def digest_of_folder(folder: str, excludes: list[str]) -> str:
    """Of all that Ray would send of a folder, without what .gitignore and .rayignore leave out."""
    from ray._private.runtime_env.packaging import get_uri_for_directory

    return get_uri_for_directory(folder, include_gitignore=True, excludes=excludes)


def largest_cluster() -> dict[str, float]:
    """Resources that an autoscaler may come to; empty where there is none."""
    from ray._private.state import state

    return state.get_max_resources_from_cluster_config() or {}


def drains() -> bool:
    """Has Ray been told to drain the node of this process?"""
    import ray
    from ray._private.state import state

    return ray.get_runtime_context().get_node_id() in state.get_draining_nodes()


def preemption() -> Any:
    """What Ray Train has been told of a node of this training that drains; an object whose `preemption_info` is None so
    long as there is nothing. Ray's own function for it is a barrier of all workers, too slow for each update."""
    from ray.train.v2._internal.execution.context import get_train_context

    return getattr(get_train_context(), "preemption_context", None)


@dataclass(frozen=True)
class RayNode:
    """A node of a cluster that is alive; `address` is its IP."""

    id: str
    address: str
    head: bool


def bootstrap(address: str) -> str:
    """`host:port` behind an address of a cluster, which may be `auto`. Raises ConnectionError where there is none."""
    from ray._private import services

    head = services.canonicalize_bootstrap_address(address)
    if not head:
        raise ConnectionError("no Ray runs on this machine")
    return head


def greet(address: str, seconds: float) -> None:
    """Ask the head at host:port which cluster it is of. Raises PermissionError where it refuses our token,
    ConnectionError where nobody there speaks Ray's protocol. Ray's own client asks for twenty seconds, and prints."""
    import grpc  # type: ignore[import-untyped]
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    channel = init_grpc_channel(address, [("grpc.enable_http_proxy", 0)])
    try:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        stub.GetClusterId(gcs_service_pb2.GetClusterIdRequest(), timeout=seconds)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            raise PermissionError((error.details() or "").rpartition(": ")[2]) from error
        raise ConnectionError(f"what listens there is no Ray head ({error.details()})") from error
    finally:
        channel.close()


def nodes(address: str) -> list[RayNode]:
    """The live nodes of the cluster whose head is at host:port; nothing is started or joined here. Raises OSError or
    RuntimeError where nobody answers."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    known = GcsClient(address=address).get_all_node_info(timeout=10).values()
    alive = [n for n in known if n.state == GcsNodeInfo.GcsNodeState.ALIVE]
    return [RayNode(n.node_id.hex(), n.node_manager_address, n.is_head_node) for n in alive]


def drain(address: str, node: str, seconds: float, why: str) -> bool:
    """Tell the cluster that a node goes away: nothing new begins there, and it ends once it is idle. False where it was
    refused."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = time.time_ns() // 1_000_000 + int(seconds * 1000)
    accepted, _ = GcsClient(address=address).drain_node(node, reason, why, deadline)
    return accepted


def job_server(address: str) -> str:
    """The URL of a cluster's job server. Raises RuntimeError or ValueError where it has none."""
    from ray.dashboard.utils import ray_address_to_api_server_url

    return ray_address_to_api_server_url(address)
