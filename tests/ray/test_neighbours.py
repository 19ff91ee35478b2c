"""A signal that reaches more than the driver: its whole process group (a terminal's Ctrl-C, `kill -- -PGID`), or every
process of its cgroup (`systemctl stop`, `scancel`). A private Ray must outlive it until the driver has put away what is
half done; and where the driver itself dies at once, nothing may be left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.ray.tiny import at_a_checkpoint, half_way

pytestmark = pytest.mark.timeout(300)


def environment() -> dict[str, str]:
    """In which a command starts a private cluster."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_", "MLFLOW_"))}


ENDS = [(signal.SIGTERM, True, 143), (signal.SIGKILL, False, -9)]


@pytest.mark.parametrize(("number", "everyone", "code"), ENDS)
def test_all_around_the_driver_hear_it_too(number: signal.Signals, everyone: bool, code: int, tmp_path: Path) -> None:
    with half_way(tmp_path, environment(), batch=4) as driver:
        tree = psutil.Process(driver.pid).children(recursive=True)
        assert any("raylet" in p.name() for p in tree) and any("_Actor" in " ".join(p.cmdline()) for p in tree)
        for process in reversed(tree if everyone else []):
            process.send_signal(number)
        os.killpg(driver.pid, number)
        assert driver.wait(timeout=120) == code, (tmp_path / "log").read_text()
    if code > 0:
        at_a_checkpoint(tmp_path)
    _, left = psutil.wait_procs(tree, timeout=20)
    assert not left, [p.cmdline() for p in left]
