"""What commands answer to machines (`--json`, `--version`, completion), and what they say of one recipe alone."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import PIL.Image
import pytest
import yaml

import hyperloom
from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.inspection.quarantine import Trouble, grouped
from hyperloom.pipeline.output import replies
from hyperloom.pipeline.root.events import Events, new_run
from hyperloom.pipeline.root.storage import Storage
from tests.unit.test_python import recipe

KEYS = {
    "plan": [{"step", "state", "why", "fingerprint", "payload", "units"}],
    "status": {"root", "steps", "notes"},
    "failed": {"count", "troubles"},
    "failed --by error": {"count", "troubles"},
    "verify": {"manifests", "files", "removed", "problems"},
    "verify --gc": {"manifests", "files", "removed", "problems"},
    "release": {"champions"},
    "lineage labels": {"step", "stage", "fingerprint", "rows", "facts", "columns", "reads"},
    "logs --list": [],
    "doctor --no-ray": [{"verdict", "what", "text"}],
    "cancel --wait 0": {"run", "ended", "jobs"},
    "run --no-mlflow": {"root", "run", "ok", "states", "outcomes", "problems", "missing", "quarantined", "sources",
                        "unshown", "remarks", "page"},
    "schedule list": [],
    "schedule next": {"schedule", "status", "slots"},
    "schedule history": [],
    "schedule add": {"text", "schedule", "status", "slots"},
    "tick --no-mlflow --at 2030-01-01T03:00:05+00:00": {"r.yaml"},
    "data head frames": [{"key", "group", "index"}],
    "data stats frames": [{"column", "type", "rows", "missing", "mean", "std", "min", "max", "classes"}],
    "data show frames --to x.png": {"path"},
    "export frames --to out": {"files", "to", "others", "remarks"},
}  # fmt: skip
"""Command -> keys of its JSON object, or of the objects of its list."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a recipe, `r.yaml`, that has run, and what an earlier run left in quarantine for another recipe."""
    folder = tmp_path_factory.mktemp("answers")
    written = {**recipe(folder / "root"), "schedule": {"cron": "0 3 * * *"}}
    (folder / "r.yaml").write_text(json.dumps(written, default=lambda v: int(v) if hasattr(v, "item") else str(v)))
    hyperloom.load(folder / "r.yaml").run(ray=False, mlflow=False, progress=False)
    assert cli.main(["schedule", "add", str(folder / "r.yaml")]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(opening, "connect", lambda loaded: None)


def call(line: str, path: str = "r.yaml") -> int:
    """A command on the recipe; `data` and `cluster` have a word before it."""
    words = line.split()
    place = 2 if words[0] in ("data", "schedule", "cluster") else 1
    place += words[0] == "cluster" and words[1] == "render"
    return cli.main([*words[:place], path, *words[place:]])


@pytest.mark.parametrize("line", KEYS)
def test_every_command_answers_one_json_value(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"{line} --json") == 0
    answer, keys = json.loads(capsys.readouterr().out), KEYS[line]
    if isinstance(keys, list):
        assert isinstance(answer, list)
        assert not keys or (answer and all(keys[0] <= set(row) for row in answer))
    else:
        assert set(answer) == keys


@pytest.mark.parametrize(
    "line",
    [
        "report r.yaml --to {0}/page.html",
        "diff r.yaml r.yaml",
        "diff r.yaml changed.yaml --to {0}/changes.html",
        "init {0}/pictures --labels {0}/masks --yes",
        "cluster render slurm r.yaml",
        "completion zsh",
    ],
)
def test_replies_keep_their_form(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a command answers is what `pipeline.output.replies` promises, no field more or less."""
    if line.startswith("init"):
        labelled_pictures(tmp_path)
    written = yaml.safe_load(Path("r.yaml").read_text())
    written["steps"]["labels"]["experts"][0]["sigma"] = 2.5
    Path("changed.yaml").write_text(json.dumps(written))
    assert cli.main([word.format(tmp_path) for word in line.split()] + ["--json"]) == 0
    text = capsys.readouterr().out
    command = next(name for name in replies.REPLIES if line.startswith(name))
    answer = checked(command, text)
    for table in (t for s in answer.get("sections", {}).values() for t in s["tables"]):
        assert all(isinstance(row, dict) and row for row in table["rows"])
    if "path" in answer:
        assert answer["path"] is None or Path(answer["path"]).exists()
    match command:
        case "report":
            assert {"steps", "data"} <= set(answer["sections"]) and answer["outcome"]
        case "diff":
            assert answer["same"] is ("changed" not in line) and bool(answer["sections"]) is not answer["same"]
        case "init":
            assert Path(answer["recipe"]).exists() and answer["next"].startswith("hyperloom run")
        case "cluster render":
            assert "#SBATCH" in answer["text"]


def checked(command: str, text: str) -> Any:
    """The answer in `text`, checked strictly against its type."""
    answer = json.loads(text)
    form = replies.schema()
    jsonschema.validate(answer, {"$defs": form["$defs"], **form["properties"][command]})
    assert set(answer) == set(replies.REPLIES[command].__annotations__), "no field more"
    return answer


def labelled_pictures(folder: Path) -> None:
    """Six pictures, and label maps of two classes for four of them."""
    for name in ("pictures", "masks"):
        (folder / name).mkdir()
    for i in range(6):
        picture = np.random.default_rng(i).integers(0, 255, (32, 48, 3)).astype(np.uint8)
        PIL.Image.fromarray(picture).save(folder / "pictures" / f"a{i}.png")
        if i < 4:
            PIL.Image.fromarray((picture[..., 0] > 128).astype(np.uint8)).save(folder / "masks" / f"a{i}.png")


def test_every_reply_is_documented() -> None:
    """docs/command.md has a line for each command with all its fields; the schema prints them too."""
    page = (Path(__file__).parents[2] / "docs" / "command.md").read_text()
    for command, form in replies.REPLIES.items():
        (line,) = [text for text in page.splitlines() if text.startswith(f"| `{command}`")]
        assert all(f"`{name}`" in line for name in form.__annotations__), (command, line)


def test_every_command_has_it_and_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    def leaves(parser: Any) -> Any:
        below = [a for a in parser._actions if hasattr(a, "choices") and isinstance(a.choices, dict)]
        return [leaf for a in below for sub in a.choices.values() for leaf in leaves(sub)] or [parser]

    commands = leaves(cli._parser())
    assert len(commands) > 25 and all("--json" in sub._option_string_actions for sub in commands)
    code = call("plan --json", "absent.yaml")
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert answer["exit_code"] == code == 2 and "absent.yaml" in answer["error"] and "absent.yaml" in output.err


@pytest.mark.parametrize("command", ["plan", "data", "run", "init", "report", "import"])
def test_a_command_means_the_same_whether_all_or_it_alone_is_understood(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in ([command, "--help"], [command, "r.yaml", "--nonsense"], [command]):
        texts = []
        for parser in (cli._parser(), cli._parser(line)):
            with contextlib.suppress(SystemExit):
                parser.parse_args(line)
            texts.append(capsys.readouterr())
        assert texts[0] == texts[1] and any(texts[0])


def test_what_people_read_goes_beside(capsys: pytest.CaptureFixture[str]) -> None:
    call("status --json")
    assert not capsys.readouterr().err
    call("run --no-mlflow --json")
    assert "all 2 steps are fresh" in capsys.readouterr().err, "what takes long is shown beside"
    call("status")
    output = capsys.readouterr()
    assert "nobody works on this root" in output.out and not output.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert not end.value.code and capsys.readouterr().out == f"hyperloom {hyperloom.__version__}\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hyperloom st", {"status"}),
        ("hyperloom schedule hi", {"history"}),
        ("hyperloom plan r.", {"r.yaml"}),
        ("hyperloom run r.yaml --step la", {"labels"}),
        ("hyperloom data head r.yaml fr", {"frames"}),
        ("hyperloom failed r.yaml --by ", {"error", "step"}),
        ("hyperloom run absent.yaml --step la", set()),
    ],
)
def test_shells_complete(line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from hyperloom.pipeline.output import completion

    def closed(*_: Any) -> Any:  # argcomplete takes descriptor 9, which is somebody else's here
        raise OSError

    monkeypatch.setattr("argcomplete.finders.os.fdopen", closed)
    text = "name: a\nsteps:  # of them\n  frames: {stage: ingest}\n  labels:\n    stage: label\nroot: x\n"
    (folder / "r.yaml").rename(folder / "kept")
    try:
        (folder / "r.yaml").write_text(text)
        monkeypatch.setenv("_ARGCOMPLETE", "1")
        monkeypatch.setenv("_ARGCOMPLETE_IFS", "\n")
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        out = io.StringIO()
        with pytest.raises(SystemExit):
            completion.complete(
                cli._parser(), output_stream=out, exit_method=lambda code: (_ for _ in ()).throw(SystemExit)
            )
        assert {word.strip() for word in out.getvalue().split("\n") if word.strip()} == expected
    finally:
        (folder / "kept").rename(folder / "r.yaml")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "hyperloom" in capsys.readouterr().out


# -- what is said of a recipe ------------------------------------------------------------------------------------------
def test_lineage_goes_back_to_the_raw_files(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert call("lineage labels") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("labels: label ") and "edges@gradient: edges of rgb@camera" in "\n".join(lines)
    assert any("frames: ingest" in line for line in lines) and any("2 pieces: flight_00" in line for line in lines)
    fingerprint = hyperloom.load(folder / "r.yaml")["labels"].fingerprint
    assert call(f"lineage {fingerprint[:10]}") == 0
    assert capsys.readouterr().out.splitlines() == lines, "a fingerprint will do"
    assert call("lineage lables") == 2 and "labels" in capsys.readouterr().err


def test_status_counts_units_while_a_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(recipe(tmp_path / "root"), default=lambda v: int(v) if hasattr(v, "item") else str(v))
    (tmp_path / "busy.yaml").write_text(text)
    storage = Storage(str(tmp_path / "root"))
    with Events(storage, new_run(storage), "driver") as events:
        start = {"recipe": "", "path": "", "params": {}, "total": 2, "driver": {}}
        events.emit("run_started", name="small", **start)
        about = {"stage": "ingest", "fingerprint": "f", "params": {}, "why": [], "inputs": []}
        for step in ("frames", "labels"):
            events.emit("step_started", step, **about)
        events.emit("progress", "frames", done=120, total=400, reused=80, failed=2, workers=4)
        events.metric("labels", {"loss": 0.5}, 40, 400)
        events.metric("labels", {"loss": float("nan")}, 41)
    assert call("status", str(tmp_path / "busy.yaml")) == 0
    shown = capsys.readouterr().out
    assert "120/400 units, 2 failed, 4 workers" in shown and "40/400 updates: loss 0.5" in shown
    assert call("status --json", str(tmp_path / "busy.yaml")) == 0
    work = json.loads(capsys.readouterr().out)["steps"][0]["work"]
    assert (work["done"], work["total"], work["workers"]) == (120, 400, 4)
    (tmp_path / "other.yaml").write_text(text.replace('"small"', '"other"'))
    assert call("status --json", str(tmp_path / "other.yaml")) == 0
    assert {step["work"] for step in json.loads(capsys.readouterr().out)["steps"]} == {None}, "another recipe's run"


def test_status_of_several_seeds_is_that_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They write side by side; whichever had written last stood for all of them."""
    train = {"stage": "train", "data": "shards", "in": "rgb@camera", "targets": {"edges": "edges@gradient"}}
    whole = recipe(tmp_path / "root")
    whole["steps"] |= {"shards": {"stage": "shard", "data": ["frames", "labels"]}}
    whole["steps"] |= {"net": {**train, "updates": 400, "batch": 2, "seeds": 3}}
    text = json.dumps(whole, default=lambda v: int(v) if hasattr(v, "item") else str(v))
    (tmp_path / "busy.yaml").write_text(text)
    storage = Storage(str(tmp_path / "root"))
    run = new_run(storage)
    with Events(storage, run, "driver") as events:
        events.emit("run_started", name="small", recipe="", path="", params={}, total=4, driver={})
        events.emit("step_started", "net", stage="train", fingerprint="f", params={}, why=[], inputs=[])
        events.emit("progress", "net", done=0, total=3, reused=0, failed=0, workers=2)
    for seed, update in ((0, 140), (1, 60)):
        with Events(storage, run, f"train-net-seed{seed}") as events:
            events.metric("net", {f"loss/seed{seed}": 0.5 + seed}, update, 400)
    assert call("status", str(tmp_path / "busy.yaml")) == 0
    assert "200/1,200 updates of 3 seeds, 2 at work or done: loss/seed0 0.5, loss/seed1 1.5" in capsys.readouterr().out
    assert call("status --json", str(tmp_path / "busy.yaml")) == 0
    work = next(s for s in json.loads(capsys.readouterr().out)["steps"] if s["step"] == "net")["work"]
    assert (work["update"], work["updates"]) == (200, 1200)
    assert [one["update"] for one in work["trainings"]] == [140, 60]
    with Events(storage, run, "driver2") as events:
        events.emit("progress", "net", done=1, total=3, reused=1, failed=0, workers=2)
        events.emit("progress", "net", done=0, total=3, reused=0, failed=0, workers=2)  # of what follows the trainings
    assert call("status", str(tmp_path / "busy.yaml")) == 0
    assert "600/1,200 updates of 3 seeds, 3 at work or done: loss" in capsys.readouterr().out, "one was done before"


def broken(folder: Path, name: str, frames: int, ends: bool) -> Path:
    """A recipe on the root that all share, whose expert breaks on every frame; the step ends all the same,
    or fails."""
    (folder / f"{name}_expert_{ends}.py").write_text(
        "def label(rgb):\n    raise ValueError(f'no edge in {rgb.mean():.3f}')\n"
    )
    written = recipe(folder / "shared")
    written["name"] = name
    written["steps"]["frames"]["source"] |= {"flights": 1, "frames": frames, "seed": frames}
    expert = {
        "type": "python",
        "call": f"{name}_expert_{ends}:label",
        "in": "rgb@camera",
        "out": "edges@mine",
        "per": "sample",
    }
    written["steps"]["labels"] |= {"experts": [expert], "max_quarantine": 1.0 if ends else 0.2}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(written, default=lambda v: int(v) if isinstance(v, np.integer) else str(v)))
    with contextlib.nullcontext() if ends else pytest.raises(hyperloom.HyperloomError):
        hyperloom.load(path).run(ray=False, mlflow=False, progress=False)
    return path


@pytest.mark.parametrize("ends", [True, False])
def test_failed_is_of_the_present_recipe_and_by_error(
    ends: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path
    one, other = broken(folder, "one", 2, ends), broken(folder, "other", 3, not ends)
    assert call("failed --json", str(one)) == 1
    ours = json.loads(capsys.readouterr().out)
    assert call("failed --json", str(other)) == 1
    theirs = json.loads(capsys.readouterr().out)
    assert call("failed --all --json", str(one)) == 1
    both = json.loads(capsys.readouterr().out)
    units = [{t["unit"] for t in answer["troubles"]} for answer in (ours, theirs, both)]
    assert units[0] and units[1] and not units[0] & units[1] and units[0] | units[1] == units[2]
    assert {t["step"] for t in ours["troubles"]} == {"labels"}
    assert call("failed --by error", str(one)) == 1
    shown = capsys.readouterr().out
    assert "count" in shown and "no edge in" in shown and "more of other recipes on this root" in shown
    assert call("failed --by error --json", str(one)) == 1
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert group["count"] == ours["count"] and group["steps"] == "labels", "numbers in an error make no other error"
    kept = [Trouble("s/u", key, "e", step="labels") for key in ("", "a", "b")]
    assert [row["what"] for row in grouped(kept, "step")] == ["1 failed, 2 quarantined"]
    assert [row["what"] for row in grouped(kept[:1], "step")] == ["failed"]
    assert [row["what"] for row in grouped(kept[1:], "error")] == ["quarantined"]
