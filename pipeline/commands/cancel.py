"""`hyperloom cancel`: end a run of a root, wherever its driver is."""

from __future__ import annotations

import time
from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    help_ = "end a running run, from any machine that reaches its root; a training stores a checkpoint first"
    sub = opening.add(commands, "cancel", _cancel, help_)
    sub.add_argument("--run", help="the id of the run (the recipe's last one that has not ended)")
    sub.add_argument("--address", help="URL of the job server, to stop a job that does not end by itself")
    sub.add_argument(
        "--wait", type=float, default=150.0, metavar="SECONDS", help="how long to wait for the run's end (150)"
    )


def _cancel(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline.exits import Exit
    from hyperloom.pipeline.running import cancelling

    cluster = opening.cluster(loaded)
    run = given.run or next(reversed(cancelling.running(storage, loaded.recipe.name)), "")
    if given.run and given.run not in storage.names("events"):
        raise loaded.error((), f"there is no run {given.run!r} under this root. Next: {_next(given, 'status')}")
    if run:
        cancelling.cancel(storage, run)
        print(f"asked the driver of run {run} to end", flush=True)
    ended = bool(run) and _ends(storage, run, given.wait)
    given.answer = {"run": run, "ended": ended, "jobs": []}
    stopped = given.answer["jobs"] = _stop_jobs(cluster, loaded, str(storage), given.address)
    for job in stopped:
        print(f"stopped job {job}")
    if not run and not stopped:
        print(f"no run of {loaded.recipe.name} is under way on this root")
    elif run and ended:
        print(f"run {run} has ended; what it committed is kept. It would go on with: {_next(given, 'run')}")
    elif run and not stopped:
        print(
            f"run {run} has not ended within {given.wait:.0f} s: its driver is gone, or does not reach the root. If it "
            "comes back it ends at once"
        )
        return Exit.FAILED
    return Exit.DONE


def _ends(storage: Any, run: str, seconds: float) -> bool:
    from hyperloom.pipeline.running import cancelling

    deadline = time.monotonic() + seconds
    while not (over := cancelling.over(storage, run)) and time.monotonic() < deadline:
        time.sleep(min(1.0, seconds))
    return over


def _stop_jobs(cluster: Any, loaded: Any, root: str, address: str | None) -> list[str]:
    """Stop the jobs of this recipe and root on the job server that somebody has named."""
    if not (address or cluster.names_job_server):
        return []
    from hyperloom.clusters.submit import stop

    return stop(cluster, loaded, root, address)


def _next(given: Any, name: str) -> str:
    return opening.next_command(given, name)
