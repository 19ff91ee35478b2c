"""Claims, pointers and two drivers on roots of every kind of store: local disk, S3 with and without conditional writes,
SFTP. Real processes, stopped and in namespaces of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from hyperloom.pipeline.errors import Superseded
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.recipes import recipe, timetable
from hyperloom.pipeline.root import chain
from hyperloom.pipeline.root import claims as claiming
from hyperloom.pipeline.root.chain import Chain
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.pointer import Pointer, Version
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.run_result import NamedRun, RunResult
from hyperloom.pipeline.scheduling import change, history
from hyperloom.pipeline.scheduling.journal import Journal
from hyperloom.pipeline.scheduling.tick import Tick
from tests.stores import roots

pytest.importorskip("s3fs")
pytest.importorskip("paramiko")
pytestmark = pytest.mark.timeout(300)

HERE = Path(__file__).parents[2]
DRIVER = """\
import sys
from hyperloom.pipeline import cli
from hyperloom.pipeline.root import chain, claims
from hyperloom.pipeline.running import unit_claims
claims.BEAT, claims.EXPIRY = 0.5, 4.0
unit_claims.LOOK_SHARE = 5
chain.SETTLE_SECONDS = 0.5
import hyperloom.pipeline.commands.opening as opening
opening.connect = lambda loaded: None  # units in this process, without Ray
sys.exit(cli.main(sys.argv[1:]))
"""
"""`hyperloom`, with seconds for a test, and units in its own process."""
RECIPE = """\
name: {name}
root: {root}
modalities: {{}}
steps:
  own: {{stage: "tests.stores.sharing:Labelling", experts: [{own}, shared], count: {count}, log: {log}}}
  both: {{stage: "tests.stores.sharing:Labelling", experts: [late], count: {count}, log: {log}}}
"""


@dataclass
class Root:
    """A store of one kind, or the local disk."""

    kind: str
    base: str

    def url(self, name: str) -> str:
        return f"{self.base}/{name}"

    @property
    def count(self) -> int:
        """Units of each expert."""
        return {"local": 12}.get(self.kind, 4)


@pytest.fixture(scope="module", params=["local", "moto", "rclone", "sshd"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        yield Root("local", str(folder))
        return
    with roots.opened(request.param, folder) as store:
        yield Root(request.param, store.url)


def driver(folder: Path, name: str, root: Root, place: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    path = folder / f"{name}.yaml"
    path.write_text(
        RECIPE.format(name=name, root=root.url(place), own=name, count=root.count, log=folder / f"{name}.log")
    )
    command = [*before, sys.executable, "-c", DRIVER, "run", str(path), "--no-mlflow"]
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def calls(folder: Path) -> Counter[str]:
    """How often each unit was worked on."""
    return Counter(line for log in folder.glob("*.log") for line in log.read_text().split())


def check_whole(root: str) -> None:
    report = verify.verify(Storage(root))
    assert report.problems == [] and len(report.manifests) == 3
    assert claiming.cards(Storage(root)) == []


def test_one_of_many_writers_wins_and_nobody_overwrites_what_he_has_not_seen(root: Root) -> None:
    storages = [Storage(root.url("race")) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        links = list(threads.map(lambda i: Chain(storages[i], "chain").append(0, json.dumps(i).encode()), range(4)))
    (winner,) = [link for link in links if link]
    last = Chain(storages[0], "chain").last()
    assert last and last.data == winner.data and len(storages[0].names("chain")) == 1
    pointer = Pointer(storages[0], "pointer")
    first = pointer.write("first", Version())
    second = Pointer(storages[1], "pointer").write("second", first)
    with pytest.raises(Superseded):
        pointer.write("late", first)
    assert pointer.read() == second
    with Claims(storages[0], "one") as one, Claims(storages[1], "two") as two:
        assert (one.take("steps/a/b"), two.take("steps/a/b")) == (1, 0)
        one.release("steps/a/b")
        assert two.take("steps/a/b") == 2


SCHEDULED = """\
name: toy
root: {root}
modalities: {{}}
schedule: {{cron: "0 3 * * *"}}
steps: {{a: {{stage: "tests.toy:Numbers"}}}}
"""


def test_of_ticks_at_one_moment_one_decides_and_runs_the_slot(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SETTLE_SECONDS", 0.5)
    url, started = root.url("slots"), list[str]()
    at = timetable.instant("2026-03-01T00:00:00Z")
    change.change(Journal(Storage(url), "toy"), "add", at)

    def start(named: NamedRun, steps: list[str] | None) -> RunResult:
        started.append(named.id)
        return RunResult(named.id, {"a": "done"})

    def tick(_: int) -> str:
        loaded = recipe.parse(SCHEDULED.format(root=url), "toy.yaml")
        return Tick(loaded, Storage(url), at + timedelta(hours=3.1), start, say=lambda _: None).go().state

    with ThreadPoolExecutor(3) as threads:
        states = list(threads.map(tick, range(3)))
    assert len(started) == 1 and states.count("done") == 1 and set(states) <= {"done", "running", "idle"}
    kinds = [entry.kind for entry in Journal(Storage(url), "toy").entries()]
    assert kinds == ["end", "start", "slot", "add"], "each once, and in order"
    assert [row["state"] for row in history.rows(Journal(Storage(url), "toy"), 9)] == ["done", "add"]


def test_two_drivers_do_what_they_share_once(root: Root, tmp_path: Path) -> None:
    both = [driver(tmp_path, name, root, "two") for name in ("one", "two")]
    texts = [each.communicate(timeout=250)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], texts
    counts = calls(tmp_path)
    assert len(counts) == 4 * root.count and set(counts.values()) == {1}
    check_whole(root.url("two"))


def test_a_driver_stopped_for_longer_than_its_time_harms_nothing(root: Root, tmp_path: Path) -> None:
    url = root.url("stopped")
    (tmp_path / "one.hold").touch()
    sleeper = driver(tmp_path, "one", root, "stopped")
    state = os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert state is not None and state.si_code == os.CLD_STOPPED, sleeper.communicate()[0]
    try:
        other = driver(tmp_path, "two", root, "stopped")
        text = other.communicate(timeout=250)[0]
        assert other.returncode == 0, text
        assert "over from process" in text and "no sign of life for 4 s" in text
    finally:
        sleeper.send_signal(signal.SIGCONT)
    before = {p: Storage(url).read(p) for p in Storage(url).walk("") if p.endswith("manifest.json")}
    text = sleeper.communicate(timeout=60)[0]
    assert sleeper.returncode == 3, text
    last = text.strip().splitlines()[-1]
    assert "this driver was replaced: process" in last and "Next: run the same command again" in last, text
    assert "Traceback" not in text
    assert {p: Storage(url).read(p) for p in before} == before
    again = driver(tmp_path, "one", root, "stopped")
    assert again.communicate(timeout=100) and again.returncode == 0
    check_whole(url)
    repeated = {unit: n for unit, n in calls(tmp_path).items() if n > 1}
    assert len(repeated) <= 3, "no more than what was in the sleeper's hands"


@pytest.mark.parametrize("space", [("-pf", "--mount-proc"), ("-u",)], ids=["pid namespaces", "two hosts"])
def test_namespaces_of_their_own(root: Root, tmp_path: Path, space: tuple[str, ...]) -> None:
    """Containers share a host's name and not its pids; two hosts with one name share nothing. Neither takes the other
    for dead, and both share the work."""
    if root.kind != "local":
        pytest.skip("what a process says of itself has nothing to do with the store")
    if os.geteuid() or subprocess.run(["unshare", *space, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us make namespaces")
    place = "spaces" + space[0]
    both = [driver(tmp_path, name, root, place, ("unshare", *space)) for name in ("one", "two")]
    texts = [each.communicate(timeout=250)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], texts
    counts = calls(tmp_path)
    assert len(counts) == 4 * root.count and set(counts.values()) == {1}
    assert "over from" not in "".join(texts)
    check_whole(root.url(place))
