"""The recipe of pictures: a draft as commented YAML.

With labels: a teacher learns from them, labels the rest, and a student that needs only the picture learns from both,
judged on held-out labels. With networks alone: their consensus, a teacher over all that they tell, a student; the
figures then say how near these come to the networks, and nothing is proven. With one network: a student of it.
"""

from __future__ import annotations

from typing import Any

from hyperloom.stages.starter.draft import AUGMENT, Draft
from hyperloom.stages.starter.lines import block, comment, flow
from hyperloom.stages.starter.networks import NetworkLook

METRICS = {"category": ("accuracy", ">"), "segmentation": ("miou", ">"), "dense": ("mae", "<"), "boxes": ("map", ">")}
"""The figure that decides, and how the better of two compares."""
FLOORS = {"segmentation": 0.2, "boxes": 0.1}
"""What a champion must reach at least where no network is there to be beaten."""
MAPS = ("segmentation", "dense")
"""Types that have a size, and are planes that a teacher may read."""
LISTED = 100
"""Most classes without names that are written down."""
METHODS = {"segmentation": "vote", "category": "vote", "embedding": "mean"}
UPDATES = {"teacher": 300, "student": 400}
TRAINING: dict[str, Any] = {
    "model": {"trunk": "unet", "parameters": "280k"},
    "augment": AUGMENT,
    "optimizer": {"lr": 0.005},
    "batch": 8,
    "ema": 0.98,
}
LIGHT = "exposure, a factor of the light, leaves dark pictures visible, which brightness, a shift, turns black"
SPARSE = {"type": "huber", "delta": 10}
"""The objective of maps that are nothing nearly everywhere: the least absolute error, which is the default, is had by
seeing nothing at all; the least square is not."""
HELD_PINNED = 60
"""Most groups that are held out by name; more are dealt by a share."""


def written(draft: Draft) -> str:
    """The recipe's text."""
    lines = [*comment(_head(draft)), f"name: {draft.name}", f"root: {flow(f'{draft.folder}/.hyperloom')}", ""]
    lines += [*_modalities(draft), "", "steps:", *_frames(draft), *_labels(draft), *_votes(draft), *_shards(draft)]
    if draft.teaches:
        lines += [*_teacher(draft), *_soft(draft)]
    lines += [*_student(draft), *_report(draft), *_release(draft)]
    return "\n".join(lines) + "\n"


def _head(draft: Draft) -> list[str]:
    tasks = ", ".join(draft.modalities)
    if draft.truths and draft.looks:
        what = f"labels and networks: a teacher learns {tasks} from both, a small student of only the picture from it"
    elif draft.truths:
        what = (
            f"labels: a teacher learns {tasks} from them and labels the rest, a small student learns from all of that"
        )
    elif len(draft.looks) > 1:
        what = f"networks alone: a teacher learns {tasks} from all of them, a small student from it"
    else:
        what = f"one network: a small student learns {tasks} from it"
    proof = (
        "Judged on held-out labels, which no training sees"
        if draft.truths
        else "No label is here, so NOTHING IS PROVEN: figures say how near the student comes to the networks on "
        "pictures that it has not seen, not whether they are right. A few labels (init --labels DIR) change that"
    )
    return [f"Of {what}.", f"{proof}.", *draft.remarks, "Paths are absolute: correct them when the folder moves."]


def _modalities(draft: Draft) -> list[str]:
    remarks: dict[str, list[str]] = {t.modality: list(t.remarks) for t in draft.truths}
    for modality, looks in draft.sources.items():
        if draft.truth(modality) is None:
            remarks[modality] = [f"{looks[0].column}: {text}" for text in looks[0].guess.remarks]
    fields: dict[str, Any] = {}
    if draft.looks:
        fields["photo"] = {"type": "image", "size": list(draft.photo)}
        remarks["photo"] = ["what networks see; rgb is what is learned from"]
    size = {"size": list(draft.small)} if draft.looks else {}
    fields["rgb"] = {"type": "image", "size": list(draft.small)}
    for name, definition in draft.modalities.items():
        fields[name] = {**_counted(definition), **(size if definition["type"] in MAPS else {})}
        if definition["type"] == "segmentation":
            fields[_soft_name(name)] = {"type": "soft", "of": name, **size}
    return block("modalities", fields, 0, remarks)


def _counted(definition: dict[str, Any]) -> dict[str, Any]:
    """Very many classes without names are given by their number."""
    classes = definition.get("classes", [])
    nameless = len(classes) > LISTED and classes == [f"class{i}" for i in range(len(classes))]
    return {**definition, "classes": len(classes)} if nameless else definition


def _soft_name(modality: str) -> str:
    return "soft" + modality.removeprefix("semantic")


def _frames(draft: Draft) -> list[str]:
    columns = {t.column: t.side for t in draft.truths}
    source = {**draft.source, "column": "photo@camera" if draft.looks else "rgb@camera"}
    source |= {"columns": columns} if columns else {}
    why = [draft.grouping.why] if draft.grouping else []
    common = {"stage": "ingest", "group": "group", "rows": 8}
    lines = block("frames", {**common, "source": source}, 2, {"source": [f"groups: {w}" for w in why]})
    if draft.few:
        lines += ["", *comment(["the labelled ones alone, for the teacher"], 2)]
        only = {**source, "only": draft.few}
        lines += block("known", {**common, "source": only}, 2)
    return lines


def _labels(draft: Draft) -> list[str]:
    if not draft.looks:
        return []
    lines = ["", "  labels:", "    stage: label", "    data: frames", "    experts:"]
    lines.append("      - {type: resize, in: photo@camera, out: rgb@camera}")
    for one in draft.looks:
        lines += comment(one.remarks, 6)
        first, *rest = one.expert("photo@camera").items()
        lines.append(f"      - {first[0]}: {flow(first[1])}")
        lines += [f"        {key}: {flow(value)}" for key, value in rest]
        for name, scale in one.rivals.items():
            lines += comment([f"preprocess: {flow(scale)}      for {name}"], 8)
    return lines


def _votes(draft: Draft) -> list[str]:
    columns = {}
    for modality, looks in draft.sources.items():
        if len(looks) > 1:
            kind = looks[0].guess.definition["type"]
            columns[draft.pseudo(modality)] = {"method": METHODS.get(kind, "median")}
    if not columns:
        return []
    return ["", *block("votes", {"stage": "consensus", "data": "labels", "columns": columns}, 2)]


def _steps(draft: Draft) -> list[str]:
    return ["frames", *(["labels"] if draft.looks else []), *(["votes"] if _votes(draft) else [])]


def _split(draft: Draft) -> dict[str, Any]:
    """The field `split` of shards; none where all samples are one group."""
    if draft.single:
        return {}
    return {"split": _held(draft)}


def _held(draft: Draft) -> dict[str, Any]:
    if draft.pin:
        return {"by": "group", "pin": draft.pin}
    if not draft.held or len(draft.held) > HELD_PINNED:
        return {"by": "group", "test": 0.2}
    return {"by": "group", "pin": {"test": draft.held}}


def _shards(draft: Draft) -> list[str]:
    data = ["known"] if draft.few else _steps(draft)
    remark = ["held out as whole groups: nothing of them reaches a training"]
    keep = {"columns": ["rgb@camera", *_columns(draft)]} if draft.looks else {}
    return [
        "",
        *block("shards", {"stage": "shard", "data": data, **keep, **_split(draft)}, 2, {"split": remark}),
    ]


def _columns(draft: Draft) -> list[str]:
    votes = [draft.pseudo(m) for m, looks in draft.sources.items() if len(looks) > 1]
    return [*(t.column for t in draft.truths), *(one.column for one in draft.looks), *votes]


def _teacher(draft: Draft) -> list[str]:
    inputs = ["rgb@camera", *(one.column for looks in _read(draft).values() for one in looks)]
    mask = {"mask": {"type": "modality", "keep": 0.5}} if len(inputs) > 1 else {}
    fields = {"stage": "train", "data": "shards", "in": inputs, "targets": _targets(draft), **_losses(draft, True)}
    remarks = {"updates": ["more updates take longer and are better, up to a point"], **_why(draft)}
    how = _training(draft, True)
    if _read(draft):
        how["model"] = {**how["model"], "residual": True}
        remarks["model"] = ["residual: it begins with what the networks say and improves on it"]
    return ["", *block("teacher", {**fields, **mask, "updates": UPDATES["teacher"], **how}, 2, remarks)]


def _read(draft: Draft) -> dict[str, list[NetworkLook]]:
    """The networks whose answers the teacher reads, by what they tell."""
    return {m: looks for m, looks in draft.sources.items() if looks[0].guess.definition["type"] in MAPS}


def _training(draft: Draft, few: bool) -> dict[str, Any]:
    several = {"balancer": "uncertainty"} if len(draft.modalities) > 1 else {}
    batch = min(TRAINING["batch"], draft.learnable(few) or TRAINING["batch"])
    return {**several, **TRAINING, "batch": batch}


def _targets(draft: Draft) -> dict[str, Any]:
    targets: dict[str, Any] = {}
    for modality in draft.modalities:
        truth, pseudo = draft.truth(modality), draft.pseudo(modality)
        both = truth and pseudo
        targets[modality] = {truth.column: 1.0, pseudo: 0.3} if both and truth else truth.column if truth else pseudo
    return targets


def _losses(draft: Draft, hard: bool) -> dict[str, Any]:
    """`hard`: are maps of classes taught by ids?"""
    maps = [m for m, d in draft.modalities.items() if d["type"] == "segmentation"]
    losses: dict[str, Any] = {m: {"type": "cross-entropy", "balance": 0.5} for m in maps} if hard else {}
    losses |= dict.fromkeys(_sparse(draft), SPARSE)
    return {"losses": losses} if losses else {}


def _sparse(draft: Draft) -> list[str]:
    return [m for m, looks in draft.sources.items() if any(one.guess.sparse for one in looks)]


def _why(draft: Draft) -> dict[str, list[str]]:
    """Remarks beside the fields of a training."""
    sparse = _sparse(draft)
    rare = [f"{' and '.join(sparse)}: most pixels are nothing, and the default, l1, is least where nothing is seen"]
    return {"augment": [LIGHT], **({"losses": rare} if sparse else {})}


def _soft(draft: Draft) -> list[str]:
    out = [f"{m}@teacher" for m in draft.modalities]
    out += [f"{_soft_name(m)}@teacher" for m, d in draft.modalities.items() if d["type"] == "segmentation"]
    expert = {"type": "model", "model": "teacher", "out": out, **_ensemble(draft)}
    inputs = ["frames", *(["labels"] if draft.looks else [])]
    lines = ["", *comment(["the teacher labels all that there is"], 2)]
    lines += block("soft", {"stage": "label", "data": inputs, "experts": [expert]}, 2)
    columns = ["rgb@camera", *out, *(t.column for t in draft.truths)]
    fields = {"stage": "shard", "data": [*_steps(draft), "soft"], "columns": columns, **_split(draft)}
    return [*lines, "", *block("lessons", fields, 2)]


def _ensemble(draft: Draft) -> dict[str, Any]:
    """How the teacher is asked: over random subsets of its inputs, which all show the only network of a modality."""
    sole = [m for m, looks in _read(draft).items() if len(looks) == 1]
    shown = {"mask": {"type": "modality", "visible": sole}} if sole else {}
    return {"ensemble": {"type": "masks", "members": 8, **shown}} if draft.looks else {}


def _student(draft: Draft) -> list[str]:
    fields: dict[str, Any] = {"stage": "distill", "data": "shards"}
    targets = _targets(draft)
    if draft.teaches:
        fields |= {"data": "lessons", "teacher": "teacher"}
        for modality, definition in draft.modalities.items():
            soft = definition["type"] == "segmentation"
            tasks = f"{_soft_name(modality) if soft else modality}@teacher"
            truth = draft.truth(modality)
            targets[modality] = {tasks: 1.0, truth.column: 0.5} if truth else tasks
    fields |= {"in": "rgb@camera", "targets": targets, **_losses(draft, not draft.teaches)}
    fields |= {"updates": UPDATES["student"], **_training(draft, False)}
    return ["", *block("student", fields, 2, {} if draft.teaches else _why(draft))]


def _report(draft: Draft) -> list[str]:
    truth = {t.modality: t.column for t in draft.truths} or {m: draft.pseudo(m) for m in draft.modalities}
    models: dict[str, Any] = {"student": "student"}
    if draft.teaches:
        models = {"teacher": {"model": "teacher", **_ensemble(draft)}, **models}
    remarks = [] if draft.truths else ["no truth: what the networks say stands in its place"]
    fields = {"stage": "evaluate", "data": "shards", "models": models, "truth": truth}
    fields |= {"split": "train"} if draft.single else {}
    seen = ["one film is one group, so nothing is held out: these figures are of what was trained on"]
    return ["", *block("report", fields, 2, {"truth": remarks, "split": seen})]


def _release(draft: Draft) -> list[str]:
    gate = {}
    for truth in (t for t in draft.truths if draft.pseudo(t.modality)):
        metric, better = METRICS[truth.type]
        gate[f"{truth.modality}.{metric}"] = [f"{better} best_expert"]
    for truth in (t for t in draft.truths if not draft.pseudo(t.modality)):
        if floor := FLOORS.get(truth.type):
            gate[f"{truth.modality}.{METRICS[truth.type][0]}"] = [f">= {floor}"]
    fields = {"stage": "release", "model": "student", "report": "report", "name": draft.name}
    remarks = ["a student that fails the gate is registered and is no champion: put your own bar here"]
    if not draft.truths:
        remarks = ["registers the student; without truth it makes no champion of it"]
    return ["", *comment(remarks, 2), *block("release", {**fields, **({"gate": gate} if gate else {})}, 2)]
