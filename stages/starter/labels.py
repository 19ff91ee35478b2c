"""Labels: which files of a folder are data and which are what somebody has said of them.

A folder called labels, masks, gt, depth and the like holds labels, as does what `--labels` names; in one folder a name
that is another's with `_mask`, `_label` and the like behind it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from hyperloom.pipeline.counting import counted
from hyperloom.stages.starter.annotations import box_truth
from hyperloom.stages.starter.pairing import paired
from hyperloom.stages.starter.survey import COPIES, DataFile, Survey, common
from hyperloom.stages.starter.truth import NotUnderstood, Truth, map_truth, names_of

FOLDERS = re.compile(
    r"labels?|masks?|annotations?|annots?|gt|truth|ground[ _-]?truth|seg(mentations?)?|segs|targets?|depths?|labelids",
    re.IGNORECASE,
)
BEHIND = re.compile(r"[ _.-](masks?|labels?|labelids|gt|seg|segmentation|annotation|target|depth)$", re.IGNORECASE)
MAPS = (".png", ".tif", ".tiff", ".bmp", ".npy", ".npz")


def divided(survey: Survey, given: Sequence[Survey]) -> tuple[list[DataFile], list[DataFile], list[DataFile]]:
    """Pictures, label maps, and notes that may hold annotations."""
    named = [f for s in given for f in (*s.of("pictures"), *s.of("arrays"))]
    inside = {f.path for f in named}
    pictures = [f for f in survey.of("pictures") if f.path not in inside]
    notes = [*(n for s in given for n in s.of("notes")), *([] if given else survey.of("notes"))]
    if given:
        return pictures, named, notes
    maps = [f for f in (*pictures, *survey.of("arrays")) if f.suffix.lower() in MAPS and _is_label(f, survey.folder)]
    chosen = {f.path for f in maps}
    left = [p for p in pictures if p.path not in chosen]
    return (left, maps, notes) if left else (pictures, [], notes)


def _is_label(file: DataFile, folder: str) -> bool:
    parts = os.path.relpath(file.folder, folder).split(os.sep)
    return any(FOLDERS.fullmatch(part) for part in parts) or bool(BEHIND.search(file.stem))


def truths_of(
    pictures: Sequence[DataFile], maps: Sequence[DataFile], notes: Sequence[DataFile], classes: Sequence[str],
    task: str, folder: str, named_by_user: bool,
) -> tuple[list[Truth], list[str]]:  # fmt: skip
    """What is known of these pictures, and what is to be said of files that are not used. `asked`: labels were named by
    the user, so that it is a mistake if there are none. Raises NotUnderstood."""
    root = common(pictures)
    truths: list[Truth] = []
    remarks: list[str] = []
    if maps:
        match = paired(pictures, root, maps)
        if match is not None:
            places = [f.folder for f in match.pairs.values()]
            near = names_of([places[0], os.path.dirname(places[0]), folder])
            truths.append(map_truth(match.template, match.pairs, near, task, classes))
            if match.lost:
                lost = counted(len(match.lost), "label file")
                remarks.append(f"{lost} without a picture, such as {match.lost[0].path}")
    boxes, unused = box_truth(pictures, root, notes, classes, os.path.join(folder, COPIES))
    remarks += unused
    if boxes is not None and not any(t.modality == boxes.modality for t in truths):
        truths.append(boxes)
    if named_by_user and not truths:
        some = next(iter([*maps, *notes]), None)
        what = f"such as {some.path}" if some else "and they hold no file that is read as labels"
        raise NotUnderstood(
            f"none of the {len(pictures)} pictures below {root} has a label there ({what}). Next: call the label of "
            "IMG_1.jpg IMG_1.png (class numbers), IMG_1.npy, IMG_1.txt (YOLO), IMG_1.xml (VOC) or IMG_1.json"
        )
    return truths, remarks
