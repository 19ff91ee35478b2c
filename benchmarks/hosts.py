"""Three hosts and what can happen to them: what came of it, and the seconds it cost.

    sudo .venv/bin/python -m benchmarks.hosts [FAULT ...] [--folder runs/hosts]

The demo's pipeline, cut small (benchmarks/host_run.py), labels on three hosts and trains on two. It is handed to their
cluster with the same `hyperloom submit` each time, on a root of its own for each fault. Hosts are network namespaces of
this machine (tests/ray/hosts.py) with one CPU for Ray each; they see one disk. A fault comes twice in a run: while
labels are made, and while the teacher is trained. Where the job ends with it, it is submitted again.

The last line is one JSON object: `undisturbed_s`, and for each fault

- `killed`: what was taken away; `submits`: how often the command was given, for both times together;
- `equal`: is every file of frames, labels, votes and shards byte-identical to the undisturbed run's, and every weight
  of teacher and student within `CLOSE`? `furthest` is how far the worst one is;
- `twice`: units of labels that were done again after they had been committed; `again`: units that were in flight and
  had to begin anew; `updates_again`: updates of the teacher since a checkpoint that were made anew;
- `lost_s`: seconds beyond the undisturbed run, in labelling and in training; `stalled_s`: the longest time after the
  fault in which no unit, and no update, began.

What `--folder` holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.host_run import EVERY, PATIENCE, Disturbance, Job, Run, apart, artifacts
from tests.ray.cluster_of_hosts import cluster_of_hosts
from tests.ray.hosts import unavailable

CLOSE = 2e-2
"""How far a weight may be from the undisturbed run's: sums over other numbers of workers are rounded otherwise."""
CUT_SECONDS = 30.0

Ready = Callable[[Run], bool]


def lose(ready: Ready) -> Disturbance:
    """A host that works is lost: its processes are killed, its cable is pulled. Ten seconds later it joins again."""

    def disturb(run: Run, job: Job) -> Job:
        job = run.until(lambda: ready(run), job)
        host = run.at_work()
        run.hosts.lose(host)
        time.sleep(10)
        run.cluster.renew(host)
        return job

    return disturb


def cut(ready: Ready) -> Disturbance:
    """The cable of a host that works is pulled for 30 s; what runs there goes on. Where Ray takes the node for dead by
    then, it is started again, as a service of the machine would."""

    def disturb(run: Run, job: Job) -> Job:
        job = run.until(lambda: ready(run), job)
        host = run.at_work()
        run.hosts.cut(host)
        time.sleep(CUT_SECONDS)
        run.hosts.mend(host)
        time.sleep(10)
        if run.cluster.takes_for_dead(host):
            run.cluster.renew(host)
        return job

    return disturb


def kill_job(ready: Ready) -> Disturbance:
    """The job's driver is killed."""

    def disturb(run: Run, job: Job) -> Job:
        job = run.until(lambda: ready(run), job)
        for pid in run.hosts.pids(1):
            with suppress(psutil.NoSuchProcess):  # others end by themselves meanwhile
                process = psutil.Process(pid)
                if {"hyperloom.pipeline", "run"} <= set(process.cmdline()):
                    process.kill()
        job.wait(timeout=PATIENCE)
        return job

    return disturb


def kill_head(ready: Ready) -> Disturbance:
    """The head is lost, and the driver with it; the cluster is started anew."""

    def disturb(run: Run, job: Job) -> Job:
        job = run.until(lambda: ready(run), job)
        run.hosts.lose(1)
        run.cluster.renew(1)
        job.wait(timeout=PATIENCE)
        return job

    return disturb


FAULTS: dict[str, tuple[str, Callable[[Ready], Disturbance]]] = {
    "host lost": ("all processes of a host that works, and its cable; it joins again after 10 s", lose),
    "host cut off": ("the cable of a host that works, for 30 s", cut),
    "job killed": ("the driver", kill_job),
    "head lost": ("all processes of the head, the driver among them, and its cable", kill_head),
}


def compared(killed: str, run: Run, reference: Run) -> dict[str, Any]:
    """What came of a fault."""
    furthest = apart(run.root, reference.root)
    units, updates = run.units(), run.updates()
    return {
        "killed": killed,
        "submits": run.submits,
        "equal": artifacts(run.root) == artifacts(reference.root) and furthest < CLOSE,
        "furthest": furthest,
        "twice": run.done_twice(),
        "again": sum(units.values()) - len(units),
        "updates_again": sum(updates.values()) - len(updates),
        "checkpoint_every": EVERY,
        "lost_s": [round(a - b, 1) for a, b in zip(run.seconds, reference.seconds, strict=True)],
        "stalled_s": [round(seconds, 1) for seconds in run.stalled()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of: {', '.join(FAULTS)}")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds a unit of labels takes")
    parser.add_argument("--slow", type=float, default=0.1, help="seconds an update takes at least")
    parser.add_argument("--folder", help="keep the runs here, and do not run again what it has")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no fault later than this")
    given = parser.parse_args()
    if wrong := set(given.faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(wrong))}")
    if reason := unavailable():
        raise SystemExit(reason)
    results: dict[str, Any] = {}
    end = time.monotonic() + given.seconds
    with cluster_of_hosts() as cluster:
        folder = Path(given.folder).resolve() if given.folder else cluster.folder / "runs"
        reference = Run(cluster, folder / "undisturbed", given.pace, given.slow)
        reference.to_its_end()
        print(f"{'undisturbed':14} {sum(reference.seconds):6.1f} s", flush=True)
        for name in given.faults or FAULTS:
            killed, fault = FAULTS[name]
            run = Run(cluster, folder / name.replace(" ", "-"), given.pace, given.slow)
            if not run.ended and time.monotonic() > end:
                continue
            run.to_its_end(fault(Run.labelling), fault(Run.training))
            results[name] = compared(killed, run, reference)
            print(f"{name:14} {json.dumps(results[name])}", flush=True)
    print(json.dumps({"undisturbed_s": round(sum(reference.seconds), 1), "faults": results}))


if __name__ == "__main__":
    main()
