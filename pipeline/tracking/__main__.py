"""The tracking process: one run's events into MLflow, until the run is finished or its driver is gone.

The root and the store come by the environment, see `pipeline.tracking.process`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys

from hyperloom.pipeline import secrets
from hyperloom.pipeline.host import terminal
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking.process import ROOT, SECRETS, URI
from hyperloom.pipeline.tracking.store import store_uri
from hyperloom.pipeline.tracking.tracker import WAITING, Tracker, View


def say(text: str) -> None:
    print(f"hyperloom tracking: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Carry one run's events into MLflow. 0: all of them; 75: some had to be left in storage; 2: there is no store."""
    parser = argparse.ArgumentParser(prog="python -m hyperloom.pipeline.tracking", description=main.__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--experiment", default="hyperloom")
    parser.add_argument("--follow", action="store_true", help="until the run is finished or the parent process is gone")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds for a dead server once the run has ended")
    given = parser.parse_args(arguments)
    secrets.adopt(json.loads(os.environ.get(SECRETS, "{}")))
    with terminal.guard():
        terminal.work()
        return _carry(given)


def _carry(given: argparse.Namespace) -> int:
    storage, parent = Storage(os.environ[ROOT]), os.getppid()
    uri = store_uri(storage, os.environ.get(URI))
    if not uri:
        say("a remote root has no MLflow store. Next: set MLFLOW_TRACKING_URI or the recipe's `tracking:`")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the driver; what it wrote is still carried over
        signal.signal(number, signal.SIG_IGN)

    def view() -> View:
        from hyperloom.pipeline.tracking.mlflow_view import MLflow

        os.environ["MLFLOW_TRACKING_URI"] = uri  # parts of MLflow look nowhere else
        return MLflow(storage, given.run, uri, given.experiment)

    tracker = Tracker(storage, given.run, blot(uri), view)
    try:
        done = tracker.follow(lambda: given.follow and os.getppid() == parent, given.patience, say)
    except Exception as error:  # a mistake of ours, or an MLflow that is not like the ones we know
        tracker.fail(
            f"the tracking process ended with {type(error).__name__}: {blot(str(error).partition(chr(10))[0])}"
        )
        raise
    return 0 if done else WAITING


if __name__ == "__main__":
    sys.exit(main())
