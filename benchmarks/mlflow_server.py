"""`mlflow server` on a sqlite store, as `hyperloom ui` starts it, which may be stopped and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parents[1]
START_SECONDS = 120.0


@dataclass
class Server:
    """A server on loopback whose store and log lie in `folder`. `env` are variables of its own; `command` starts it,
    its port put in for `{port}`: if it is not given, on a store of its own."""

    folder: Path
    port: int
    env: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def on_free_port(cls, folder: Path, *command: str, **env: str) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return cls(folder, free.getsockname()[1], env, list(command))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start it, and wait until it answers. Raises RuntimeError."""
        serve = f"serve('sqlite:///{self.folder}/mlflow.db', port={self.port})"
        own = ["-c", f"from hyperloom.pipeline.tracking.store import serve; {serve}"]
        words = [word.replace("{port}", str(self.port)) for word in self.command] or own
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words], cwd=HERE, stdout=log, stderr=log, start_new_session=True,
                env=environment() | self.env,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).read()
                return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError(f"the MLflow server did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def environment() -> dict[str, str]:
    """Ours, less what is set of MLflow."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {"MLFLOW_DISABLE_TELEMETRY": "true"}
