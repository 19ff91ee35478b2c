"""What is taken of Ray beyond its public interface: where it is taken, and which Ray it holds for."""

from __future__ import annotations

import inspect
import os
import re
import select
import shlex
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")

from hyperloom.pipeline.workers import ray_internals  # noqa: E402

CHECKOUT = Path(__file__).parents[2]
PRIVATE = re.compile(r"\bray\.[\w.]*\b_\w+|\bray\._\w+|RAY_JOB_CONFIG_JSON_ENV_VAR|_py_driver_sys_path")


def test_one_file_knows_private_parts_of_ray() -> None:
    files = [p for folder in ("pipeline", "stages", "clusters") for p in (CHECKOUT / folder).rglob("*.py")]
    users = [p.name for p in files if PRIVATE.search(p.read_text(encoding="utf-8"))]
    assert users == ["ray_internals.py"]


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def test_it_holds_for_this_ray() -> None:
    """A Ray outside of the bound: read ray_internals.py beside its sources, run tests/ray, move the bound."""
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    bounds = {line.partition("]")[2] for lines in extras.values() for line in lines if line.startswith("ray[")}
    assert len(bounds) == 1, f"one bound for all extras, not {bounds}"
    least, beyond = re.fullmatch(r">=([\d.]+),<([\d.]+)", bounds.pop()).groups()
    assert version(least) <= version(ray.__version__) < version(beyond)


def test_the_configuration_of_a_driver_keeps_its_folders_out() -> None:
    """What Ray does with it, as its own source says."""
    from ray._private import worker

    assert "job_config._py_driver_sys_path.extend(code_paths)" in inspect.getsource(worker.connect)
    config = ray_internals.job_config()
    config._py_driver_sys_path.extend(["/somewhere"])
    assert list(config._get_proto_job_config().py_driver_sys_path) == []


def test_what_else_is_used_exists() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
    from ray._private.state import state
    from ray._raylet import Config
    from ray.exceptions import ActorDiedError
    from ray.runtime_env import RuntimeEnv
    from ray.train.v2._internal.execution import context

    assert ray_internals.JOB == RAY_JOB_CONFIG_JSON_ENV_VAR
    assert callable(state.get_max_resources_from_cluster_config) and callable(state.get_draining_nodes)
    assert callable(Config.initialize)
    assert "preemption_context" in inspect.getsource(context)
    assert isinstance(ActorDiedError.actor_init_failed, property)
    assert "worker_process_setup_hook" in RuntimeEnv.known_fields


def test_what_a_private_cluster_consists_of_ends_with_its_driver_alone() -> None:
    """A server with a child of its own hears neither what is sent to the driver's group nor SIGTERM."""
    from ray._private import services

    with ray_internals.shielded():
        server = services.ConsolePopen(
            ["sh", "-c", "sleep 50 & echo $!; wait"], preexec_fn=lambda: None, stdout=subprocess.PIPE, text=True
        )
    child = int(server.stdout.readline())
    assert os.getpgid(server.pid) == os.getpgid(child) == server.pid != os.getpgid(0)
    for pid in (server.pid, child):
        os.kill(pid, signal.SIGTERM)
    assert signal.SIGTERM in pending(child)
    server.terminate()
    assert server.wait(5) == -signal.SIGKILL
    assert server.stdout.read() == "", "the child holds the pipe no more"
    assert "Shielded" not in services.ConsolePopen.__name__


def test_nothing_of_a_private_cluster_outlives_a_driver_that_is_killed() -> None:
    from ray._private import services

    out, in_ = os.pipe()
    driver = os.fork()
    if not driver:
        with ray_internals.shielded():
            services.ConsolePopen(["sh", "-c", "sleep 50 & wait"], preexec_fn=lambda: None, stdout=in_)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(in_)
    os.waitpid(driver, 0)
    assert select.select([out], [], [], 20)[0] and os.read(out, 1) == b"", "nobody holds the pipe"
    os.close(out)


def pending(pid: int) -> set[int]:
    """Signals that wait for a process that blocks them."""
    (line,) = (x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("ShdPnd"))
    mask = int(line.split()[1], 16)
    return {n for n in range(1, 65) if mask >> (n - 1) & 1}


def test_a_private_cluster_starts_nothing_of_a_dashboard() -> None:
    """Ray is as it was afterwards; with `logs` it starts what reads them."""
    from ray._private import node, services, utils

    names = ("start_api_server", "start_monitor", "start_log_monitor")
    before = [*(getattr(node.Node, n) for n in names), services.start_ray_process, utils.get_dashboard_dependency_error]
    for logs in (False, True):
        with ray_internals.bare(logs):
            assert [getattr(node.Node, n) is b for n, b in zip(names, before)] == [False, False, logs]
            assert utils.get_dashboard_dependency_error() is not None
    after = [*(getattr(node.Node, n) for n in names), services.start_ray_process, utils.get_dashboard_dependency_error]
    assert after == before


def test_the_agent_of_a_private_cluster_has_no_ports_and_ends_with_its_raylet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import _raylet
    from ray._private import ray_constants, services

    names = [_raylet.METRICS_AGENT_PORT_NAME, _raylet.METRICS_EXPORT_PORT_NAME]
    assert [*names, _raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME] == list(ray_internals.PORTS)
    session, identity = tmp_path / "one session", "5a" * 28
    session.mkdir()
    asked: list[list[str]] = []
    monkeypatch.setattr(services, "start_ray_process", lambda command, kind, **options: asked.append(command))
    raylet = [f"--session_dir={session}", f"--node_id={identity}", "--num_prestart_python_workers=64"]
    raylet.append("--dashboard_agent_command=python agent.py --a=b")
    with ray_internals.bare(logs=False):
        services.start_ray_process(raylet, ray_constants.PROCESS_TYPE_RAYLET)
        services.start_ray_process(raylet, ray_constants.PROCESS_TYPE_GCS_SERVER)
    assert asked[0][:-1] == [*raylet[:2], "--num_prestart_python_workers=0"] and asked[1] == raylet
    agent = subprocess.Popen(shlex.split(asked[0][-1].partition("=")[2]), stdin=subprocess.PIPE)
    ports = [_raylet.wait_for_persisted_port(str(session), identity, name) for name in ray_internals.PORTS]
    assert ports == [-1, -1, -1] and agent.poll() is None
    agent.communicate(timeout=20)
    assert agent.returncode == 0
