"""A private cluster has no more processes than units need, and shows what workers print to those who ask for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.ray.conftest import HERE

DRIVER = """
import sys
import psutil
from hyperloom.clusters.connect import connect, disconnect
from hyperloom.clusters.spec import Cluster

connect(Cluster(cpus=1, logs=sys.argv[1] == "True"))
import ray

@ray.remote
def unit():
    print("printed by a unit", flush=True)

ray.get(unit.remote())
words = [w for p in psutil.Process().children(recursive=True) for w in (*p.cmdline(), p.name())]
print("runs:", *sorted({w.rpartition("/")[2] for w in words}), flush=True)
while sys.argv[1] == "True" and "printed" not in sys.stdin.readline():
    pass
disconnect()
"""
NEEDED = {"gcs_server", "raylet", "--num_prestart_python_workers=0", "ray::RuntimeEnvAgent"}
BESIDE = {"dashboard.py", "monitor.py", "ray::DashboardAgent", "agent.py"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("logs", [False, True])
def test_its_processes(logs: bool) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(logs)], cwd=HERE, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert driver.stdin is not None and driver.stdout is not None
    lines = []
    for line in driver.stdout:
        lines.append(line)
        if "printed by a unit" in line:  # what is printed in a worker comes when it comes
            driver.stdin.write("printed\n")
            driver.stdin.flush()
    assert driver.wait(60) == 0, "".join(lines)
    runs = set(next(line for line in lines if line.startswith("runs:")).split()[1:])
    assert runs >= NEEDED and not runs & BESIDE and ("log_monitor.py" in runs) == logs, runs
    assert any("printed by a unit" in line for line in lines) == logs
