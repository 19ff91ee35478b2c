"""`hyperloom submit`: the recipe as a job of a Ray cluster."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "submit", _submit, "hand the recipe to a Ray cluster as a job and follow it")
    sub.add_argument("--address", help="URL of the job server (http://127.0.0.1:8265)")
    sub.add_argument("--detach", action="store_true", help="do not follow the job's log")


def _submit(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.clusters.submit import submit

    return submit(opening.cluster(loaded), loaded, str(storage), given.address, follow=not given.detach)
