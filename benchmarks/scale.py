"""What a step with very many units costs: `python -m benchmarks.scale [--units N] [--big N] [--workers N]`.

A step of N small units goes through the real runner, pool and store (a folder under `--root`); only the processes of
Ray are replaced by as many simulated workers, which do the real work of a slot (a data file, a record) one after the
other. One unit in 100 fails once, one in 1,000 leaves a sample out, 50 of a million fail until the recipe is mended,
one dispatch in 500 dies half-way. Each command then runs in a process of its own. Of every time there is the CPU
time too (`*_cpu_s`: user and system), which a busy machine changes less. `_1m` stands for the size of `--big`.

`plan_s_100k`, `status_s_100k`, `failed_s_100k`, `verify_s_100k`   the commands on the finished root
`plan_open_s_100k`    `plan` where all units are committed and the manifest is not there, so each is looked up
`resume_s_100k`       `run` in the same state: it finds all units and writes the manifest; `_cold`: the files that it
                      reads were dropped from the page cache before
`driver_ms_a_unit`    CPU time of the driver a unit, without what the simulated workers used
`driver_wall_ms`      the same by the clock, without the simulated workers
`driver_mb`           the most memory the driver had, `python_mb` being what its imports take
`requests`            what a unit costs on an object store, by who waits and kind of request (of `--requests` units)
`requests_a_minute`   what a driver costs while its units last long: claims, the look for a notice
The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from hyperloom.pipeline import cli
from hyperloom.pipeline.commits.units import Resources, Worker
from hyperloom.pipeline.host import deferred
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.pool import lost
from hyperloom.pipeline.running.runner import run
from hyperloom.pipeline.workers import executor
from hyperloom.pipeline.workers.executor import Host, Inline, Job, Outcome, Slot

RECIPE = """
name: bench-scale
root: {root}
modalities: {{}}
steps:
  many: {{stage: "benchmarks.noop:Many", count: {count}, broken: {broken}, max_quarantine: 1}}
"""
LONG = """
name: bench-long
root: {root}
modalities: {{}}
steps:
  long: {{stage: "benchmarks.noop:Long", seconds: {seconds}, salt: NAME}}
"""
BROKEN = 50
"""Of a million units, how many fail for ever in the first run: at least about five."""
DEATHS = 500
"""One dispatch of so many dies half-way."""
ANSWERS = 32
"""How many dispatches come back at once, about."""


REQUESTS = {"read": "get", "write": "put", "create": "put", "look for": "head"}
"""What an object store calls them."""


class Crowd(Inline):
    """An executor with `workers` slots, all of them in this process and thread. `cpu` and `wall` are the seconds that
    the slots' own work took."""

    workers = 1000

    def __init__(self, storage: Storage):
        super().__init__(storage)
        self.known: dict[tuple[str, str], Worker] = {}
        self.host = Host(str(storage), self.known.__getitem__)
        self.count = 0
        self.random = random.Random(0)
        self.deaths = 0
        self.cpu = self.wall = 0.0
        self.working = False
        Crowd.last = self

    last: Crowd

    def open(self, resources: Resources) -> Slot | None:
        if self.count >= self.workers:
            return None
        self.count += 1
        return Mate(self)

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        cpu, wall = time.thread_time(), time.perf_counter()
        ready = self.random.sample(jobs, min(len(jobs), self.random.randint(1, 2 * ANSWERS)))
        self.working = True
        came = {id(job): self.one(job) for job in ready}
        self.working = False
        self.cpu += time.thread_time() - cpu
        self.wall += time.perf_counter() - wall
        return came

    def one(self, job: Job) -> list[Outcome]:
        dies = self.random.randrange(DEATHS) == 0
        self.deaths += dies
        units = job.units[: len(job.units) // 2] if dies else job.units
        outcomes = self.host.run(job.scope, job.live, units, job.attempts[: len(units)])
        return lost([job], "the simulated process died") if dies else outcomes

    def closed(self) -> None:
        self.count -= 1


class Mate:
    """One of the crowd's slots."""

    def __init__(self, crowd: Crowd):
        self.crowd = crowd

    def start(self, job: Job, workers: Mapping[str, Worker]) -> None:
        self.crowd.known.update(((job.scope, name), worker) for name, worker in workers.items())

    def close(self) -> None:
        self.crowd.closed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100_000, help="reported as 100k")
    parser.add_argument("--big", type=int, default=0, help="reported as 1m; 0: not measured")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--waiting", type=float, default=30.0, help="seconds for which a driver is watched")
    parser.add_argument("--root", default="", help="a folder for the roots, with room for two small files a unit")
    parser.add_argument("--no-sync", action="store_true", help="workers do not wait for the disk")
    parser.add_argument("--drive", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    deferred.defer()  # as the command does
    import hyperloom.stages  # noqa: F401  registers the plug-ins

    if given.drive:
        print(json.dumps(drive(given)))
        return
    result: dict[str, Any] = {"benchmark": "scale", "units": given.units, "big": given.big, "workers": given.workers}
    result["load"] = round(os.getloadavg()[0], 1)
    for count, label in ((given.units, "100k"), (given.big, "1m")):
        if count:
            with tempfile.TemporaryDirectory(dir=given.root or None) as folder:
                result |= measured(Path(folder), count, label, given)
    result["python_mb"] = command([sys.executable, "-c", "import hyperloom.pipeline.running.pool"])["mb"]
    if given.requests:
        result["requests"] = requests(given.requests)
    if given.waiting:
        result["requests_a_minute"] = waiting(given.waiting)
    result["load_after"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))


def measured(folder: Path, count: int, label: str, given: Any) -> dict[str, Any]:
    """All figures of one size."""
    path, root = folder / "scale.yaml", folder / "root"
    result: dict[str, Any] = {}

    def note(name: str, used: dict[str, Any]) -> None:
        result.update({f"{name}_s_{label}": used["wall"], f"{name}_cpu_s_{label}": used["cpu"]})
        result[f"{name}_mb_{label}"] = used["mb"]
        print(f"{name} {label}: {used['wall']} s, CPU {used['cpu']} s, {used['mb']} MB", flush=True)

    driving = [sys.executable, "-m", "benchmarks.scale", "--drive", str(path), "--workers", str(given.workers)]
    driving += ["--no-sync"] if given.no_sync else []
    path.write_text(RECIPE.format(root=root, count=count, broken=max(BROKEN, 5_000_000 // count)))
    first = json.loads(command(driving)["out"].splitlines()[-1])
    print(f"run {label}: {first}", flush=True)
    path.write_text(RECIPE.format(root=root, count=count, broken=0))
    hyperloom = [sys.executable, "-m", "hyperloom.pipeline"]
    note("failed_open", command([*hyperloom, "failed", str(path)]))
    mended = command(driving)
    note("mend", mended)
    assert json.loads(mended["out"].splitlines()[-1])["ok"]
    result |= {f"{k}_{label}" if label != "100k" else k: v for k, v in first.items() if k.startswith("driver")}
    result[f"deaths_{label}"] = first["deaths"]
    for name in ("plan", "status", "failed"):
        note(name, command([*hyperloom, name, str(path)]))
    note("verify", command([*hyperloom, "verify", str(path)]))
    (manifest,) = root.glob("*/*/manifest.json")
    before = manifest.read_bytes()
    manifest.unlink()
    note("plan_open", command([*hyperloom, "plan", str(path)]))
    for name in ("resume_cold", "resume"):
        manifest.unlink(missing_ok=True)
        if name == "resume_cold":
            forget(root)
        note(name, command(driving))
        assert manifest.read_bytes() == before, "a resumed run wrote another manifest"
    return result


def drive(given: Any) -> dict[str, Any]:
    """One run with the crowd for workers, in this process, whose garbage is collected as the command's is."""
    gc.set_threshold(*cli.COLLECTED)
    Crowd.workers = given.workers
    executor.Inline = Crowd  # type: ignore[misc]
    if given.no_sync:
        os.fsync = lambda fd: None
    wall, cpu = time.perf_counter(), time.process_time()
    loaded = recipe.load(given.drive)
    outcome = run(loaded, progress=Progress(quiet=True), track=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    count, crowd = loaded.recipe.steps["many"].count, Crowd.last
    return {
        "ok": outcome.ok,
        "seconds": round(wall, 1),
        "deaths": crowd.deaths,
        "driver_ms_a_unit": round((cpu - crowd.cpu) / count * 1e3, 4),
        "driver_wall_ms": round((wall - crowd.wall) / count * 1e3, 4),
        "driver_mb": peak(),
    }


def peak() -> int:
    """The most memory that this process has had, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def command(line: list[str]) -> dict[str, Any]:
    """Run a command; its output, seconds of wall and CPU time, and most memory in MB."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(line, stdout=out) as process:
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        wall = time.perf_counter() - started
        out.seek(0)
        text = out.read()
    assert process.returncode in (0, 1), (line, text)
    cpu = used.ru_utime + used.ru_stime
    return {"wall": round(wall, 2), "cpu": round(cpu, 2), "mb": used.ru_maxrss // 1024, "out": text}


def forget(root: Path) -> None:
    """Drop the contents of a root's records from the page cache; the kernel keeps what it knows of folders."""
    for folder, _, names in os.walk(root):
        if folder.endswith("/data"):
            continue
        for name in names:
            with open(f"{folder}/{name}", "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Inside the block requests to the store are counted by who waits (slot or driver) and kind."""
    counts: Counter[str] = Counter()
    ask = Storage._call

    def call(self: Storage, what: str, path: str, function: Any) -> Any:
        counts[f"{'slot' if Crowd.last.working else 'driver'}_{REQUESTS.get(what, what)}"] += 1
        return ask(self, what, path, function)

    Storage._call = call  # type: ignore[method-assign]
    executor.Inline = Crowd  # type: ignore[misc]
    try:
        yield counts
    finally:
        Storage._call = ask  # type: ignore[method-assign]


def requests(count: int) -> dict[str, float]:
    """Requests a unit costs on an object store, counted on one in memory: of a run, and of one that finds all done;
    those that a slot waits for, and those that the driver waits for."""
    Crowd.workers = 50
    results: dict[str, float] = {}
    storage = Storage("memory://scale")
    Crowd.last = Crowd(storage)
    with counted() as counts:
        for name in ("run", "resume"):
            for path in [p for p in storage.walk("") if p.endswith("manifest.json")]:
                storage.delete(path)
            counts.clear()
            loaded = recipe.parse(RECIPE.format(root=storage, count=count, broken=0))
            outcome = run(loaded, progress=Progress(quiet=True), track=False)
            assert outcome.ok, outcome.problems
            results |= {f"{name}_{kind}": round(n / count, 3) for kind, n in sorted(counts.items())}
    return results


def waiting(seconds: float) -> dict[str, float]:
    """Requests a minute of a driver whose units last long: its claims and its look for a notice. Counted on an object
    store in memory, while a unit lasts so many seconds, for a driver that is alone and for one of two on a root."""
    from benchmarks import noop

    results: dict[str, float] = {}
    storage = Storage("memory://scale-long")
    Crowd.last = Crowd(storage)
    text = LONG.format(root=storage, seconds=seconds)
    for name in ("alone", "of_two"):
        with counted() as counts:
            seen: Counter[str] = Counter()
            noop.Sleeper.before, noop.Sleeper.after = counts.clear, partial(seen.update, counts)
            with Claims(storage, "other", lambda text: None, 1) if name == "of_two" else nullcontext():
                outcome = run(recipe.parse(text.replace("NAME", name)), progress=Progress(quiet=True), track=False)
            assert outcome.ok, outcome.problems
        results |= {f"{name}_{k.rpartition('_')[2]}": round(n * 60 / seconds, 1) for k, n in sorted(seen.items())}
    return results


if __name__ == "__main__":
    main()
