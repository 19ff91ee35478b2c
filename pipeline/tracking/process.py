"""The tracking process as the driver sees it: started, left alone, given a moment at the end.

It runs beside the driver, in its own session, so that a dead MLflow server, a slow one, or two seconds of imports cost
the work nothing. Its own messages go to `{temp}/hyperloom-tracking-{run}.log`. Root and store may hold passwords, so
they reach it by its environment: everybody on the machine sees the arguments of a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from hyperloom.pipeline import secrets
from hyperloom.pipeline.host import project
from hyperloom.pipeline.root.events import pending, tracked
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking.tracker import WAITING

ROOT, URI, SECRETS = "HYPERLOOM_TRACKED_ROOT", "HYPERLOOM_TRACKED_URI", "HYPERLOOM_TRACKED_SECRETS"
"""Variables that tell a tracking process the root, the MLflow store, and what it must not say."""

SILENT = 5.0
"""Seconds at the end of a run before it is said what is waited for."""
AGAIN = 3
"""How often a tracker that was killed is started again."""


class TrackingProcess:
    """`python -m hyperloom.pipeline.tracking` for one run: this driver's (`follow`), or one that an earlier left."""

    def __init__(
        self, storage: Storage, run: str, uri: str, experiment: str, patience: float = 10.0, follow: bool = True
    ):
        self.storage, self.run, self.uri = storage, run, uri
        self.log = os.path.join(tempfile.gettempdir(), f"hyperloom-tracking-{run}.log")
        self._command = [sys.executable, "-P", "-m", "hyperloom.pipeline.tracking", "--run", run]
        self._command += ["--experiment", experiment, "--patience", str(patience), *(["--follow"] if follow else [])]
        self._environment = {**_environment(), ROOT: str(storage), URI: uri, SECRETS: json.dumps(secrets.known())}
        self._status, self.whole = WAITING, False
        self._ended = threading.Event()
        self._process = self._start()
        threading.Thread(target=self._watch, name="tracking", daemon=True).start()

    def finish(self, say: Callable[[str], None], patience: float = 120.0) -> str:
        """Wait until everything is shown, at most `patience` seconds; say what was mended in MLflow and what a person
        decided there. What MLflow lacks, in a sentence; empty when it has everything."""
        if not self._ended.wait(min(patience, SILENT)):
            problem = self._position().get("problem", "").partition(". Next")[0]
            say("waiting for MLflow" + (f": {problem}" if problem else ", which takes its time"))
        if not self._ended.wait(max(0.0, patience - SILENT)):
            return f"MLflow is still catching up in the background (log: {self.log})"
        position = self._position()
        for note in position.get("notes", []):
            say(f"MLflow: {note}")
        self.whole = self._status == 0 and self.run not in pending(self.storage)
        if not self.whole:
            return self._unshown(position.get("problem", ""))
        os.unlink(self.log)
        lacks = position.get("lacks", [])
        if not lacks:
            return ""
        more = f", and {len(lacks) - 1} more (the run's tag hyperloom.refused)" if len(lacks) > 1 else ""
        return f"MLflow lacks {lacks[0]}{more}; the root has it"

    def _unshown(self, problem: str) -> str:
        waits = f"{blot(self.uri)} does not answer"
        ends = f"the tracking process ended with {self._status}, see {self.log}"
        why = problem or (waits if self._status == WAITING else ends)
        if self.uri == os.environ.get("MLFLOW_TRACKING_URI"):
            why += " (MLFLOW_TRACKING_URI in your environment names it)"
        return f"MLflow has not seen all of run {self.run}: {why}. Nothing is lost: `hyperloom run` replays it"

    def _position(self) -> dict[str, Any]:
        return tracked(self.storage, self.run)

    def _start(self) -> subprocess.Popen[bytes]:
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment,
            )

    def _watch(self) -> None:
        """Start a tracker again that was killed; it goes on where it was."""
        again = AGAIN
        while (status := self._process.wait()) < 0 and again:
            again -= 1
            self._process = self._start()
        self._status = status
        self._ended.set()


def _environment() -> dict[str, str]:
    """The driver's environment, less what would mix runs up, and with nothing of the project to import."""
    return {k: v for k, v in project.environment().items() if k not in ("MLFLOW_RUN_ID", "HYPERLOOM_FAULT")}
