"""A host that is lost and a job that is killed, on three hosts; benchmarks/hosts.py has the whole matrix."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.host_run import EVERY, UNITS, UPDATES, Run, apart, artifacts, recipe
from benchmarks.hosts import CLOSE, kill_job, lose
from hyperloom.pipeline.recipes import recipe as recipes
from hyperloom.pipeline.running.runner import run as run_here
from tests.ray.cluster_of_hosts import HERE, Cluster, cluster_of_hosts
from tests.ray.hosts import NOTICE, unavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if reason := unavailable():
        pytest.skip(reason)
    with cluster_of_hosts(env=NOTICE) as cluster:
        yield cluster


@pytest.fixture
def undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the same recipe, run in this process."""
    import hyperloom.stages  # noqa: F401  registers the plug-ins

    monkeypatch.chdir(tmp_path)
    shutil.copy(HERE / "benchmarks" / "paced.py", tmp_path)
    text = recipe(tmp_path, pace=0.0, slow=0.0, hosts=1, whole=False)
    (tmp_path / "hosts.yaml").write_text(text.replace("workers: [1, 2]", "workers: 1"))
    assert run_here(recipes.load("hosts.yaml"), None, str(tmp_path / "here"), track=False).ok
    return tmp_path / "here"


def test_a_lost_host_and_a_killed_job_cost_what_was_in_flight(
    undisturbed: Path, cluster: Cluster, tmp_path: Path
) -> None:
    run = Run(cluster, tmp_path / "run", pace=0.6, slow=0.05, whole=False)
    run.to_its_end(lose(Run.labelling), kill_job(Run.training))
    print(f"{run.seconds} s, stalled {run.stalled()} s\n{run.output()}")
    assert run.submits == 2, "the job lived through the loss of the host"
    assert len(run.units()) == UNITS and run.done_twice() == 0
    updates = run.updates()
    assert len(updates) == UPDATES and sum(updates.values()) - UPDATES <= EVERY
    assert artifacts(run.root) == artifacts(undisturbed)
    assert apart(run.root, undisturbed) < CLOSE
