"""Calls to MLflow, and what it means when one fails: nobody answers, the store has a trouble of its own, or this one
call is refused.

In the first two cases `Unavailable` goes up and the events wait. An MlflowException that goes on is a refusal, which
waiting does not mend.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking.tracker import Forgotten, Unavailable

REFUSALS = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "INVALID_STATE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
)
STRANGERS = ("UNAUTHENTICATED", "PERMISSION_DENIED")
LOGIN = "Next: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user who may write there"
PAUSES = (0.5, 2.0)
"""Seconds before a call that failed for no clear reason is tried again."""
SETTINGS = {
    "HTTP_REQUEST_TIMEOUT": "10",
    "HTTP_REQUEST_MAX_RETRIES": "1",
    "DISABLE_TELEMETRY": "true",
    "SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
LEFT_OVER = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI")
"""Variables of another program's run: they would turn our runs into that one, or put them elsewhere."""
LOCKED = 6.0
"""So many times the usual patience is had with a database that another program has locked."""
_LOCKED = re.compile(r"database (table )?is locked")
_SCHEMA = re.compile(r"out-of-date database schema|Can't locate revision|no such (table|column)")
_DAMAGED = re.compile(
    r"database disk image is malformed|file is not a database|disk I/O error|malformed database schema"
)
_CLOSED = re.compile(r"readonly database|unable to open database file")
_FULL = re.compile(r"database or disk is full|No space left on device|Disk quota exceeded")
_BARRED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Server:
    """MLflow at `uri`, a server or a database. Raises Unavailable."""

    def __init__(self, uri: str):
        for name in LEFT_OVER:
            os.environ.pop(name, None)
        for key, value in SETTINGS.items():
            os.environ.setdefault(f"MLFLOW_{key}", value)
        from mlflow import MlflowClient

        self.uri, self.where = uri, blot(uri)
        self.client: Any = None
        self.client = self.call(lambda: MlflowClient(tracking_uri=uri, registry_uri=uri))

    def call(self, call: Callable[[], Any]) -> Any:
        """Call MLflow. Raises Unavailable; a refusal goes on as MlflowException."""
        from mlflow.exceptions import MlflowException

        for pause in (*PAUSES, None):
            try:
                return call()
            except MlflowException as error:
                self._wait_for_store(error)
                if error.error_code in REFUSALS:
                    raise
                if error.error_code in STRANGERS:
                    raise Unavailable(f"MLflow at {self.where} lets us not do this: {line(error)}. {LOGIN}") from error
                if pause is None:
                    if isinstance(error.__context__, OSError):  # the way there: what stores its files, as a rule
                        raise Unavailable(f"MLflow at {self.where} cannot do this now: {line(error)}") from error
                    raise
                self._ping(error)
                time.sleep(pause)  # it lives, so this may be a passing trouble of that one call
            except (Unavailable, Forgotten):
                raise
            except Exception as error:
                self._wait_for_store(error)
                raise

    def identity(self) -> str:
        """What tells this store from another one at the same place: when its first experiment was made; empty where
        nobody knows."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self.call(partial(self.client.get_experiment, "0")).creation_time or "")
        except MlflowException:
            return ""

    def _ping(self, reason: Exception) -> None:
        from mlflow.exceptions import MlflowException

        if self.client is None:  # nobody was asked yet: an address that MLflow does not know
            raise reason
        try:
            self.client.search_experiments(max_results=1)
        except MlflowException as error:
            self._wait_for_store(error)
            raise Unavailable(f"MLflow at {self.where} does not answer: {line(reason)}") from reason

    def _wait_for_store(self, error: Exception) -> None:
        """Raise Unavailable where the trouble is the store's and not the call's."""
        text, where = str(error), f"MLflow's store {self.where}"
        number = error.errno if isinstance(error, OSError) else None
        if _LOCKED.search(text):
            raise Unavailable(f"{where} is locked by another program", patience=LOCKED) from error
        if _FULL.search(text):
            raise Unavailable(f"{where} has no room: {line(error)}. Next: free some space") from error
        if _SCHEMA.search(text):
            raise Unavailable(f"{where} has the tables of another version of MLflow. {self._upgrade()}", 0) from error
        if _DAMAGED.search(text):
            raise Unavailable(f"{where} is damaged ({line(error)}). {self._replace()}", 0) from error
        if _CLOSED.search(text) or number in _BARRED:
            raise Unavailable(f"{where} cannot be written: {line(error)}", 0) from error

    def _upgrade(self) -> str:
        import mlflow

        return (
            f"Next: keep a copy, then `mlflow db upgrade {self.where}`; where that does not know them, an MLflow newer "
            f"than the {mlflow.__version__} here made them: install that one"
        )

    def _replace(self) -> str:
        return (
            "Next: move that file away; the next `hyperloom run` makes a new one and shows all runs of the root in it"
        )


def line(error: Exception) -> str:
    """What an error says, without the statement that a database library adds."""
    return blot(re.sub(r"^\(\S+\) ", "", str(error).partition("\n")[0]))
