"""The rendered Slurm script on a real Slurm of one node: its warning reaches the driver alone, the job comes again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ray.conftest import BIN, HERE, end_processes, free_port
from tests.ray.tiny import recipe

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000
PartitionName=all Nodes={host} Default=YES
"""


@pytest.fixture
def slurm() -> Iterator[dict[str, str]]:
    """The environment of clients of a Slurm that runs here."""
    if os.geteuid() != 0 or not all(shutil.which(p) for p in ("slurmctld", "slurmd", "sbatch", "scontrol")):
        pytest.skip("needs root and slurm-wlm")
    folder, host = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp")), socket.gethostname().split(".")[0]
    for name in ("spool", "state"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ports=(free_port(), free_port())))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_", "HYPERLOOM_", "MLFLOW_"))}
    env |= {"SLURM_CONF": str(conf), "PYTHONPATH": str(HERE)}
    try:
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon, "-f", str(conf)], env=env, check=True, timeout=30)
        if not idle(env):  # a container without cgroups, for one
            errors = [line for line in (folder / "slurmd.log").read_text().splitlines() if "error" in line]
            pytest.skip(f"Slurm does not run here: {errors[-1:] or 'its node stays away'}")
        yield env
    finally:
        subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"], env=env, capture_output=True, timeout=30)
        for pid in folder.glob("*.pid"):
            os.kill(int(pid.read_text()), signal.SIGKILL)
        end_processes(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def idle(env: dict[str, str]) -> bool:
    """Has the node come up within a while?"""
    for _ in range(120):
        done = subprocess.run(["sinfo", "-h", "-o", "%t"], env=env, capture_output=True, text=True, timeout=30)
        if done.stdout.strip() == "idle":
            return True
        time.sleep(0.25)
    return False


def job(env: dict[str, str], id_: str) -> dict[str, str]:
    """What Slurm says of a job."""
    done = subprocess.run(["scontrol", "-o", "show", "job", id_], env=env, capture_output=True, text=True, timeout=30)
    return dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)


@pytest.mark.timeout(240)
def test_the_warning_stores_a_checkpoint_and_the_job_goes_back_into_the_queue(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    root, log = tmp_path / "root", tmp_path / "log"
    (tmp_path / "tiny.yaml").write_text(recipe(root, batch=4, updates=1_000_000, checkpoint_every=1_000_000))
    (tmp_path / ".venv").symlink_to(BIN.parent)
    machines = {"folder": str(tmp_path), "workers": 1, "worker": {"cpus": 1, "memory_gb": 1}, "hours": 1}
    (tmp_path / "machines.yaml").write_text(json.dumps(machines))
    command = [str(BIN / "hyperloom"), "cluster", "render", "slurm", "tiny.yaml", "--deployment", "machines.yaml"]
    script = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=slurm, check=True)
    (tmp_path / "job.sh").write_text(script.stdout)
    sbatch = ["sbatch", "--parsable", f"--output={log}", "--mem=0", "job.sh"]
    id_ = subprocess.run(sbatch, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=True).stdout.strip()

    def until(done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done():
            going = job(slurm, id_).get("JobState") in ("PENDING", "RUNNING", "COMPLETING")
            assert going and time.monotonic() < end, log.read_text()[-3000:] if log.exists() else job(slurm, id_)
            time.sleep(0.2)

    until(lambda: any(b'"metric"' in p.read_bytes() for p in root.glob("events/*/train-model/*")), 150)
    subprocess.run(["scancel", "--batch", "--signal=USR1", id_], env=slurm, check=True, timeout=30)  # as at the limit
    until(lambda: job(slurm, id_).get("JobState") == "PENDING", 60)
    assert job(slurm, id_)["Restarts"] == "1"
    assert "the run ended with 143 and may go on" in log.read_text()
    assert list(root.glob("train/*/checkpoint*")), "the checkpoint of the notice"
    assert not list(root.glob("train/*/trained.json"))
