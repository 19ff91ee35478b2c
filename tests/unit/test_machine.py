"""What a machine has for a private Ray: a container's share, short names for sockets, shared memory, limits."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest

from hyperloom.clusters import connect, machine, quota
from hyperloom.clusters.spec import Cluster, ClusterError
from hyperloom.pipeline.exits import Exit


class Kernel:
    """`/proc/self` and control groups, as a kernel shows them."""

    def __init__(self, folder: Path, mount: str, membership: str):
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        self.proc.mkdir()
        (self.proc / "mountinfo").write_text(f"31 23 0:28 / /sys rw - sysfs sysfs rw\n{mount.format(self.groups)}\n")
        (self.proc / "cgroup").write_text(membership)

    def write(self, name: str, text: str) -> None:
        path = self.groups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    @property
    def says(self) -> tuple[float | None, int | None]:
        return quota.cpus(self.proc), quota.memory(self.proc)


V2 = "35 24 0:30 / {} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"


def test_limits_of_version_2_hold_for_all_groups_inside(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, V2, "0::/system.slice/run-7.scope\n")
    assert kernel.says == (None, None), "no file at all"
    kernel.write("system.slice/run-7.scope/cpu.max", "max 100000")
    kernel.write("system.slice/run-7.scope/memory.max", "max")
    assert kernel.says == (None, None)
    kernel.write("system.slice/cpu.max", "150000 100000")
    kernel.write("system.slice/memory.max", str(2 << 30))
    assert kernel.says == (1.5, 2 << 30)
    kernel.write("system.slice/run-7.scope/cpu.max", "50000 100000")
    assert kernel.says == (0.5, 2 << 30)
    kernel.write("system.slice/pids.max", "150")
    kernel.write("system.slice/run-7.scope/pids.max", "max")
    assert quota.processes(kernel.proc) == 150
    kernel.write("system.slice/run-7.scope/cpu.max", "torn")
    assert kernel.says == (1.5, 2 << 30)


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    """Its membership names a path of the host, or of the mount's root."""
    for number, (root, membership) in enumerate(
        (("/docker/ab", "/docker/ab"), ("/", "/../../docker/ab"), ("/x", "/y"))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        mount = V2.replace(" / {}", f" {root} {{}}")
        kernel = Kernel(folder, mount, f"0::{membership}\n")
        kernel.write("cpu.max", "200000 100000")
        assert kernel.says[0] == 2.0


def test_limits_of_version_1(tmp_path: Path) -> None:
    mounts = (
        "33 31 0:29 / {0}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n34 31 0:32 / {0}/memory rw - cgroup cgroup rw,memory"
    )
    kernel = Kernel(tmp_path, mounts, "4:memory:/a\n3:cpuset:/b\n1:cpu,cpuacct:/half\n0::/other\n")
    kernel.write("cpu/half/cpu.cfs_quota_us", "50000")
    kernel.write("cpu/half/cpu.cfs_period_us", "100000")
    kernel.write("cpu/cpu.cfs_quota_us", "-1")
    kernel.write("cpu/cpu.cfs_period_us", "100000")
    kernel.write("memory/a/memory.limit_in_bytes", str(3 << 30))
    kernel.write("memory/memory.limit_in_bytes", "9223372036854771712")
    assert kernel.says == (0.5, 3 << 30)
    kernel.write("cpu/half/cpu.cfs_quota_us", "-1")
    kernel.write("memory/a/memory.limit_in_bytes", "9223372036854771712")
    assert kernel.says == (None, None)


def test_a_kernel_that_says_nothing(tmp_path: Path) -> None:
    assert quota.cpus(tmp_path) is None and quota.memory(tmp_path) is None
    kernel = Kernel(tmp_path, "broken", "0::/\nno colon\n::\n")
    assert kernel.says == (None, None)


def test_a_long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("ä" * 50)
    long.mkdir()
    short = Path(tempfile.mkdtemp(dir="/tmp", prefix="h"))
    try:
        for own, expected in ((long, short), (short, short), (Path("/nowhere"), short)):
            monkeypatch.setattr(machine.tempfile, "gettempdir", lambda own=own: str(own))
            monkeypatch.setattr(machine, "SHORT", (str(short),))
            assert machine.temporary_folder() == f"{expected}/ray"
        monkeypatch.setattr(machine, "SHORT", ("/nowhere",))
        monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(long))
        with pytest.raises(ClusterError, match="TMPDIR is too long for Ray .* set RAY_TMPDIR"):
            machine.temporary_folder()
        said = {what: (verdict, text) for verdict, what, text in machine.findings(Cluster())}
        assert said["temporary"][0] == "bad" and "TMPDIR is too long" in said["temporary"][1]
    finally:
        short.rmdir()

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(machine.tempfile, "gettempdir", none)
    with pytest.raises(ClusterError, match="No usable temporary directory.* Next: set TMPDIR"):
        machine.temporary_folder()


def test_ray_is_told_what_it_would_guess_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "temporary_folder", lambda: str(tmp_path / "ray"))
    monkeypatch.setattr(quota, "memory", lambda: 4 << 30)
    monkeypatch.setattr(machine, "SHARED", str(tmp_path))
    options = machine.options(Cluster(cpus=3))
    assert options["num_cpus"] == 3 and options["_memory"] == (4 << 30) - options["object_store_memory"]
    assert "_plasma_directory" not in options
    monkeypatch.setattr(machine, "SHARED", "/nowhere")
    assert machine.options(Cluster())["_plasma_directory"] == str(tmp_path / "ray")
    assert any(what == "shared memory" for _, what, _ in machine.findings(Cluster()))


def test_limits_that_are_too_low_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(quota, "processes", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, unlimited))
    assert machine.limits() == [], "Ray raises the soft limit itself"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    monkeypatch.setattr(quota, "processes", lambda: 150)
    files, threads, pids = machine.limits()
    assert files.startswith("at most 64 open files") and "ulimit -Hn" in files and "ulimit -Hu" in threads
    assert pids.startswith("at most 150 processes and threads in this container")


def test_too_few_processes_are_said_before_ray_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its native code ends the driver with `terminate called` where it cannot have a thread."""
    raised: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limit: raised.append((which, limit)))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (30, 4096))
    machine.prepare()
    assert raised == [(resource.RLIMIT_NPROC, (4096, 4096))], "as Ray does with files"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (30, 30))
    monkeypatch.setattr(quota, "processes", lambda: 150)
    monkeypatch.setattr("os.getuid", lambda: 0)
    machine.prepare()
    monkeypatch.setattr("os.getuid", lambda: 1000)
    with pytest.raises(ClusterError, match="cannot start: at most 30 processes and threads of this user.*ulimit -Hu"):
        machine.prepare()


def test_why_a_private_ray_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine lacks is said, where Ray says that a time was up."""
    ray = pytest.importorskip("ray")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("The current node timed out during startup.\nand more")

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(machine, "limits", lambda: ["at most 150 processes. Next: more"])
    with pytest.raises(ClusterError, match="did not start: at most 150 processes. Next: more$") as raised:
        connect._start()
    assert raised.value.exit_code == Exit.WRONG
    monkeypatch.setattr(machine, "limits", list)
    with pytest.raises(ClusterError, match="timed out during startup. Next: the same command again") as raised:
        connect._start()
    assert raised.value.exit_code == Exit.CLUSTER
