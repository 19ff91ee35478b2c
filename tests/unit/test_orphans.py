"""A test process that is ended in the middle leaves no process behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def test_what_a_test_has_started_ends_with_its_process() -> None:
    code = (
        "import os, subprocess; from tests import orphans; guard = orphans.watch(); "
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True); print(child.pid, flush=True); os._exit(1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.wait()
    deadline = time.monotonic() + 60
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
