"""A test process that is ended in the middle leaves no process behind."""

from __future__ import annotations

import os
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
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{child}") or "Z" in Path(f"/proc/{child}/stat").read_text()
