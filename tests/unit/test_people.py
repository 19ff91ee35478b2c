"""People in the loop: samples go out to three tools, what was changed comes back, and only that is done again."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import table
from hyperloom.stages.catalogue import catalogue
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.data.difference import difference
from hyperloom.stages.evaluate.grounds import untrue
from hyperloom.stages.formats import brush
from hyperloom.stages.lesson import truths
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.people import markup
from hyperloom.stages.people.export import Export, Sending, file_name
from hyperloom.stages.people.importing import read_file, take
from hyperloom.stages.people.ledger import PeopleEntry, PeopleLedger, digest_of, picture_digest
from hyperloom.stages.people.placing import placed
from hyperloom.stages.people.stage import People
from hyperloom.stages.select.stage import Select
from hyperloom.stages.table import read_table
from hyperloom.stages.train.stage import Train
from tests.unit import inline

SIZE = (12, 20)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["sky", "road", "car"]},
    weather={"type": "category", "classes": ["sun", "rain"]},
    marks={"type": "multilabel", "classes": ["wet", "dark"]},
    things={"type": "boxes", "classes": ["car", "dog"], "most": 4},
    parts={"type": "instances", "classes": ["car", "dog"], "most": 4},
    pose={"type": "keypoints", "points": ["head", "hand"], "swap": []},
    caption={"type": "text", "length": 32},
    share={"type": "dense"},
    worth={"type": "scalar"},
)
LEFT, RIGHT = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
LEFT[2:8, 1:7], RIGHT[4:10, 6:15] = True, True  # they overlap
VALUES: dict[str, Any] = {
    "parts": [{"mask": LEFT, "class": "dog", "id": 7, "score": 0.5}, {"mask": RIGHT, "class": "dog", "id": 4}],
    "semantic": np.repeat([[0], [1]], SIZE[0] // 2, 0).repeat(SIZE[1], 1).astype(np.uint8),
    "weather": np.array(0),
    "marks": np.array([1, 0], np.uint8),
    "things": [{"x0": 0.1, "y0": 0.25, "x1": 0.5, "y1": 0.75, "class": "dog", "score": 0.8}],
    "pose": {"head": [0.25, 0.5]},
    "caption": "a road",
}


def _frames(storage: Storage) -> Any:
    """Two groups of two partitions of two samples, each modality said by one expert."""
    values = {f"{name}@city": KNOWN[name].fit(value) for name, value in VALUES.items()}
    samples = {
        f"g{g}": [
            {**values, "rgb@camera": np.full((*SIZE, 3), 50 * g + i, np.uint8), "worth@select": np.array([g + 0.1 * i])}
            for i in range(4)
        ]
        for g in range(2)
    }
    return inline.ingested(storage, KNOWN, samples, rows=2)


@pytest.fixture
def root(tmp_path: Path) -> Any:
    storage = Storage(str(tmp_path / "root"))
    return SimpleNamespace(storage=storage, frames=_frames(storage), out=tmp_path / "out")


def _send(root: Any, tool: str, name: str, **more: Any) -> Export:
    steps = [SimpleNamespace(name="frames", manifest=root.frames, stage=None)]
    export = Export(root.storage, steps, KNOWN, Sending(f"{name}@city", "rgb@camera", tool, **more))
    root.counts = export.write(Storage(str(root.out)))
    return export


FILES = {"label-studio": "tasks.json", "cvat": "annotations.xml", "coco": "annotations.json"}
PAIRS = {"label-studio": VALUES, "cvat": [n for n in VALUES if n != "caption"]}
PAIRS |= {"coco": ["semantic", "things", "parts", "pose", "caption"]}
HELD = [(tool, name) for tool, names in PAIRS.items() for name in names]


def _answered(path: Path) -> list[dict[str, Any]]:
    """Tasks of Label Studio, each submitted as it was by Anna."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        result = task["predictions"][0]["result"]
        answer = {"id": task["id"], "completed_by": {"email": "anna@x.org"}, "was_cancelled": False}
        answer |= {"updated_at": "2026-03-01T10:00:00Z", "result": json.loads(json.dumps(result))}
        task["annotations"] = [answer]
    return list(tasks)


@pytest.mark.parametrize(("tool", "name"), HELD)
def test_what_nobody_changed_is_no_answer(root: Any, tool: str, name: str) -> None:
    export = _send(root, tool, name)
    path = root.out / FILES[tool]
    if tool == "label-studio":
        path.write_text(json.dumps(_answered(path)))
    report = take(export.ledger, KNOWN[name], read_file(str(path), tool), looked=tool == "label-studio")
    assert (report.changed, report.same, report.faults) == (0, 8, {})
    assert len(list((root.out / "images").iterdir())) == 8


def _edit(result: list[dict[str, Any]], name: str) -> None:
    if name == "semantic":  # a car, drawn before what is there: the list's order does not decide
        mask = np.zeros(SIZE, bool)
        mask[8:10, 2:5] = True
        value = {"format": "rle", "rle": brush.written(MaskRuns.of(mask)), "brushlabels": ["car"]}
        result.insert(0, {**result[0], "id": "new", "value": value})
    elif name == "parts":  # one is of another class, and drawn better; the other is gone, a third is new
        better, third = LEFT.copy(), np.zeros(SIZE, bool)
        better[2], third[11, 18] = False, True
        for region, mask, label in zip(result, (third, better), ("car", "car"), strict=True):
            region["value"] = {"format": "rle", "rle": brush.written(MaskRuns.of(mask)), "brushlabels": [label]}
    elif name == "weather":
        result[0]["value"]["choices"] = ["rain"]
    elif name == "marks":
        result[0]["value"]["choices"] = ["dark"]
    elif name == "things":
        result[0]["value"]["rectanglelabels"] = ["car"]
    elif name == "pose":
        result[0]["value"]["x"] += 10
    else:
        result[0]["value"]["text"] = ["a wet road"]


def _parts(value: Any) -> bool:
    one = KNOWN["parts"].unpacked_value(value)
    return [*zip(one.ids.tolist(), one.classes.tolist(), one.masks.sum((1, 2)).tolist(), strict=True)] == [
        (8, 0, 1), (7, 0, 30),
    ]  # fmt: skip


CHANGED: dict[str, Any] = {
    "parts": _parts,
    "semantic": lambda v: (v[8:10, 2:5] == 2).all() and (v == 2).sum() == 6,
    "weather": lambda v: v == 1,
    "marks": lambda v: v.tolist() == [0, 1],
    "things": lambda v: v[0, 4] == 0 and abs(v[0, :4] - [0.1, 0.25, 0.5, 0.75]).max() < 1e-6 and v[0, 5] == 1,
    "pose": lambda v: abs(v[0] - [0.35, 0.5, 1]).max() < 1e-6 and v[1, 2] == 0,
    "caption": lambda v: KNOWN["caption"].words(v) == "a wet road",
}


def _people(root: Any, name: str) -> Any:
    stage = People.model_validate({"stage": "people", "data": "frames", "columns": f"{name}@human"})
    step = inline.step(stage, root.storage, KNOWN, "people", frames=root.frames)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(root.storage))])
    return step


@pytest.mark.parametrize("name", VALUES)
def test_what_a_person_changed_comes_back_with_who_and_when(root: Any, name: str) -> None:
    export = _send(root, "label-studio", name)
    tasks = _answered(root.out / "tasks.json")
    _edit(tasks[2]["annotations"][0]["result"], name)  # g0/002, the first of the second partition
    tasks[5]["annotations"][0]["was_cancelled"] = True
    (root.out / "back.json").write_text(json.dumps(tasks))
    back = read_file(str(root.out / "back.json"), "label-studio")
    report = take(export.ledger, KNOWN[name], back, looked=True)
    assert (report.changed, report.same, report.unseen, report.faults) == (1, 6, 1, {})
    assert report.who == {"anna@x.org": 1}
    assert take(export.ledger, KNOWN[name], back, looked=True).changed == 0, "a project exported twice"
    made = inline.finish(_people(root, name))
    values = inline.column(root.storage, KNOWN, made, f"{name}@human")
    assert list(values) == ["g0/002", "g0/003"], "one unit, of the partition that holds it"
    assert values["g0/003"] is None and CHANGED[name](values["g0/002"])
    from hyperloom.stages.table import read_table

    table = read_table(root.storage, made.records[0].file.path, ["who", "when"]).to_pydict()
    assert table == {"who": ["anna@x.org", None], "when": ["2026-03-01T10:00:00Z", None]}
    assert made.body["coverage"][f"{name}@human"] == {"rows": 8, "missing": 7}


def _change(root: Any, place: int, label: str = "rain") -> Any:
    """A person says of one sample that it rains."""
    tasks = _answered(root.out / "tasks.json")
    tasks[place]["annotations"][0]["result"][0]["value"]["choices"] = [label]
    (root.out / "back.json").write_text(json.dumps(tasks))
    back = read_file(str(root.out / "back.json"), "label-studio")
    return take(PeopleLedger(root.storage, "weather@human"), KNOWN["weather"], back, looked=True)


def _votes(root: Any, answers: Any, **more: Any) -> Any:
    stage = ConsensusStage.model_validate(
        {"stage": "consensus", "data": ["frames", "people"], "out": "weather@votes", "method": {"type": "vote", **more}}
    )
    return inline.step(stage, root.storage, KNOWN, "votes", frames=root.frames, people=answers)


def test_instances_that_a_person_drew_are_the_outcome(root: Any) -> None:
    export = _send(root, "label-studio", "parts")
    tasks = _answered(root.out / "tasks.json")
    _edit(tasks[2]["annotations"][0]["result"], "parts")
    (root.out / "back.json").write_text(json.dumps(tasks))
    take(export.ledger, KNOWN["parts"], read_file(str(root.out / "back.json"), "label-studio"), looked=True)
    config = {"stage": "consensus", "data": ["frames", "people"], "out": "parts@all", "method": {"type": "match"}}
    people = inline.finish(_people(root, "parts"))
    votes = inline.step(
        ConsensusStage.model_validate(config), root.storage, KNOWN, "v", frames=root.frames, people=people
    )
    values = inline.column(root.storage, KNOWN, inline.finish(votes), "parts@all")
    assert _parts(values["g0/002"]) and not _parts(values["g0/003"])


def test_masks_of_another_size_than_the_picture_stay_here(root: Any) -> None:
    other = {**KNOWN, "parts": KNOWN["parts"].model_copy(update={"size": (6, 10)})}
    steps = [SimpleNamespace(name="frames", manifest=root.frames, stage=None)]
    with pytest.raises(RecipeError, match=r"parts@city is \(6, 10\), its picture rgb@camera \(12, 20\)"):
        Export(root.storage, steps, other, Sending("parts@city", "rgb@camera", "cvat"))


def test_an_answer_outranks_experts_and_redoes_its_own_partition_alone(root: Any) -> None:
    _send(root, "label-studio", "weather")
    first = inline.finish(_votes(root, inline.finish(_people(root, "weather"))))
    assert _change(root, 2).changed == 1
    people = inline.finish(_people(root, "weather"))
    second = inline.finish(_votes(root, people))
    ids = [[r.id for r in m.records] for m in (first, second)]
    assert [a == b for a, b in zip(*ids, strict=True)] == [True, False, True, True]
    assert {r.space for r in first.records} == {r.space for r in second.records}
    values = inline.column(root.storage, KNOWN, second, "weather@votes")
    assert [int(v) for v in values.values() if v is not None] == [0, 0, 1, 0, 0, 0, 0, 0]
    agreement = second.body["agreement"]["weather@votes"]
    row = agreement["equal"][agreement["columns"].index("weather@human")]
    assert dict(zip(agreement["columns"], row, strict=True)) == {
        "weather@city": 0.0, "weather@human": None, "weather@votes": 1.0}  # fmt: skip
    equal = inline.finish(_votes(root, people, people="equal"))
    assert {int(v) for v in inline.column(root.storage, KNOWN, equal, "weather@votes").values() if v is not None} == {0}
    third = inline.finish(_votes(root, people))
    assert _change(root, 2, "sun").changed == 1, "the last word counts, also where it is what the expert had said"
    again = inline.finish(_votes(root, inline.finish(_people(root, "weather"))))
    assert int(inline.column(root.storage, KNOWN, again, "weather@votes")["g0/002"]) == 0  # type: ignore[arg-type]
    assert [r.id for r in again.records][1] not in (third.records[1].id, first.records[1].id)


@pytest.mark.parametrize("method", ["vote", "dawid-skene", "copy", "median", "mean"])
def test_people_are_first_whatever_the_method_also_where_no_expert_says_anything(tmp_path: Path, method: str) -> None:
    storage = Storage(str(tmp_path))
    out = "semantic" if method in ("vote", "dawid-skene", "copy") else "share"
    kind, nothing = KNOWN[out].model_copy(update={"size": SIZE}), None
    shape = SIZE if out == "semantic" else (*SIZE, 1)
    dtype = np.uint8 if out == "semantic" else np.float32
    person = np.full(shape, 255 if out == "semantic" else np.nan, dtype)
    person[:3] = 2
    zero = np.zeros(shape, dtype)
    samples = [
        {f"{out}@a": zero, f"{out}@b": zero, f"{out}@human": person},
        {f"{out}@a": nothing, f"{out}@b": nothing, f"{out}@human": np.full(shape, 2, dtype)},
        {f"{out}@a": zero, f"{out}@b": nothing, f"{out}@human": nothing},
    ]
    known = {**KNOWN, out: kind}
    if out == "share":
        known[out] = kind.model_copy(update={"holes": True}) if "holes" in type(kind).model_fields else kind
        samples[0][f"{out}@human"] = np.full(shape, 2, dtype)
        person = samples[0][f"{out}@human"]
    frames = inline.ingested(storage, known, {"g": samples})
    stage = ConsensusStage.model_validate({"stage": "consensus", "data": "frames", "out": f"{out}@v", "method": method})
    made = inline.finish(inline.step(stage, storage, known, "votes", frames=frames))
    values = list(inline.column(storage, known, made, f"{out}@v").values())
    assert (values[0][:3] == 2).all() and ((values[0][3:] == 0).all() or out == "share")  # type: ignore[index]
    assert (values[1] == 2).all() and (values[2] == 0).all()


def test_an_answer_to_another_picture_is_left_out_and_counted(root: Any) -> None:
    _send(root, "label-studio", "weather")
    _change(root, 2)
    samples = {"g0": [{"rgb@camera": np.full((*SIZE, 3), 200 + i, np.uint8)} for i in range(4)]}
    root.frames = inline.ingested(root.storage, KNOWN, samples, rows=2)
    made = inline.finish(_people(root, "weather"))
    assert set(inline.column(root.storage, KNOWN, made, "weather@human").values()) == {None}
    assert "weather@human: 1 answer left out: another picture" in made.body["remarks"][0]


def test_what_a_select_step_chose_goes_out_in_its_order(root: Any) -> None:
    fields = {"data": "frames", "n": 3, "order": {"worth@select": "lowest"}, "out": "worth@choice", "worth": "worth@go"}
    stage = Select.model_validate({"stage": "select", **fields})
    choice = inline.finish(inline.step(stage, root.storage, KNOWN, "choice", frames=root.frames))
    steps = [SimpleNamespace(name=n, manifest=m, stage=None) for n, m in (("frames", root.frames), ("choice", choice))]
    sending = Sending("weather@city", "rgb@camera", "coco", order="worth@go", only="worth@choice")
    with pytest.raises(RecipeError, match="coco does not hold category"):
        Export(root.storage, steps, KNOWN, sending)
    Export(root.storage, steps, KNOWN, replace(sending, tool="label-studio")).write(Storage(str(root.out)))
    tasks = json.loads((root.out / "tasks.json").read_text())
    assert [task["data"]["key"] for task in tasks] == ["g0/000", "g0/001", "g0/002"]
    with pytest.raises(RecipeError, match=r"--order semantic@city: not one number a sample"):
        Export(root.storage, steps, KNOWN, replace(sending, tool="label-studio", order="semantic@city"))


def test_the_most_worth_goes_first_and_what_has_an_answer_stays(root: Any) -> None:
    _send(root, "label-studio", "weather", order="worth@select", most=3)
    keys = [task["data"]["key"] for task in json.loads((root.out / "tasks.json").read_text())]
    assert keys == ["g1/003", "g1/002", "g1/001"]
    _change(root, 0)
    _send(root, "label-studio", "weather", order="worth@select", most=2)
    assert [t["data"]["key"] for t in json.loads((root.out / "tasks.json").read_text())] == ["g1/002", "g1/001"]
    assert root.counts == {"samples": 2, "predicted": 2, "answered": 1}


def test_cvats_zip_brings_back_a_moved_box_a_new_tag_and_its_author(root: Any) -> None:
    export = _send(root, "cvat", "things")
    text = (root.out / "annotations.xml").read_text()
    assert text.count('xtl="2.0') == 8
    job = "<job><assignee><username>ben</username></assignee><updated>2026-04-01 08:00:00+00:00</updated>"
    text = text.replace('xtl="2.0', 'xtl="4.0', 1).replace("<job>", job, 1)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("annotations.xml", text)
    (root.out / "job.zip").write_bytes(data.getvalue())
    report = take(export.ledger, KNOWN["things"], read_file(str(root.out / "job.zip"), "cvat"))
    assert (report.changed, report.same, report.who) == (1, 7, {"ben": 1})
    (entry,) = export.ledger.answers().values()
    assert (entry.key, entry.when) == ("g0/000", "2026-04-01 08:00:00+00:00")
    (value,) = export.ledger.values([entry], KNOWN["things"])
    assert value[0, 0] == pytest.approx(0.2)


def test_what_is_not_understood_is_named_and_more_than_allowed_is_refused(root: Any) -> None:
    export = _send(root, "coco", "things")
    value = json.loads((root.out / "annotations.json").read_text())
    value["images"][0]["file_name"] = "elsewhere.png"
    value["categories"].append({"id": 9, "name": "cat"})
    value["annotations"][1]["category_id"] = 9
    path = root.out / "back.json"
    path.write_text(json.dumps(value))
    with pytest.raises(SourceError, match=r"2 of 8 pictures are not understood.*Nothing was taken"):
        take(export.ledger, KNOWN["things"], read_file(str(path), "coco"))
    report = take(export.ledger, KNOWN["things"], read_file(str(path), "coco"), allowed=0.5)
    assert report.faults["elsewhere.png"] == "no sample that went out has this name"
    assert "no class is 'cat'; they are car, dog" in list(report.faults.values())[1]
    assert (report.changed, report.same) == (0, 6)
    path.write_text(path.read_text()[:200])
    with pytest.raises(SourceError, match="is cut off"):
        read_file(str(path), "coco")


def test_what_a_tool_cannot_hold_is_refused_before_anything_goes_out(root: Any) -> None:
    with pytest.raises(RecipeError, match="coco does not hold category"):
        _send(root, "coco", "weather")
    with pytest.raises(RecipeError, match="did you mean 'weather@city'"):
        steps = [SimpleNamespace(name="frames", manifest=root.frames, stage=None)]
        Export(root.storage, steps, KNOWN, Sending("weather@ctiy", "rgb@camera", "cvat"))
    with pytest.raises(RecipeError, match="--most -1: expected how many"):
        _send(root, "cvat", "things", most=-1)
    known = {name: kind for name, kind in KNOWN.items() if name != "things"}  # a tagged step may have more
    with pytest.raises(RecipeError, match="things@city: the recipe defines no modality 'things'"):
        Export(root.storage, steps, known, Sending("things@city", "rgb@camera", "cvat"))
    assert not root.out.exists()


def test_points_of_pictures_without_a_size_are_named(root: Any) -> None:
    export = _send(root, "coco", "pose")
    value = json.loads((root.out / "annotations.json").read_text())
    for image in value["images"]:
        del image["width"], image["height"]
    path = root.out / "back.json"
    path.write_text(json.dumps(value))
    report = take(export.ledger, KNOWN["pose"], read_file(str(path), "coco"), allowed=1)
    assert set(report.faults.values()) == {"the point 'head' in a picture without width and height"}


def test_pictures_that_nobody_has_drawn_in_say_nothing_where_nothing_went_out(root: Any) -> None:
    samples = {"g0": [{"rgb@camera": np.full((*SIZE, 3), i, np.uint8), "things@city": None} for i in range(4)]}
    root.frames = inline.ingested(root.storage, KNOWN, samples)
    for tool in ("cvat", "coco"):
        export = _send(root, tool, "things")
        report = take(export.ledger, KNOWN["things"], read_file(str(root.out / FILES[tool]), tool))
        assert (report.changed, report.unseen) == (0, 4)


def test_people_weigh_three_times_as_much_as_a_target_where_no_weight_is_given() -> None:
    targets = {"weather": ["weather@votes", "weather@human"], "marks": {"marks@human": 1.5}, "pose": "pose@human"}
    stage = Train.model_validate({"stage": "train", "data": "s", "in": "rgb@camera", "targets": targets, "updates": 1})
    assert stage.targets == {
        "weather": {"weather@votes": 1.0, "weather@human": 3.0},
        "marks": {"marks@human": 1.5},
        "pose": {"pose@human": 1.0},
    }


def test_a_consensus_with_people_in_it_is_no_rival_where_they_judge(root: Any) -> None:
    people = inline.finish(_people(root, "weather"))
    made = inline.finish(_votes(root, people))
    about = made.body["columns"]["weather@votes"]["about"]
    assert truths("weather@votes", about) == ["weather@human"]
    assert (
        untrue({"weather": "weather@human"}, {"weather@human": people.body["columns"]["weather@human"]["about"]}) == {}
    )


REAL_CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id> <name>street</name> <size>8</size> <mode>annotation</mode> <overlap>0</overlap>
      <created>2026-05-01 07:00:00.000000+00:00</created> <updated>2026-05-02 09:30:00.000000+00:00</updated>
      <labels>
        <label><name>car</name><color>#ff355e</color><type>rectangle</type><attributes></attributes></label>
        <label><name>dog</name><color>#2080c0</color><type>rectangle</type><attributes></attributes></label>
      </labels>
      <owner><username>carla</username><email>carla@x.org</email></owner>
      <assignee></assignee>
    </task>
    <dumped>2026-05-03 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="images/{first}" width="20" height="12">
    <box label="dog" source="file" occluded="0" xtl="2.00" ytl="3.00" xbr="10.00" ybr="9.00" z_order="0"></box>
  </image>
  <image id="1" name="images/{second}" width="20" height="12">
    <box label="dog" source="file" occluded="0" xtl="2.00" ytl="3.00" xbr="10.00" ybr="9.00" z_order="0"></box>
    <box label="car" source="manual" occluded="1" xtl="12.50" ytl="6.00" xbr="20.00" ybr="11.25" z_order="0">
      <attribute name="parked">true</attribute>
    </box>
    <polyline label="car" source="manual" occluded="0" points="0.00,0.00;3.00,4.00" z_order="0"></polyline>
  </image>
  <image id="2" name="images/{third}" width="20" height="12">
  </image>
</annotations>
"""


def test_cvats_own_xml_by_hand_a_new_box_a_removed_one_and_one_left_alone(root: Any) -> None:
    export = _send(root, "cvat", "things")
    names = {place: file_name(f"g0/00{i}") for i, place in enumerate(("first", "second", "third"))}
    path = root.out / "real.xml"
    path.write_text(REAL_CVAT.format(**names))
    report = take(export.ledger, KNOWN["things"], read_file(str(path), "cvat"))
    assert (report.changed, report.same, report.faults, report.ignored["polylines"]) == (2, 1, {}, 1)
    answers = {e.key: e for e in export.ledger.answers().values()}
    assert {(e.who, e.when) for e in answers.values()} == {("carla", "2026-05-02 09:30:00.000000+00:00")}
    values = dict(zip(answers, export.ledger.values(list(answers.values()), KNOWN["things"]), strict=True))
    assert sorted(answers) == ["g0/001", "g0/002"]
    assert values["g0/001"][1].tolist() == pytest.approx([0.625, 0.5, 1.0, 0.9375, 0, 1])
    assert np.isnan(values["g0/002"]).all(), "no box is an answer too"


REAL_TASK = """{"id": 1, "annotations": [{"id": 101, "completed_by": 4, "result": [{"value": {"choices": ["rain"]},
  "id": "Dx_aB3", "from_name": "choice", "to_name": "image", "type": "choices", "origin": "manual"}],
  "was_cancelled": false, "ground_truth": false, "created_at": "2026-05-02T09:00:00.000000Z",
  "updated_at": "2026-05-02T09:00:05.000000Z", "draft_created_at": null, "lead_time": 5.2, "prediction": {},
  "result_count": 0, "unique_id": "u", "import_id": null, "last_action": null, "task": 1, "project": 3,
  "updated_by": 4, "parent_prediction": null, "parent_annotation": null, "last_created_by": null}],
  "file_upload": "1a2b3c4d-NAME", "drafts": [], "predictions": [],
  "data": {"image": "/data/upload/3/1a2b3c4d-NAME"}, "meta": {}, "created_at": "2026-05-02T08:00:00.000000Z",
  "updated_at": "2026-05-02T09:00:05.000000Z", "inner_id": 1, "total_annotations": 1, "cancelled_annotations": 0,
  "total_predictions": 0, "comment_count": 0, "project": 3, "updated_by": 4, "comment_authors": []}"""


def _real_task(number: int, name: str, choice: str, **more: Any) -> dict[str, Any]:
    """A task as Label Studio 1.x exports it, its picture uploaded by hand: nothing of ours is in its data."""
    task: dict[str, Any] = json.loads(REAL_TASK.replace("NAME", name))
    task["id"] = number
    task["annotations"][0] |= more
    task["annotations"][0]["result"][0]["value"]["choices"] = [choice]
    return task


def test_label_studios_own_export_of_uploaded_pictures(root: Any) -> None:
    export = _send(root, "label-studio", "weather")
    names = [file_name(f"g1/00{i}") for i in range(4)]
    tasks = [_real_task(1, names[0], "rain"), _real_task(2, names[1], "sun"), _real_task(3, names[2], "fog")]
    tasks.append(_real_task(4, names[3], "rain", was_cancelled=True))
    (root.out / "real.json").write_text(json.dumps(tasks))
    back = read_file(str(root.out / "real.json"), "label-studio")
    report = take(export.ledger, KNOWN["weather"], back, looked=True, allowed=0.5)
    assert (report.changed, report.same, report.unseen) == (1, 1, 1)
    assert list(report.faults.values()) == ["no class is 'fog'; they are sun, rain"]
    assert report.who == {"4": 1} and report.classes == {("sun", "rain"): 1}
    assert take(export.ledger, KNOWN["weather"], back, confirmed=True, looked=True, allowed=0.5).changed == 1
    assert sorted(e.key for e in export.ledger.answers().values()) == ["g1/000", "g1/001"]


@pytest.mark.parametrize("index", [0, 5])
@pytest.mark.parametrize("first", ["rgb@camera", "rgb@night"])
def test_of_answers_to_two_pictures_of_a_sample_the_last_counts(tmp_path: Path, first: str, index: int) -> None:
    """Which one did was chance (that of the pictures' digests), and both were counted: of one sample -1 was missing.
    Where earlier samples had gone in between, the first counted: its sample had stood at a higher `index`."""
    storage, pictures = Storage(str(tmp_path)), ["rgb@camera", "rgb@night"]
    one = {c: np.full((*SIZE, 3), i, np.uint8) for i, c in enumerate(pictures)}
    frames = inline.ingested(storage, KNOWN, {"g": [{**one, "weather@city": np.array(0)}]})
    steps = [SimpleNamespace(name="frames", manifest=frames, stage=None)]
    for picture, said in zip(sorted(pictures, key=lambda c: c != first), (0, 1), strict=True):
        export = Export(storage, steps, KNOWN, Sending("weather@city", picture, "label-studio", again=True))
        export.write(Storage(str(tmp_path / "out")))
        entry = list(export.ledger.entries("exports"))[-1]
        entry, value = replace(entry, index=0 if said else index), np.int64(said)
        export.ledger.add("imports", [replace(entry, who=picture, digest=digest_of(value))], [value], KNOWN["weather"])
    stage = People(stage="people", data=("frames",), columns=("weather@human",))
    made = inline.finish(inline.step(stage, storage, KNOWN, frames=frames))
    assert inline.column(storage, KNOWN, made, "weather@human") == {"g/000": 1}
    assert made.body["coverage"] == {"weather@human": {"rows": 1, "missing": 0}}


def test_an_answer_to_a_picture_that_an_expert_made_is_of_that_picture(tmp_path: Path) -> None:
    """Once it was read, it stayed with the sample whatever the expert made by then, or was left out for good."""
    storage, known = Storage(str(tmp_path)), {**KNOWN, **inline.modalities(photo={"type": "image", "size": [24, 40]})}
    photos = {f"photo@{c}": np.full((24, 40, 3), i, np.uint8) for i, c in enumerate(("day", "night"))}
    frames = inline.ingested(storage, known, {"g": [{**photos, "weather@city": np.array(0)}]})

    def small(photo: str) -> Any:
        experts = [{"type": "resize", "in": photo, "out": "rgb@small"}]
        stage = load("stage", "label").model_validate({"stage": "label", "data": ["frames"], "experts": experts})
        return inline.finish(inline.step(stage, storage, known, "small", frames=frames))

    steps = [SimpleNamespace(name=str(i), manifest=m, stage=None) for i, m in enumerate((frames, small("photo@day")))]
    export = Export(storage, steps, known, Sending("weather@city", "rgb@small", "label-studio"))
    export.write(Storage(str(tmp_path / "out")))
    (entry,), value = export.ledger.entries("exports"), np.int64(1)
    export.ledger.add("imports", [replace(entry, who="anna", digest=digest_of(value))], [value], KNOWN["weather"])
    said = []
    for photo in ("photo@day", "photo@night", "photo@day"):
        stage, inputs = People(stage="people", data=("frames", "small"), columns=("weather@human",)), small(photo)
        made = inline.finish(inline.step(stage, storage, known, frames=frames, small=inputs))
        said.append((inline.column(storage, KNOWN, made, "weather@human")["g/000"], len(made.body["remarks"])))
    assert said == [(1, 0), (None, 1), (1, 0)]


def test_boxes_that_a_tool_rounds_and_reorders_are_as_they_were() -> None:
    """CVAT rounds to hundredths of a pixel: of a hundred boxes some changed their order, and were `changed`."""
    random = np.random.default_rng(0)
    kind, size = SimpleNamespace(markup="boxes"), (1000, 1000)
    for _ in range(60):
        corners = np.sort(random.random((100, 2, 2)), 1).reshape(100, 4)
        sent = np.concatenate([corners, random.integers(0, 3, (100, 1)), np.ones((100, 1))], 1).astype(np.float32)
        back = sent[random.permutation(100)]
        back[:, :4] = np.round(back[:, :4].astype(np.float64) * 1000, 2) / 1000
        assert markup.alike(sent, back, kind, size)
        back[0, 4] = (back[0, 4] + 1) % 3
        assert not markup.alike(sent, back, kind, size) and not markup.alike(sent, back[1:], kind, size)


def _pictures_of(folder: Path, names: str, **source: Any) -> Any:
    """An ingest step over one picture for each letter, its grey that of the letter."""
    folder.mkdir(exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / f"{name}.png"), np.full((*SIZE, 3), ord(name), np.uint8))
    value = {"type": "files", "path": f"{folder}/*.png", "column": "rgb@camera", **source}
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": value, "rows": 2})
    step = inline.step(stage, Storage(str(folder.parent / "root")), KNOWN)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(step.storage))])
    return inline.finish(step)


@pytest.mark.parametrize("source", [{}, {"group": "(?P<group>[a-z])[.]png"}])
def test_answers_stay_with_samples_that_move(tmp_path: Path, source: dict[str, str]) -> None:
    """New pictures that come before them, or other groups, took most answers away, and said that the pictures were
    others."""
    folder, storage = tmp_path / "pictures", Storage(str(tmp_path / "root"))
    frames = _pictures_of(folder, "hijklm")
    ledger, given, values = PeopleLedger(storage, "weather@human"), [], []
    for record in frames.records:
        table = read_table(storage, record.file.path)
        for i, (key, group, index) in enumerate(zip(*(table[n].to_pylist() for n in ("key", "group", "index")))):
            seen, value = picture_digest(table["rgb@camera"].combine_chunks(), i), np.int64(ord(key[-1]) % 2)
            mine = PeopleEntry(key, group, index, seen, "", "anna", "", digest_of(value), "", 0, "rgb@camera")
            given, values = [*given, mine], [*values, value]
    ledger.add("imports", given, values, KNOWN["weather"])
    (folder / "m.png").unlink()
    frames = _pictures_of(folder, "abc", **source)
    stage = People(stage="people", data=("frames",), columns=("weather@human",))
    made = inline.finish(inline.step(stage, storage, KNOWN, frames=frames))
    said = {k[-1]: v for k, v in inline.column(storage, KNOWN, made, "weather@human").items() if v is not None}
    assert said == {name: ord(name) % 2 for name in "hijkl"}
    assert made.body["remarks"] == ["weather@human: 1 answer left out, of samples that are gone"]


def test_two_versions_of_answers_differ_by_what_was_answered(root: Any) -> None:
    """Of partitions in which nobody had answered the samples seemed to have come, and no value was gained."""
    export, made = _send(root, "label-studio", "weather"), []
    for keys in (["g0/000"], ["g0/001", "g1/002", "g1/003"]):
        entries = [replace(e, digest=digest_of(np.int64(1))) for e in export.ledger.entries("exports") if e.key in keys]
        export.ledger.add("imports", entries, [np.int64(1)] * len(entries), KNOWN["weather"])
        made.append(inline.finish(_people(root, "weather")))
    there = difference(root.storage, made[0], made[1], KNOWN).as_json()
    assert (there["samples"]["came"], there["samples"]["went"], there["samples"]["both"]) == (0, 0, 4)
    (column,) = there["columns"]
    assert (column["gained"], column["lost"], column["differ"]) == (3, 0, 0)
    (column,) = difference(root.storage, made[1], made[0], KNOWN).as_json()["columns"]
    assert (column["gained"], column["lost"], column["examples"]) == (0, 3, ["g0/001", "g1/002", "g1/003"])


def test_a_sample_that_is_gone_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each plan compared all tables of samples with their names, whole, where one answer was of a sample gone."""
    storage = Storage(str(tmp_path))
    frames = _frames(storage)
    ledger, value = PeopleLedger(storage, "weather@human"), np.int64(1)
    seen = PeopleEntry("g0/gone", "g0", 1, "", "", "anna", "", digest_of(value), "", 0, "rgb@camera")
    ledger.add("imports", [seen], [value], KNOWN["weather"])
    opened: list[str] = []

    def open_table(storage: Storage, path: str, **more: Any) -> Any:
        opened.append(path)
        return table.open_table(storage, path, **more)

    monkeypatch.setattr("hyperloom.stages.people.placing.open_table", open_table)
    monkeypatch.setattr(table, "_compare", lambda storage, path: opened.append(path) if "answers/" not in path else 0)
    for _ in range(2):
        places = placed(storage, ledger.answers().values(), catalogue([frames]))
        assert (places.partitions, places.gone) == ([], 1)
    assert sorted(opened) == sorted(record.file.path for record in frames.records)
