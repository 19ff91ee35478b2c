"""Release: gates as recipes write them, who becomes champion, and a package that runs without Hyperloom."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import File
from hyperloom.pipeline.errors import RecipeError, StepFailed, Superseded
from hyperloom.pipeline.root.events import Events, read
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.stages.champion import line, load
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.modality import Dense, Image, Segmentation
from hyperloom.stages.release.command import release
from hyperloom.stages.release.gate import judge, parse
from hyperloom.stages.release.stage import Release
from hyperloom.stages.results import Judged
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

SIZE = (4, 6)
KNOWN: dict[str, Any] = {
    "rgb": Image(type="image", size=SIZE),
    "semantic": Segmentation(type="segmentation", classes=("land", "water"), size=SIZE),
    "depth": Dense(type="dense", size=SIZE, unit="m"),
}
BODY = {
    "split": "test",
    "lineage": {"shards": ""},
    "figures": {
        "student": {"semantic.miou": 0.6, "depth.mae": 2.0},
        "color": {"semantic.miou": 0.5},
        "sure": {"semantic.miou": 0.9},
        "same": {"semantic.miou": 0.6 - 1e-16},
        "far": {"depth.mae": 1.0},
    },
    "best_expert": {"semantic": "color", "depth": "far"},
}
REPORT = Judged.from_manifest(Manifest("evaluate", "", {}, body=BODY))


# -- gates -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("figure", "text", "champion", "passed"),
    [
        ("semantic.miou", ">= 0.6", None, True),
        ("semantic.miou", "> 0.6", None, False),
        ("semantic.miou", "> best_expert", None, True),
        ("semantic.miou", ">= best_expert + 0.2", None, False),
        ("semantic.miou", "> color", None, True),
        ("depth.mae", "< best_expert", None, False),
        ("depth.mae", "<= best_expert + 1.5", None, True),
        ("semantic.miou", ">= champion", None, True),
        ("semantic.miou", ">= champion - 0.005", {"semantic.miou": 0.604}, True),
        ("semantic.miou", ">= champion - 0.005", {"semantic.miou": 0.606}, False),
        ("depth.mae", "<= champion", {"semantic.miou": 0.5}, True),
        ("semantic.miou", ">= champion - 1e-3", {"semantic.miou": 0.601}, True),
        ("semantic.miou", ">= champion - 1e-3", {"semantic.miou": 0.602}, False),
        ("semantic.miou", "≥ champion \N{MINUS SIGN} .5E-2", {"semantic.miou": 0.605}, True),
        ("semantic.miou", "> 6E-1", None, False),
        ("semantic.miou", ">= champion - 0.3", {"semantic.miou": 0.9}, True),
        ("semantic.miou", ">= sure - 0.3", None, True),
        ("semantic.miou", "> same", None, False),
        ("semantic.miou", "> champion", {"semantic.miou": 0.6 - 1e-16}, False),
        ("semantic.miou", "> champion", {"semantic.miou": 0.6 - 1e-6}, True),
        ("depth.mae", "<=champion+1e+1", {"depth.mae": 0.0}, True),
    ],
)
def test_gates_decide_as_written(figure: str, text: str, champion: dict[str, float] | None, passed: bool) -> None:
    outcome = judge(parse(figure, text), "student", REPORT, champion)
    assert outcome.passed is passed
    assert ("holds" if passed else "FAILS") in outcome.reason


@pytest.mark.parametrize(
    ("figure", "text", "says"),
    [
        ("miou", ">= 0.3", "'miou' is no figure"),
        ("semantic.mio", ">= 0.3", "write modality.measure"),
        ("semantic.miou", "at least 0.3", "'at least 0.3' is no condition"),
        ("semantic.miou", "<= 0.3", "miou is better when larger"),
        ("depth.mae", ">= champion", "mae is better when smaller"),
        ("semantic.miou", ">= nan", "nan is no number"),
        ("semantic.miou", "> -inf", "-inf is no number"),
        ("semantic.miou", ">= champion - 1e999", "1e999 is no number"),
        ("semantic.miou", ">= champion - -0.1", "is no condition"),
        ("semantic.miou", ">= champion - 1e", "is no condition"),
        ("semantic.miou", ">= 0.5 - 0.1", "is no condition"),
        ("semantic.miou", ">= 0.3, > best_expert", "is no condition"),
        ("semantic.miou", ">= champion - 1 %", "knows no per cent"),
        ("semantic.miou", 0.3, "0.3 is no condition"),
        ("semantic.miou", [], "[] is no condition"),
    ],
)
def test_a_wrong_gate_is_an_error_of_the_recipe(figure: str, text: Any, says: str) -> None:
    with pytest.raises(ValidationError, match="gate") as caught:
        Release(stage="release", model="student", report="report", name="x", gate={figure: text})
    assert says in str(caught.value)


def test_a_figure_that_the_report_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"no semantic\.accuracy of 'student'; it has depth\.mae, semantic\.miou"):
        judge(parse("semantic.accuracy", "> 0.1"), "student", REPORT, None)
    with pytest.raises(ValueError, match="knows no 'nobody'"):
        judge(parse("semantic.miou", "> nobody"), "student", REPORT, None)


def test_a_model_whose_name_ends_like_an_offset_is_that_model() -> None:
    body = {**BODY, "figures": {"student": {"semantic.miou": 0.6}, "net-2": {"semantic.miou": 0.7}}}
    report = Judged.from_manifest(Manifest("evaluate", "", {}, body=body))
    assert not judge(parse("semantic.miou", ">= net-2"), "student", report, None).passed
    assert judge(parse("semantic.miou", ">= net-2 - 0.2"), "student", report, None).passed


@pytest.mark.parametrize("text", [">= 0.3", ">= best_expert", ">= champion"])
def test_a_figure_that_is_no_number_is_neither_passed_nor_failed(text: str) -> None:
    nan = float("nan")
    sides = [({"student": nan, "color": 0.5}, 0.5)] + (
        [({"student": 0.6, "color": nan}, nan)] if "0" not in text else []
    )
    for figures, champion in sides:
        body = {**BODY, "figures": {who: {"semantic.miou": value} for who, value in figures.items()}}
        report = Judged.from_manifest(Manifest("evaluate", "", {}, body=body))
        for standing in (None, {"semantic.miou": champion}) if text == ">= champion" else (None,):
            if standing is None and text == ">= champion" and figures["student"] == 0.6:
                continue  # there is nobody to compare with
            outcome = judge(parse("semantic.miou", text), "student", report, standing)
            assert not outcome.passed and "CANNOT BE DECIDED" in outcome.reason and "is no number" in outcome.reason


def test_a_decision_names_split_samples_and_interval() -> None:
    bounds = {"student": {"semantic.miou": [0.55, 0.65]}}
    row = {"who": "student", "against": "color", "figure": "semantic.miou", "low": 0.02, "high": 0.2}
    more = {"samples": 12, "intervals": {"level": 0.9}, "bounds": bounds, "differences": [row]}
    report = Judged.from_manifest(Manifest("evaluate", "", {}, body={**BODY, **more}))
    reason = judge(parse("semantic.miou", "> best_expert"), "student", report, None).reason
    for words in ("12 samples of the split `test`", "90 % interval 0.55 to 0.65", "difference is +0.02 to +0.2"):
        assert words in reason, reason


@pytest.mark.parametrize(
    ("common", "harder", "passed", "words"),
    [
        (
            (0.8, 0.9),
            None,
            True,
            "samples of the split `test`; on the 9 samples that far answers too 0.8 against 0.9",
        ),
        ((1.2, 0.9), None, False, "answers too 1.2 against 0.9"),
        ((0.8, 0.9), (2.0, 1.9), False, "; on the 11 samples that even answers too 2 against 1.9"),
        ((0.8, 0.9), (2.0, None), False, "CANNOT BE DECIDED, best_expert's figure is no number"),
    ],
)
def test_an_expert_that_answered_fewer_is_met_on_what_both_answer(
    common: tuple[float, float], harder: tuple[float, float | None] | None, passed: bool, words: str
) -> None:
    """Its mean over easier samples, 1, is no figure to hold the model's over all, 2, against."""
    row = {"who": "student", "against": "far", "figure": "depth.mae", "low": None, "samples": 9}
    more: dict[str, Any] = {"samples": 12, "differences": [{**row, "value": common[0], "reference": common[1]}]}
    if harder:
        both = {"value": harder[0], "expert_value": harder[1], "samples": 11}
        ahead = {"measure": "mae", "expert": "even", "best": "far", "common": both}
        more["verdict"] = {"student": {"depth": ahead}}
    report = Judged.from_manifest(Manifest("evaluate", "", {}, body={**BODY, **more}))
    outcome = judge(parse("depth.mae", "< best_expert"), "student", report, None)
    assert outcome.passed is passed and words in outcome.reason, outcome.reason
    if not harder:
        assert judge(parse("depth.mae", "< far"), "student", report, None).passed is passed


# -- the stage ---------------------------------------------------------------------------------------------------------
def _network() -> bytes:
    """rgb (N, H, W, 3) uint8 -> semantic: water where red is above 128, as scores; depth: blue."""
    from onnx import TensorProto, helper

    def constant(name: str, value: Any, kind: int) -> Any:
        array = np.asarray(value)
        return helper.make_tensor(name, kind, array.shape, array.ravel().tolist())

    nodes = [
        helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Split", ["float"], ["red", "green", "depth"], axis=3, num_outputs=3),
        helper.make_node("Sub", ["red", "half"], ["water"]),
        helper.make_node("Neg", ["water"], ["land"]),
        helper.make_node("Concat", ["land", "water"], ["semantic"], axis=3),
    ]
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info("rgb", TensorProto.UINT8, ["n", *SIZE, 3])],
        [
            helper.make_tensor_value_info("semantic", TensorProto.FLOAT, ["n", *SIZE, 2]),
            helper.make_tensor_value_info("depth", TensorProto.FLOAT, ["n", *SIZE, 1]),
        ],
        [constant("half", 128.0, TensorProto.FLOAT)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def _inputs(storage: Storage, miou: float, seed: int = 0, mae: float = 2.0, **grounds: Any) -> dict[str, Manifest]:
    """A student and its report, as distill and evaluate would have left them, over real shards."""
    draw = np.random.default_rng(0)
    samples = [{"rgb@camera": draw.integers(0, 255, (*SIZE, 3)).astype(np.uint8)} for _ in range(3)]
    raw = inline.ingested(storage, KNOWN, {"a": samples, "b": samples[::-1]})
    split = {"test": 0.5, "pin": {"test": ["b"], "train": ["a"]}}
    sharding = inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "shards", frames=raw)
    shards = inline.finish(sharding)
    data = _network()
    path = f"distill/{f'{seed:064x}'[:12]}/student.onnx"
    storage.write(path, data)
    outputs = [{"name": "semantic", "shape": [*SIZE, 2]}, {"name": "depth", "shape": [*SIZE, 1]}]
    body = {"columns_in": ["rgb@camera"], "tasks": ["semantic", "depth"], "parameters": 123456}
    body["onnx"] = {"outputs": outputs}
    files = (File(path, len(data), sha256(data)),)
    student = Manifest("distill", f"{seed:064x}", {}, (), files, body)
    figures = {**BODY["figures"], "student": {"semantic.miou": miou, "depth.mae": mae}}
    report = {
        **BODY,
        "figures": figures,
        "models": {"student": student.fingerprint},
        "lineage": {"shards": shards.fingerprint, "columns": {"rgb@camera": {}}},
        "split": "test",
        "truth": {"semantic": "semantic@truth", "depth": "depth@truth"},
        "samples": 3,
        "said": ["student beats every single expert"],
        "table": [{"who": "student", "semantic.miou": miou, "depth.mae": None}],
        **grounds,
    }
    return {"student": student, "report": Manifest("evaluate", f"{seed:063x}f", {}, (), (), report)}


def _release(
    storage: Storage, miou: float, seed: int = 0, mae: float = 2.0, **config: Any
) -> tuple[Manifest, list[dict[str, Any]]]:
    config = {"gate": {"semantic.miou": [">= 0.3", ">= champion - 0.005"]}, **config}
    grounds = config.pop("grounds", {})
    stage = Release(stage="release", model="student", report="report", name="aerial", **config)
    step = inline.step(stage, storage, KNOWN, "release", **_inputs(storage, miou, seed, mae, **grounds))
    step.events = Events(storage, f"run{seed}", "driver")
    made = inline.finish(step)
    return made, list(read(storage, f"run{seed}"))


def test_the_champion_moves_only_when_the_gate_passes(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    first, told = _release(storage, 0.6, 1)
    assert first.body["passed"]
    assert next(e for e in told if e["kind"] == "register")["alias"] == "champion"
    worse, told = _release(storage, 0.5, 2)
    assert not worse.body["passed"]
    event = next(e for e in told if e["kind"] == "register")
    assert event["alias"] is None and event["tags"]["gate"] == "failed"
    assert any("registered, but NOT the champion" in e["text"] for e in told if e["kind"] == "note")
    champion = load(storage, "aerial", "somebody else")
    assert champion is not None and champion.figures["semantic.miou"] == 0.6


def test_small_steps_down_add_up_to_no_more_than_one_tolerance(tmp_path: Path) -> None:
    """100 releases, each .005 worse than the last, and each of them within the tolerance to the one before."""
    storage = Storage(str(tmp_path))
    passed = [_release(storage, 0.6 - 0.005 * i, i + 1)[0].body["passed"] for i in range(12)]
    assert passed == [True, True] + [False] * 10
    champion = load(storage, "aerial", "somebody else")
    assert champion is not None and champion.behind == {"semantic.miou": pytest.approx(0.005)}
    made, _ = _release(storage, 0.6, 20)  # who is as good as the best there was ends that
    assert made.body["passed"] and (champion := load(storage, "aerial", "x")) and not champion.behind


def test_of_an_error_small_steps_up_add_up_too(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    gate = {"depth.mae": "<= champion + 0.1"}
    made = [_release(storage, 0.6, i, mae, gate=gate)[0].body["passed"] for i, mae in enumerate((2, 2.08, 2.16, 2.1))]
    assert made == [True, True, False, True]


def test_what_a_gate_without_the_champion_lets_down_is_meant(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    _release(storage, 0.6, 1)
    assert _release(storage, 0.4, 2, gate={"semantic.miou": ">= 0.3"})[0].body["passed"]
    assert _release(storage, 0.396, 3)[0].body["passed"]


@pytest.mark.parametrize("change", ["split", "truth", "classes"])
def test_a_champion_that_was_measured_otherwise_decides_nothing(tmp_path: Path, change: str) -> None:
    storage = Storage(str(tmp_path))
    _release(storage, 0.5, 1)
    inputs, known = _inputs(storage, 0.9, 2), KNOWN
    body = dict(inputs["report"].body)
    if change == "split":
        body["split"] = "train"
    elif change == "truth":
        body["truth"] = {"semantic": "semantic@human"}
    else:
        known = {**KNOWN, "semantic": Segmentation(type="segmentation", classes=("water", "land"), size=SIZE)}
    inputs["report"] = Manifest("evaluate", "e" * 64, {}, (), (), body)
    stage = Release(
        stage="release", model="student", report="report", name="aerial", gate={"semantic.miou": ">= champion"}
    )
    made = inline.finish(inline.step(stage, storage, known, "release", **inputs))
    assert not made.body["passed"]
    assert "CANNOT BE DECIDED, the champion's 0.5 was measured" in made.body["gate"][0]


LEAK = "LEAK: student: it was trained on 3 of the 3 samples that are judged (groups b): its figures prove nothing"
UNTRUE = "depth@consensus is no ground truth: a consensus made it from depth@far, depth@near"


@pytest.mark.parametrize(
    ("grounds", "config", "word", "outcome"),
    [
        (
            {"leaks": {"student": [LEAK]}, "seen": {"student": 3}},
            {},
            "held",
            "NOT the champion: its figures prove nothing",
        ),
        ({"leaks": {"student": [LEAK]}}, {"gate": {}}, "held", "NOT the champion: its figures prove nothing"),
        ({"leaks": {"student": [LEAK]}}, {"unproven": True}, "passed", "is the champion, UNPROVEN"),
        ({"leaks": {"color": [LEAK]}}, {}, "passed", "is the champion"),
        ({"untrue": {"depth": UNTRUE}}, {}, "passed", "is the champion"),
        ({"untrue": {"depth": UNTRUE}}, {"gate": {}}, "held", "NOT the champion: its figures prove nothing"),
        ({"untrue": {"semantic": UNTRUE}}, {}, "held", "NOT the champion: its figures prove nothing"),
        (
            {"untrue": {"semantic": UNTRUE}},
            {"gate": {"semantic.miou": "> 0.9"}},
            "failed",
            "NOT the champion: the gate failed, and its figures prove nothing",
        ),
        ({"unseen": ["student"]}, {}, "passed", "is the champion"),
    ],
)
def test_figures_that_prove_nothing_make_no_champion(
    tmp_path: Path, grounds: dict[str, Any], config: dict[str, Any], word: str, outcome: str
) -> None:
    storage = Storage(str(tmp_path))
    made, events = _release(storage, 0.6, grounds=grounds, **config)
    register = next(e for e in events if e["kind"] == "register")
    assert register["tags"]["gate"] == word and made.body["passed"] == (word == "passed")
    assert (register["alias"] == "champion") == (word == "passed") == (load(storage, "aerial", "x") is not None)
    assert any("aerial: " in e["text"] and outcome in e["text"] for e in events if e["kind"] == "note")
    card = storage.read(made.body["card"]).decode()
    assert ("3 samples of the split `test`, unseen in training" in card) == ("unseen" in grounds)
    if word == "held":
        assert any(line in (LEAK, f"NO TRUTH: {UNTRUE}") for line in made.body["gate"])
    if "seen" in grounds:
        assert "3 samples of the split `test`, 3 of which it learned from" in card and LEAK in card


def test_the_gate_says_what_a_model_was_judged_without_and_who_had_an_edge(tmp_path: Path) -> None:
    grounds = {"lacking": {"student": {"rgb@camera": 3}}, "leaks": {"color": ["LEAK: color: .."]}}
    made, _ = _release(Storage(str(tmp_path)), 0.6, grounds=grounds, gate={"semantic.miou": "> best_expert"})
    assert made.body["passed"]
    assert made.body["gate"][0].startswith(
        "semantic.miou > best_expert: holds (it is 0.6, judged without rgb@camera, on 3 "
    )
    assert made.body["gate"][1:] == ["student was judged without rgb@camera in 3 of 3 samples", "LEAK: color: .."]


def test_a_release_that_was_killed_after_crowning_decides_the_same_again(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    _release(storage, 0.5, 1)
    gate = {"semantic.miou": "> champion"}
    better, _ = _release(storage, 0.6, 2, gate=gate)
    storage.delete(f"{better.folder}/manifest.json")
    again, _ = _release(storage, 0.6, 2, gate=gate)
    assert again == better and again.body["passed"]


def test_a_release_that_was_overtaken_is_judged_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it packs (or its driver sleeps) another release becomes the champion, against whom it was not judged."""
    storage = Storage(str(tmp_path))
    _release(storage, 0.5, 1)
    pack = Release._package

    def overtaken(*about: Any) -> dict[str, Any]:
        monkeypatch.setattr(Release, "_package", pack)
        _release(storage, 0.7, 3)
        return pack(*about)

    monkeypatch.setattr(Release, "_package", overtaken)
    with pytest.raises(Superseded, match=r"does not become the champion of 'aerial': .* is champion now.*Next: run"):
        _release(storage, 0.6, 2)
    champion = load(storage, "aerial", "somebody else")
    assert champion is not None and champion.figures["semantic.miou"] == 0.7
    again, _ = _release(storage, 0.6, 2)
    assert not again.body["passed"]


def test_the_package_runs_without_hyperloom(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    made, _ = _release(storage, 0.6)
    folder = storage.path(made.folder)
    image = np.full((*SIZE, 3), 200, np.uint8)
    code = (
        "import sys; import numpy as np; from hyperloom_student import _load_pyfunc\n"
        f"s = _load_pyfunc({folder!r}); out = s.predict(np.load({folder + '/example.npy'!r}))\n"
        "big = s.predict([np.full((40, 60, 3), 200, np.uint8)])\n"
        "assert (big['semantic'] == 1).all() and big['semantic'].dtype == np.uint8, big\n"
        "assert 'pipeline' not in sys.modules and 'stages' not in sys.modules\n"
        "print({k: out[k].shape for k in ('semantic', 'depth')})"
    )
    code = f"import sys; sys.path.insert(0, {folder!r})\n{code}"
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "{'semantic': (1, 4, 6), 'depth': (1, 4, 6, 1)}"
    from hyperloom.stages.distill.hyperloom_student import Student

    student = Student(folder)
    assert (student.predict(image)["depth"] == 200).all()
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 RGB"):
        student.predict(np.zeros((*SIZE, 3), np.float32))
    card = storage.read(made.body["card"]).decode()
    assert "123,456 parameters" in card and "land, water" in card and "student beats every single expert" in card
    assert json.loads(storage.read(f"{made.folder}/student.json"))["size"] == list(SIZE)


def test_a_model_that_the_report_did_not_judge_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    inputs = _inputs(storage, 0.6)
    other = Manifest("distill", "f" * 64, {}, (), inputs["student"].files, inputs["student"].body)
    stage = Release(stage="release", model="student", report="report", name="aerial")
    step = inline.step(stage, storage, KNOWN, "release", student=other, report=inputs["report"])
    with pytest.raises(RecipeError, match=r"'report' did not judge 'student' \(it judged student\)"):
        step.stage.run(step)


def test_figures_of_an_ensemble_release_no_single_file(tmp_path: Path) -> None:
    """The name that a report gave the model first was taken, were it that of an ensemble with another model."""
    storage = Storage(str(tmp_path))
    inputs = _inputs(storage, 0.5)
    report, fingerprint = inputs["report"], inputs["student"].fingerprint
    body = {**report.body, "models": {"pair": fingerprint, "student": fingerprint}}
    body["figures"] = {"pair": {"semantic.miou": 0.9, "depth.mae": 1.0}, **report.body["figures"]}
    body["costs"] = {"pair": {"members": 2}, "student": {"members": 1}}

    def run(body: dict[str, Any], **config: Any) -> Any:
        stage = Release(stage="release", model="student", report="report", name="aerial", **config)
        judged = Manifest("evaluate", report.fingerprint, {}, (), (), body)
        step = inline.step(stage, storage, KNOWN, "release", student=inputs["student"], report=judged)
        return step.stage.run(step)

    made = run(body, gate={"semantic.miou": ">= 0.8"})
    assert (made.subject, made.figures["semantic.miou"], made.passed) == ("student", 0.5, False)
    alone = {**body, "models": {"pair": fingerprint}}
    for judged, config in ((body, {"subject": "pair"}), (alone, {})):
        with pytest.raises(RecipeError, match=r"judged 'pair' by several pooled answers.*without an ensemble"):
            run(judged, **config)


def test_a_model_without_an_onnx_file_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    inputs = _inputs(storage, 0.6)
    body = {k: v for k, v in inputs["student"].body.items() if k != "onnx"}
    teacher = Manifest("train", inputs["student"].fingerprint, {}, (), (), body)
    stage = Release(stage="release", model="student", report="report", name="aerial")
    step = inline.step(stage, storage, KNOWN, "release", student=teacher, report=inputs["report"])
    with pytest.raises(RecipeError, match="makes no ONNX file"):
        step.stage.run(step)


# -- back, and where it came from --------------------------------------------------------------------------------------
def test_rolling_back_makes_the_one_before_champion_and_tells_mlflow(tmp_path: Path, capsys: Any) -> None:
    storage, caught = Storage(str(tmp_path)), []
    made = [_release(storage, miou, seed, gate={})[0] for seed, miou in ((1, 0.5), (2, 0.6), (3, 0.4))]
    given = Namespace(rollback=True, adopt=False, name=None, wait=1.0)

    assert release(given, storage, ["aerial"], lambda: caught.append(1), str) == 0
    assert [c.release for c in line(storage, "aerial")] == [made[1].fingerprint, made[0].fingerprint]
    runs = [run for run in storage.names("events") if not run.startswith("run")]
    (event,) = read(storage, runs[0])
    assert event["kind"] == "alias" and event["fingerprint"] == made[1].fingerprint
    assert event["left"] == made[2].fingerprint and caught == [1]
    release(Namespace(rollback=False, adopt=False), storage, [], lambda: None, str)
    assert f"champion  {made[1].fingerprint[:12]}" in capsys.readouterr().out

    release(given, storage, ["aerial"], lambda: None, str)
    with pytest.raises(StepFailed, match="'aerial' is the only champion there was"):
        release(given, storage, ["aerial"], lambda: None, str)
    with pytest.raises(RecipeError, match="which name\\? there are a, b"):
        release(given, storage, ["a", "b"], lambda: None, str)


def test_whom_a_person_chose_in_mlflow_is_taken_over(tmp_path: Path, capsys: Any) -> None:
    storage = Storage(str(tmp_path))
    made = [_release(storage, miou, seed, gate={})[0].fingerprint for seed, miou in ((1, 0.5), (2, 0.6), (3, 0.7))]
    given = Namespace(rollback=False, adopt=True, name=None, wait=1.0)
    release(given, storage, ["aerial"], lambda: None, lambda _: made[2])
    assert "in MLflow and here" in capsys.readouterr().out and line(storage, "aerial")[0].release == made[2]
    release(given, storage, ["aerial"], lambda: None, lambda _: made[0])
    assert [c.release for c in line(storage, "aerial")] == made[:1]
    with pytest.raises(StepFailed, match="is the only champion there was"):
        release(given, storage, ["aerial"], lambda: None, lambda _: "99" * 32)


def test_a_version_says_which_shards_experts_and_code_made_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    inputs = _inputs(storage, 0.6)
    weights = "ab" * 32
    about = {"kind": "expert", "expert": {"type": "onnx"}, "revision": 2, "weights": [weights]}
    inputs["report"].body["lineage"]["columns"]["semantic@color"] = about
    inputs["student"].payload["config"] = {"data": "cd" * 32}
    step = inline.step(
        Release(stage="release", model="student", report="report", name="aerial"), storage, KNOWN, "release", **inputs
    )
    inline.finish(step)
    tags = next(e for e in read(storage, step.events.run) if e["kind"] == "register")["tags"]
    assert tags["made_by/semantic@color"] == f"expert onnx revision 2 weights:{weights}"
    assert tags["made_by/rgb@camera"] == "raw data"
    assert tags["shards"] == inputs["report"].body["lineage"]["shards"] and tags["trained_on"] == "cd" * 32
    assert len(tags["source.sha256"]) == 64
    if (Path(__file__).parents[2] / ".git").exists():
        assert len(tags["source.commit"].removesuffix("-dirty")) == 40


def test_the_champion_is_judged_on_the_frames_of_the_report_and_the_gate_uses_that(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    first, _ = _release(storage, 0.9, 1)  # so it says of itself
    draw = np.random.default_rng(0)
    samples = []
    for _ in range(4):
        rgb = draw.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
        wet = (rgb[..., 0] > 128).astype(np.uint8)  # what the champion's network says
        wrong = np.where(draw.random(SIZE) < 0.5, 1 - wet, wet).astype(np.uint8)
        samples.append({"rgb@camera": rgb, "semantic@truth": wet, "semantic@poor": wrong})
    raw = inline.ingested(storage, KNOWN, {"a": samples, "b": samples})
    split = {"test": 0.5, "pin": {"test": ["b"], "train": ["a"]}}
    sharding = inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "shards", frames=raw)
    stage = Evaluate(stage="evaluate", data="shards", champion="aerial", against="champion", pictures=0)
    report = inline.finish(inline.step(stage, storage, KNOWN, "report", shards=inline.finish(sharding)))
    assert report.body["figures"]["champion"]["semantic.miou"] == 1.0
    assert report.body["champion"] == first.fingerprint
    inputs = _inputs(storage, 0.95, 2)
    body = {**inputs["report"].body, "champion": first.fingerprint}
    body["figures"] = {**body["figures"], "champion": report.body["figures"]["champion"]}
    inputs["report"] = Manifest("evaluate", "e" * 64, {}, (), (), body)
    stage = Release(
        stage="release", model="student", report="report", name="aerial", gate={"semantic.miou": ">= champion"}
    )
    made = inline.finish(inline.step(stage, storage, KNOWN, "release", **inputs))
    assert not made.body["passed"]  # .95 is more than the champion once said of itself, and less than it does here
    assert "against 1" in made.body["gate"][0]


def test_a_student_in_bytes_travels_with_the_release(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    inputs, small = _inputs(storage, 0.5), _network()
    student = inputs["student"]
    path = f"{student.folder}/data/export-0-1.int8.onnx"
    storage.write(path, small)
    other = File("distill/other/data/export-0-2.int8.onnx", len(small), sha256(small))
    files = (*student.files, other, File(path, len(small), sha256(small)))
    inputs["student"] = Manifest("distill", student.fingerprint, {}, (), files, student.body)
    stage = Release(stage="release", model="student", report="report", name="aerial")
    released = inline.finish(inline.step(stage, storage, KNOWN, "release", **inputs))
    assert set(released.body["files"]) == {"student.onnx", "student.json", "student.int8.onnx"}
    assert storage.read(released.body["files"]["student.int8.onnx"]) == small
