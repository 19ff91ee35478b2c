"""`hyperloom import`, `data` and `export` through the command line, and what `verify` says of shards."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner

RNG = np.random.default_rng(1)
RECIPE = """\
name: shown
root: {root}
modalities:
  rgb: {{type: image, size: [6, 8]}}
  depth: {{type: dense, storage: float32}}
  semantic: {{type: segmentation, classes: [land, road]}}
steps:
  frames: {{stage: ingest, source: {{type: arrays, path: "{data}/*", columns: {columns}}}, group: video}}
  shards: {{stage: shard, data: frames, split: {{by: video}}, shard_mb: 0.000001}}
"""
COLUMNS = {"rgb@camera": "rgb", "depth@dpt": "depth_dpt", "semantic@m2f": "semantic_m2f"}


@pytest.fixture
def vre(tmp_path: Path) -> Path:
    """Two videos of three frames, as VRE leaves them; one depth map is missing."""
    for video in ("a", "b"):
        for t in range(3):
            made = {
                "rgb": RNG.integers(0, 256, (6, 8, 3), np.uint8),
                "depth_dpt": RNG.random((6, 8, 1), np.float32),
                "semantic_m2f": RNG.integers(0, 2, (6, 8), np.uint8),
            }
            for name, value in made.items():
                path = tmp_path / f"vre/{video}/{name}/npz/{t}.npz"
                path.parent.mkdir(parents=True, exist_ok=True)
                if (video, name, t) != ("b", "depth_dpt", 1):
                    np.savez_compressed(path, value)
    return tmp_path / "vre"


@pytest.fixture
def ran(vre: Path, tmp_path: Path) -> Path:
    """The recipe, run."""
    path = tmp_path / "shown.yaml"
    path.write_text(RECIPE.format(root=tmp_path / "root", data=vre, columns=json.dumps(COLUMNS)))
    assert runner.run(recipe.load(path), progress=Progress(quiet=True), track=False).ok
    return path


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {str(p.relative_to(folder)): np.load(p)["arr_0"] for p in sorted(folder.rglob("*.npz"))}


@pytest.mark.parametrize("step", ["frames", "shards"])
def test_what_was_imported_is_exported_as_it_came(ran: Path, vre: Path, tmp_path: Path, step: str) -> None:
    assert cli.main(["export", str(ran), step, "--to", str(tmp_path / "out")]) == 0
    before, after = arrays(vre), arrays(tmp_path / "out")
    renamed = {name.replace("/rgb/", "/rgb_camera/"): value for name, value in before.items()}
    assert list(after) == sorted(renamed) and len(after) == 17
    assert all(np.array_equal(after[name], value) for name, value in renamed.items())


def test_a_dronescapes_export_is_read_again(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["data", "export", str(ran), "frames", "--to", str(tmp_path / "d"), "--layout", "dronescapes"]) == 0
    assert (tmp_path / "d/depth_dpt/b_000002.npz").is_file() and not (tmp_path / "d/depth_dpt/b_000001.npz").exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    assert cli.main(["import", "d", "--root", "again", "--no-mlflow"]) == 0
    written = recipe.load("d.yaml").recipe
    assert set(written.modalities) == {"rgb", "depth", "semantic"}
    assert written.modalities["semantic"].classes == ("class0", "class1")
    assert written.modalities["rgb"].size == (6, 8)
    assert cli.main(["export", "d.yaml", "frames", "--to", "e", "--layout", "dronescapes", "--root", "again"]) == 0
    assert {n: a.tobytes() for n, a in arrays(tmp_path / "e").items()} == {
        n: a.tobytes() for n, a in arrays(tmp_path / "d").items()
    }
    assert cli.main(["import", "d", "--root", "again", "--no-mlflow"]) == 0, "the same command again goes on"


def test_an_export_with_vectors_is_read_again(vre: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    rows = {"pose_imu": RNG.random(4, np.float32), "seen_crew": np.array([1, 0, 255], np.uint8)}
    for t in range(3):
        for name, value in rows.items():
            path = vre / f"a/{name}/npz/{t}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    assert cli.main(["import", "vre", "--root", "again", "--no-mlflow"]) == 0
    known = recipe.load("vre.yaml").recipe.modalities
    assert known["pose"].length == 4 and known["seen"].classes == ("class0", "class1", "class2")
    assert cli.main(["export", "vre.yaml", "frames", "--to", "out", "--root", "again"]) == 0
    for name in ("pose_imu/npz/1.npz", "seen_crew/npz/2.npz"):
        assert np.array_equal(arrays(tmp_path / "out/a")[name], arrays(vre / "a")[name])
    np.savez_compressed(vre / "a/pose_imu/npz/1.npz", np.zeros(5, np.float32))
    assert cli.main(["import", "vre", "--root", "other", "--recipe", "other.yaml", "--no-mlflow"]) == Exit.STEP
    error = capsys.readouterr().err
    assert "no frame of pose_imu can be read as a map or a vector: they hold float32 [4], float32 [5]. Next:" in error


def test_head_and_stats_are_tables(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "head", str(ran), "shards", "--rows", "2", "--start", "3"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["key", "group", "index", *sorted(COLUMNS)]
    assert [line.split()[0] for line in table[2:]] == ["b/000000", "b/000001"]
    assert table[3].split()[3] == "-", "a missing value is shown as missing"
    assert cli.main(["data", "stats", str(ran), "frames", "--columns", "depth@dpt"]) == 0
    assert "16.7%" in capsys.readouterr().out


def test_show_draws_every_sample_asked_for(ran: Path, tmp_path: Path) -> None:
    def height(rows: int) -> int:
        out = tmp_path / f"{rows}.png"
        assert cli.main(["data", "show", str(ran), "shards", "--rows", str(rows), "--to", str(out)]) == 0
        return cv2.imread(str(out)).shape[0]

    assert height(2) - height(1) == height(3) - height(2) > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["head", "{}", "nothing"], "there is no step 'nothing'"),
        (["head", "{}", "frames", "--columns", "x@y"], "has no column x@y"),
        (["stats", "{}", "frames", "--root", "elsewhere"], "is not done"),
    ],
)
def test_mistakes_are_named(
    ran: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", *(a.format(ran) for a in arguments)]) in (2, 4)
    assert says in capsys.readouterr().err


def test_a_step_whose_frames_are_not_known_any_more_is_not_shown_as_empty(
    ran: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edges = "{type: edges, in: rgb@camera, out: edges@gradient}"
    text = ran.read_text().replace("steps:", "  edges: {type: dense, range: [0, 1]}\nsteps:")
    ran.write_text(f"{text}  labels: {{stage: label, data: frames, experts: [{edges}]}}\n")
    assert runner.run(recipe.load(ran), progress=Progress(quiet=True), track=False).ok
    shown = ["data", "stats", str(ran)]
    assert cli.main([*shown, "labels"]) == 0 and " 6 " in capsys.readouterr().out
    (manifest,) = (ran.parent / "root/ingest").glob("*/manifest.json")
    manifest.write_bytes(manifest.read_bytes()[:-9])
    assert cli.main([*shown, "labels"]) == Exit.STEP and "'frames' is not done" in capsys.readouterr().err
    assert cli.main([*shown, "shards"]) == 0, "shards say themselves which frames they hold"


def test_import_of_a_directory_without_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", str(tmp_path), "--recipe", str(tmp_path / "r.yaml")]) == Exit.STEP
    assert "holds no representations" in capsys.readouterr().err
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "foreign"])
def test_verify_names_a_damaged_shard(ran: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Storage(recipe.load(ran).recipe.root)
    made = next(m for m in verify.manifests(storage) if m.stage == "shard")
    file = made.records[1].file
    path = Path(storage.path(file.path))
    data = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "cut":
        path.write_bytes(data[:-40])
    elif damage == "gone":
        path.unlink()
    else:
        pq.write_table(pa.table({"key": ["a"], "depth@dpt": [1.0]}), path)
    says = {"flipped": "checksum", "cut": "bytes instead of", "gone": "is missing", "foreign": "foreign schema"}
    assert cli.main(["verify", str(ran)]) == 1
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith(file.path)]
    assert len(shown) == 1 and says[damage] in shown[0]


def test_what_goes_out_to_people_is_no_sample_of_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source reads all below the folder in which the command stands."""
    work = tmp_path / "work"
    work.mkdir()
    for i in range(3):
        cv2.imwrite(str(work / f"{i}.png"), np.full((6, 8, 3), 40 * i, np.uint8))
        np.save(work / f"{i}.npy", np.full((6, 8), i % 2, np.uint8))
    (work / "hyperloom.yaml").write_text(
        "name: sent\n"
        "modalities: {rgb: {type: image, size: [6, 8]}, semantic: {type: segmentation, classes: [land, road]}}\n"
        "steps:\n  frames: {stage: ingest, source: {type: files, path: '**/*.png', columns: "
        "{semantic@truth: '{stem}.npy'}}}\n"
    )
    monkeypatch.chdir(work)
    loaded = recipe.load("hyperloom.yaml")
    assert runner.run(loaded, progress=Progress(quiet=True), track=False).ok
    assert cli.main(["export", "hyperloom.yaml", "frames", "--to", "coco", "--columns", "semantic@truth"]) == 0
    sent = work / "runs/sent/sent/frames-coco"
    assert f"below {sent}\n" in capsys.readouterr().out
    assert sorted(p.name for p in sent.rglob("*.*")) == ["0.png", "1.png", "2.png", "annotations.json"]
    assert sorted(p.name for p in work.iterdir() if p.suffix not in (".npy", ".png")) == ["hyperloom.yaml", "runs"]
    (again,) = opening.steps(loaded, Storage(loaded.recipe.root))
    assert again.state == "fresh" and again.manifest is not None and again.manifest.rows == 3
