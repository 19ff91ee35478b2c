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

from hyperloom.pipeline import project, secrets
from hyperloom.pipeline.events import pending
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.tracking.tracker import WAITING

ROOT, URI, SECRETS = "HYPERLOOM_TRACKED_ROOT", "HYPERLOOM_TRACKED_URI", "HYPERLOOM_TRACKED_SECRETS"
"""Variables that tell a tracking process the root, the MLflow store, and what it must not say."""

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
        self._status = WAITING
        self._ended = threading.Event()
        self._process = self._start()
        threading.Thread(target=self._watch, name="tracking", daemon=True).start()

    def finish(self, say: Callable[[str], None], patience: float = 120.0) -> bool:
        """Wait until everything is shown, at most `patience` seconds; False, and a word to the user, when it is not."""
        if not self._ended.wait(patience):
            say(f"MLflow is still catching up in the background (log: {self.log})")
            return False
        status = self._status
        if status == 0 and self.run not in pending(self.storage):
            os.unlink(self.log)
            return True
        why = (
            f"{blot(self.uri)} does not answer"
            if status == WAITING
            else f"the tracking process ended with {status}, see {self.log}"
        )
        say(f"MLflow has not seen all of run {self.run}: {why}. Nothing is lost: the next `hyperloom run` replays it")
        return False

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
