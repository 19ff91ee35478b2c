"""A user's folder full of names that are taken: the run uses its plug-ins and none of the rest, wherever it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import BIN, HERE, RayCluster, hyperloom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OURS = ("pipeline.py", "stages.py", "clusters/__init__.py", "mlflow/__init__.py", "benchmarks.py", "torch.py", "cv2.py")
"""Names of Hyperloom's folders and of what it imports."""
PYTHONS = ("queue.py", "json.py", "numpy.py", "fsspec.py", "pydantic/__init__.py", "ray.py", "hyperloom/__init__.py")
"""Names of Python's own modules, and of what Ray itself needs before it comes to a job's code."""
RECIPE = """\
name: taken
modalities: {rgb: {type: image, size: [8, 8]}, brightness: {type: dense}}
steps:
  frames: {stage: ingest, source: {type: files, path: "images"}, rows: 3}
  labels:
    stage: label
    data: frames
    experts:
      - {type: "brightness:Brightness", in: rgb@camera}
      - {type: python, call: "sums:total", in: brightness@mean, out: brightness@double}
"""
BRIGHTNESS = """\
import numpy as np
from half import HALF
from hyperloom.stages.label.expert import Expert


class Brightness(Expert):
    out: tuple[str, ...] = ("brightness@mean",)

    def build(self, modalities, storage):
        def label(batch):
            import sums

            return {self.out[0]: sums.of(batch[self.in_[0]]).astype(np.float32) * HALF}

        return label
"""
SUMS = """\
def of(picture):
    return picture.mean(-1, keepdims=True)


def total(batch):
    return batch["brightness@mean"] * 2
"""

BROKEN = """\
import sys


class Broken:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "hyperloom.pipeline.workers.rayslots":
            raise ImportError("this node lacks a library")


sys.meta_path.insert(0, Broken)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "images").mkdir(parents=True)
    for i in range(6):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), np.full((8, 8, 3), 10 * i, np.uint8))
    for name, text in {
        "recipe.yaml": RECIPE,
        "brightness.py": BRIGHTNESS,
        "half.py": "HALF = 0.5\n",
        "sums.py": SUMS,
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment where Hyperloom is installed from its wheel, and the libraries are this one's."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pipeline", "stages", "clusters", "recipes", "mlflow"):
        shutil.copytree(HERE / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HERE / name, folder / "source" / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    build = (*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "source"))
    subprocess.run(build, check=True, cwd=folder)
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / "bin"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    libraries = subprocess.run(
        [programs / "python", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    shared = [p for p in sys.path if Path(p).name == "site-packages"]
    Path(libraries, "shared.pth").write_text("\n".join(shared))
    install = (*pip, "--python", str(programs / "python"), "install", "-q", "--no-deps", "--no-index")
    subprocess.run((*install, *map(str, folder.glob("*.whl"))), check=True, cwd=folder)
    names = {p.name for p in Path(libraries).iterdir() if not p.name.endswith((".dist-info", ".pth"))}
    assert names == {"hyperloom"}, "one import name"
    return programs


def take(project: Path, *names: str) -> None:
    for name in names:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(f"raise RuntimeError('{name} of the user was imported')\n")


def values(root: Path, column: str) -> list[float]:
    storage = Storage(str(root))
    files = sorted(p for p in storage.walk("expert") if p.endswith(".parquet"))
    found = []
    for file in files:
        table = pq.read_table(root / file)
        if column in table.column_names:
            found += [float(np.frombuffer(v.as_py(), np.float16)[0]) for v in table[column]]
    return sorted(found)


def labelled(root: Path) -> bool:
    halves = [5.0 * i for i in range(6)]
    return values(root, "brightness@mean") == halves and values(root, "brightness@double") == [2 * h for h in halves]


@pytest.mark.parametrize("installed", ["editable", "wheel"])
def test_on_a_private_cluster_with_the_tracker(installed: str, project: Path, tmp_path: Path, request: Any) -> None:
    """The names that workers, the tracker and Ray's own processes import lie in the folder where all of them start."""
    programs = BIN if installed == "editable" else request.getfixturevalue("wheel")
    take(project, *OURS, *PYTHONS)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_FAULT", "MLFLOW_", "PYTHON"))}
    command = [str(programs / "hyperloom"), "run", "recipe.yaml", "--root", str(tmp_path / "root")]
    done = subprocess.run(command, env=env, cwd=project, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MLflow has not seen" not in done.stdout and (tmp_path / "root" / "mlflow.db").exists()
    assert labelled(tmp_path / "root")


def test_on_a_cluster_that_is_joined(ray_cluster: RayCluster, project: Path, tmp_path: Path) -> None:
    """With the user's folder first on the driver's path, as far as Python itself starts with it."""
    take(project, *OURS, *PYTHONS)
    take(project, *(f"../{name}" for name in OURS))
    recipe = project / "recipe.yaml"
    recipe.write_text(RECIPE.replace('"images"', f'"{project}/images"'))
    root = tmp_path / "root"
    env = ray_cluster.env | {"PYTHONPATH": str(tmp_path)}
    done = hyperloom("run", str(recipe), "--root", str(root), "--no-mlflow", env=env, cwd=tmp_path, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert labelled(root)


@pytest.mark.parametrize("way", ["ray", "hyperloom"])
def test_in_a_submitted_job(way: str, ray_cluster: RayCluster, project: Path, tmp_path: Path) -> None:
    """Ray puts the job's folder before everything, also before Python's own modules: those names no job can have."""
    take(project, *OURS)
    root = tmp_path / "root"
    (project / "recipe.yaml").write_text(RECIPE.replace('"images"', f'"{project}/images"'))
    if way == "hyperloom":
        command = [
            str(BIN / "hyperloom"),
            "submit",
            "recipe.yaml",
            "--address",
            ray_cluster.dashboard,
            "--root",
            str(root),
        ]
    else:
        command = [str(BIN / "ray"), "job", "submit", "--address", ray_cluster.dashboard, "--working-dir", ".", "--"]
        command += ["hyperloom", "run", "recipe.yaml", "--root", str(root)]
    for _ in range(20):
        done = subprocess.run(command, cwd=project, env=ray_cluster.env, capture_output=True, text=True, timeout=250)
        if "No available agent" not in done.stdout + done.stderr:  # a cluster that has just started takes no jobs yet
            break
        time.sleep(3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MLflow has not seen" not in done.stdout
    assert labelled(root)


def test_workers_that_cannot_import_end_the_step(ray_cluster: RayCluster, project: Path, tmp_path: Path) -> None:
    """A module that every worker imports is missing on the nodes: the second process that dies of it ends the step."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(BROKEN)
    env = f"cluster: {{address: '{ray_cluster.address}', env: {{PYTHONPATH: '{broken}'}}}}\n"
    (project / "recipe.yaml").write_text(env + RECIPE)
    run = ("run", "recipe.yaml", "--root", str(tmp_path / "root"), "--no-mlflow")
    done = hyperloom(*run, env=ray_cluster.env, cwd=project)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "ImportError: this node lacks a library" in done.stdout and "cannot start" in done.stdout
    assert "Next: " in done.stdout
