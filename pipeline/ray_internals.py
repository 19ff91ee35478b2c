"""All that Hyperloom takes of Ray beyond its public interface, each with the reason. No other module does.

It holds for the versions of Ray that pyproject.toml allows; tests/unit/test_ray_internals.py fails outside of them. For
a new version: read this file beside Ray's sources, run tests/ray, and move the bound. Importing this imports no Ray.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set inside a Ray job's driver, to the job's configuration as JSON."""
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")
"""Loggers that report each folder they send."""


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
