"""The profiles under clusters/ as far as they can be checked without the platforms they are for."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROFILES = Path(__file__).parents[2] / "clusters"


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((PROFILES / name).read_text(encoding="utf-8"))


def test_on_premise_fits_rays_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    ray = importlib.util.find_spec("ray")
    if ray is None or not ray.submodule_search_locations:
        pytest.skip("ray is not installed")
    schema = json.loads((Path(ray.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(load("on-premise.yaml"), schema)


def test_the_cron_job_is_the_job_on_a_schedule() -> None:
    job, cron = load("kuberay-job.yaml"), load("kuberay-cron.yaml")
    assert (job["kind"], cron["kind"]) == ("RayJob", "RayCronJob")
    assert cron["spec"]["jobTemplate"] == job["spec"]
    assert len(cron["spec"]["schedule"].split()) == 5


def test_versions_agree() -> None:
    pins = dict(
        line.split("==") for line in (PROFILES.parent / "constraints.txt").read_text().splitlines() if "==" in line
    )
    assert load("kuberay-job.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == pins["ray"]


def test_the_slurm_script_parses() -> None:
    done = subprocess.run(["bash", "-n", str(PROFILES / "slurm.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
