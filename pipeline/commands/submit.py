"""`hyperloom submit`: the recipe as a job of a Ray cluster."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "submit", _submit, "hand the recipe to a Ray cluster as a job and follow it")
    sub.add_argument("--step", action="append", metavar="NAME", help="only this step and what it needs (repeatable)")
    opening.add_wait(sub)
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    sub.add_argument("--address", help="URL of the job server (http://127.0.0.1:8265)")
    sub.add_argument("--detach", action="store_true", help="do not follow the job's log")
    sub.set_defaults(long=True)


def _submit(given: Any) -> int:
    loaded, storage = opening.load(given, begins=True)
    from hyperloom.clusters.submit import submit

    options = [word for name in given.step or () for word in ("--step", name)]
    options += ["--wait", f"{given.wait:g}"] + (["--no-mlflow"] if given.no_mlflow else [])
    cluster = opening.cluster(loaded)
    given.answer = submit(cluster, loaded, str(storage), given.address, not given.detach, options)
    code = given.answer["exit_code"] or 0
    if code:
        print(f"Continue with: {given.line}", flush=True)
    return int(code)
