"""What a test process leaves behind when it is ended in the middle (a timeout does): nothing.

`watch` starts a small process that waits for the end of this one and then ends all that descend from it, known by a
variable of the environment that they inherit: with SIGTERM, so that a run takes its Ray along, and later with SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

MARK = "TESTED_BY"
GRACE_SECONDS = 10.0


def watch() -> subprocess.Popen[bytes]:
    """Have what this process starts from now on end after it. The caller keeps what it gets: its pipe tells the end."""
    os.environ[MARK] = uuid.uuid4().hex
    command = [sys.executable, "-S", __file__, os.environ[MARK]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def marked(mark: str) -> list[int]:
    """The processes that were started under a mark, but this one."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                pids.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in pids if pid != os.getpid()]


def end(mark: str) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(mark):
            try:
                os.kill(pid, number)
            except OSError:
                continue
        deadline = time.monotonic() + GRACE_SECONDS
        while marked(mark) and time.monotonic() < deadline:
            time.sleep(0.05)


if __name__ == "__main__":
    sys.stdin.buffer.read()  # until the process that holds the other end is gone
    end(sys.argv[1])
