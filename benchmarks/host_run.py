"""The demo's pipeline, cut small, on a cluster of hosts: submitted by one command as often as it takes, and counted.

Labels are made on three hosts, the teacher is trained on two; plug-ins (benchmarks/paced.py) write down each unit and
each update that they begin, so it is known where work is done and what is done twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.paced import notes
from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.root.storage import Storage
from tests.ray.cluster_of_hosts import BIN, HERE, Cluster

UPDATES, EVERY = 100, 20
UNITS = 20
EXACT = ("frames", "labels", "votes", "shards")
"""Steps whose results follow from the data alone, bit by bit."""
PATIENCE = 600.0
"""Seconds that anything may take: the machine may be busy with other things."""
OFTEN = 6
"""A job that has been submitted so often is given up."""
DATA = """\
name: hosts
modalities:
  rgb:      {{type: image, size: [24, 32]}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  soft:     {{type: soft, of: semantic}}
  depth:    {{type: dense, unit: m}}
  normals:  {{type: dense, channels: 3, direction: true}}
  flow:     {{type: dense, channels: 2, unit: px}}
  pose:     {{type: vector, length: 20}}
  hsv:      {{type: dense, channels: 3, range: [0, 1]}}
  value:    {{type: dense, storage: float32}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 10, frames: 8, seed: 3}}, group: flight, rows: 4}}
  labels:
    stage: label
    data: frames
    experts:
      - {{type: hsv, in: rgb@camera, out: hsv@rgb}}
      - {{type: "paced:Paced", in: rgb@camera, out: value@mean, batch: 4, seconds: {pace},
          hosts: {hosts}, log: {folder}/log}}
      - {{type: color-classes, in: rgb@camera, out: semantic@color, softness: 7, colors: &colors {{land: ["#839f52"],
          forest: ["#314136"], road: ["#747783"], water: ["#5f7780"], building: ["#bdbaad"]}}}}
      - {{type: color-classes, in: rgb@camera, out: semantic@light, light: 0.6, colors: *colors}}
  votes: {{stage: consensus, data: labels, columns: {{semantic@consensus: {{method: {{type: vote}}}}}}}}
  shards:
    stage: shard
    data: [frames, labels, votes]
    split: {{by: flight, pin: {{test: &test [flight_08, flight_09]}}}}
  teacher:
    stage: train
    data: shards
    in: [rgb@camera, hsv@rgb, value@mean]
    targets: {{semantic: semantic@consensus}}
    model: {{trunk: {{type: unet, width: 2}}}}
    updates: {updates}
    batch: 6
    workers: [1, 2]
    checkpoint_every: {every}
    log_every: 20
    augment: [{{type: "paced:Slow", seconds: {slow}, log: {folder}/log}}]
"""
REST = """\
  soft:
    stage: label
    data: [frames, labels]
    experts: [{type: model, model: teacher, out: [semantic@teacher, soft@teacher]}]
  taught:
    stage: shard
    data: [frames, labels, votes, soft]
    columns: [rgb@camera, soft@teacher]
    split: {by: flight, pin: {test: *test}}
  student:
    stage: distill
    data: taught
    teacher: teacher
    in: rgb@camera
    targets: {semantic: soft@teacher}
    model: {trunk: {type: unet, width: 2}}
    updates: 20
    batch: 6
  report:
    stage: evaluate
    data: shards
    models: [teacher, student]
    truth: {semantic: semantic@truth}
    pictures: 0
    intervals: null
"""
Job = subprocess.Popen[bytes]
"""A `hyperloom submit` that follows its job."""
Disturbance = Callable[["Run", Job], "Job"]
"""Disturbs a run whose job is given; the job that is followed then."""


def recipe(folder: Path, pace: float, slow: float, hosts: int = 3, whole: bool = True) -> str:
    """The recipe's text: seconds that a unit of labels and an update take, and how many hosts label. Where it is not
    `whole` it ends with the teacher."""
    data = DATA.format(folder=folder, pace=pace, slow=slow, hosts=hosts, updates=UPDATES, every=EVERY)
    return data + (REST if whole else "")


class Run:
    """The recipe on a root of its own; what has ended in `folder` before is not run again."""

    def __init__(self, cluster: Cluster, folder: Path, pace: float, slow: float, whole: bool = True):
        self.cluster, self.hosts, self.folder = cluster, cluster.hosts, folder
        self.project, self.root, self._end = folder / "project", folder / "root", folder / "end.json"
        self.submits, self.began, self.ended = 0, 0.0, 0.0
        self.disturbed: list[float] = []
        if self._end.exists():
            self.submits, self.began, self.ended, self.disturbed = json.loads(self._end.read_text())
            return
        shutil.rmtree(folder, ignore_errors=True)
        self.project.mkdir(parents=True)
        shutil.copy(HERE / "benchmarks" / "paced.py", self.project)
        (self.project / "hosts.yaml").write_text(recipe(folder, pace, slow, whole=whole))

    def submit(self) -> Job:
        """The same command each time."""
        self.submits += 1
        command = [str(BIN / "hyperloom"), "submit", "hosts.yaml", "--root", str(self.root), "--no-mlflow"]
        command += ["--address", self.cluster.server]
        with (self.folder / "out").open("ab") as out:
            return subprocess.Popen(command, cwd=self.project, env=self.cluster.env, stdout=out, stderr=out)

    def to_its_end(self, *disturbances: Disturbance) -> None:
        """Submit, disturb, and submit again until the job has done its work; unless that is done."""
        if self.ended:
            return
        self.began, job = time.time(), self.submit()
        for disturb in disturbances:
            job = disturb(self, job)
        while code := job.wait(timeout=PATIENCE):
            if self.submits >= OFTEN:
                raise RuntimeError(f"submitted {self.submits} times, the last ended with {code}: {self.output()}")
            job = self.submit()
        self.ended = time.time()
        self._end.write_text(json.dumps([self.submits, self.began, self.ended, self.disturbed]))

    def until(self, ready: Callable[[], bool], job: Job) -> Job:
        """Wait until something is so, submitting again where the job ends before; the job that runs then."""
        end = time.monotonic() + PATIENCE
        while not ready():
            if job.poll() == 0 or time.monotonic() > end or self.submits > OFTEN:
                raise RuntimeError(f"the job ended, or the wait was too long: {self.output()}")
            job = job if job.poll() is None else self.submit()
            time.sleep(0.1)
        self.disturbed.append(time.time())
        return job

    def output(self) -> str:
        return (self.folder / "out").read_text()[-6000:]

    # -- what is under way -------------------------------------------------------------------------------------------
    def labelling(self) -> bool:
        """A quarter of the units is begun, on all hosts."""
        begun = self._units()
        return len({n["unit"] for n in begun}) > UNITS // 4 and len({n["host"] for n in begun}) == self.hosts.count

    def training(self) -> bool:
        """The teacher is past its first checkpoint."""
        return len(self.updates()) > EVERY * 3 // 2

    def at_work(self) -> int:
        """A host, not the head, that has just labelled or trained."""
        latest = {n["pid"]: n["at"] for n in self._notes()}
        last = {host: max((latest.get(p, 0.0) for p in self.hosts.pids(host)), default=0.0) for host in (2, 3)}
        return max(last, key=lambda host: last[host])

    # -- what was done -----------------------------------------------------------------------------------------------
    def _notes(self) -> list[dict[str, Any]]:
        return notes(self.folder / "log")

    def _units(self) -> list[dict[str, Any]]:
        return [n for n in self._notes() if "unit" in n]

    def units(self) -> Counter[str]:
        """How often each unit of labels was begun."""
        return Counter(n["unit"] for n in self._units())

    def done_twice(self) -> int:
        """How many units of labels were begun after they had been committed."""
        commits = committed(self.root)
        return sum(n["at"] > commits[n["unit"]] for n in self._units())

    def updates(self) -> Counter[int]:
        """How often each of the teacher's updates was made, by rank 0."""
        return Counter(n["update"] for n in self._notes() if n.get("first") == 0)

    @property
    def seconds(self) -> tuple[float, float]:
        """What it took until the shards were there, and what from there to the end."""
        there = min(p.stat().st_mtime for p in self.root.glob("shard/*/manifest.json"))
        return there - self.began, self.ended - there

    def stalled(self) -> tuple[float, float]:
        """The longest time in which no unit began after the first disturbance, and no update after the second."""
        began = {kind: [n["at"] for n in self._notes() if kind in n] for kind in ("unit", "update")}
        gaps = []
        for disturbed, kind in zip(self.disturbed, began, strict=True):
            times = [disturbed, *sorted(at for at in began[kind] if at > disturbed)]
            gaps.append(max((b - a for a, b in itertools.pairwise(times)), default=0.0))
        return gaps[0], gaps[1]


def committed(root: Path) -> dict[str, float]:
    """When each unit of the paced labels was committed; a unit has the name of its first label."""
    import pyarrow.parquet as pq

    times = {}
    for record in root.glob("expert/*/units/*.json"):
        path = root / json.loads(record.read_text())["value"]["files"][0]["path"]
        if "value@mean" in (table := pq.read_table(path)).column_names:
            plane = table.column("value@mean").combine_chunks()
            times[getattr(plane, "storage", plane)[0].as_py()[:4].hex()] = record.stat().st_mtime
    return times


def artifacts(root: Path, steps: tuple[str, ...] = EXACT) -> dict[str, str]:
    """Digest of each file that the manifests of these steps name, and of the manifests."""
    storage = Storage(str(root))
    paths: set[str] = set()
    for step in steps:
        fingerprint = json.loads((root / f"steps/hosts/{step}.json").read_text())["value"]["fingerprint"]
        manifest = manifests.anywhere(storage, fingerprint)
        if manifest is None:
            raise ValueError(f"{root} holds no result of {step}")
        paths |= {f"{manifest.folder}/manifest.json", *(file.path for file in manifest.all_files())}
    return {path: hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths}


WEIGHTS = "*/*/model/*/model.safetensors"


def apart(one: Path, other: Path) -> float:
    """How far a weight of the models is from the same one in another root, at most."""
    import numpy as np
    from safetensors.numpy import load_file

    mine, theirs = ({path.parents[2].name: path for path in r.glob(WEIGHTS)} for r in (one, other))
    if not mine or mine.keys() != theirs.keys():
        raise ValueError(f"{one} and {other} hold other models: {sorted(mine)}")
    pairs = [(load_file(mine[step]), load_file(theirs[step])) for step in mine]
    return max(float(np.abs(a[n].astype(float) - b[n].astype(float)).max()) for a, b in pairs for n in a)
