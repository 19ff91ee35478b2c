"""What is taken of Ray beyond its public interface: where it is taken, and which Ray it holds for."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")

from hyperloom.pipeline import ray_internals  # noqa: E402

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
