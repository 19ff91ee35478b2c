"""Export to annotation tools' formats: pictures and files of annotations below one folder.

    coco            images/, annotations.json               coco-panoptic   images/, panoptic.json, panoptic/
    cvat            images/, annotations.xml                label-studio    images/, tasks.json, interface.xml
    yolo            images/, labels/, data.yaml             voc             JPEGImages/, Annotations/, ImageSets/
    labelme         images/, a JSON beside each             colour-masks    images/, masks/, classes.json
    folders         CLASS/, by the column of a category

Names of pictures are the samples' keys, with the suffix of what is stored (.png where a column keeps no files); a
second export writes the same bytes. Masks and boxes are at the size of the stored picture. What a layout has no place
for (columns, scores, holes of masks) is left out, and said.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.data import annotations as marks
from hyperloom.stages.data.layer import PNG, encoded
from hyperloom.stages.data.reader import SampleReader, modality, values
from hyperloom.stages.formats import coco_writer, cvat_writer, label_studio_writer, panoptic, polygon_files, voc, yolo
from hyperloom.stages.formats.annotation import AnnotatedPicture, AnnotationSet
from hyperloom.stages.ingest.source import path_safe
from hyperloom.stages.modality import imagefile
from hyperloom.stages.remarks import remark

ToolLayout = Literal[
    "coco", "coco-panoptic", "cvat", "label-studio", "yolo", "voc", "labelme", "colour-masks", "folders"
]
THINGS = ("boxes", "instances", "keypoints", "segmentation")
LABELS = ("category", "ordinal", "multilabel", "tags")
HELD: dict[str, tuple[str, ...]] = {
    "coco": (*THINGS, *LABELS, "text"),
    "coco-panoptic": ("instances", "segmentation", *LABELS),
    "cvat": (*THINGS, *LABELS),
    "label-studio": (*THINGS, *LABELS, "text"),
    "yolo": THINGS,
    "voc": THINGS,
    "labelme": ("boxes", "instances", "segmentation"),
    "colour-masks": ("instances", "segmentation"),
    "folders": ("category", "ordinal"),
}
"""The types of modalities that each layout has a place for."""
WITH_CROWDS = ("coco", "coco-panoptic")
UNSCORED = ("voc", "yolo", "labelme", "colour-masks", "coco-panoptic")
LISTS = ("coco", "cvat")
UNLISTED = "those of which nothing is known are not in it"
FOLDER = {"voc": "JPEGImages"}
LISTED = "train.txt"
"""Of YOLO, the pictures that somebody looked at."""
SUFFIX = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png", b"RIF": ".webp"}


def export_to_tool(reader: SampleReader, modalities: dict[str, Any], target: Storage, layout: ToolLayout) -> int:
    """Write everything that `reader` gives below `target`; returns the number of files. Raises RecipeError for columns
    that the layout cannot hold, StorageError."""
    images = [c for c in reader.columns if (m := modalities.get(modality_of(c))) is not None and m.rgb]
    if len(images) > 1:
        raise RecipeError(f"{' and '.join(images)} are pictures. Next: name one of them with --columns")
    columns = _held([c for c in reader.columns if c not in images], modalities, layout)
    writer = _Writer(target, layout, marks.categories(columns, modalities), _labels(columns, modalities))
    for rows in reader:
        kinds = {c: modality(c, modalities) for c in (*images, *columns)}
        read = {c: values(rows.columns[c], kind) for c, kind in kinds.items() if c not in images}
        for i, key in enumerate(rows.keys):
            data, suffix, size = (
                stored_picture(rows.columns[images[0]], i, kinds[images[0]]) if images else (b"", ".png", None)
            )
            size = size or _size(kinds)
            picture = marks.annotated(relative_name(key) + suffix, size, {c: read[c][i] for c in columns}, modalities)
            picture.group = rows.groups[i]
            _say_what_is_lost(picture, layout)
            writer.add(picture, data)
    return writer.finish()


def _held(columns: Sequence[str], modalities: Mapping[str, Any], layout: ToolLayout) -> list[str]:
    """Those of `columns` that a layout has a place for. Raises RecipeError where there is none, or two would be one."""
    types = {c: getattr(modalities.get(modality_of(c)), "type", "") for c in columns}
    held = [c for c, type_ in types.items() if type_ in HELD[layout]]
    if not held:
        raise RecipeError(
            f"{layout} holds {', '.join(HELD[layout])}, and no column is one of these ({', '.join(columns) or 'none'}"
            "). Next: --columns, or another layout"
        )
    held = marks.written_columns(held, modalities)
    if layout == "folders" and len(held) > 1:
        raise RecipeError(f"{' and '.join(held)} both name a folder. Next: name one of them with --columns")
    for column in columns:
        if column not in held:
            remark(f"{layout} has no place for {column}: it is left out")
    return held


def _labels(columns: Sequence[str], modalities: Mapping[str, Any]) -> list[str]:
    """The classes of whole pictures that `columns` can name."""
    kinds = [modalities[modality_of(c)] for c in columns]
    named = [getattr(k, "tags", k.classes if k.markup in ("choice", "marks") else ()) for k in kinds]
    return [name for names in named for name in names]


def _say_what_is_lost(picture: AnnotatedPicture, layout: ToolLayout) -> None:
    """Leave out crowds that a layout would make things, and say what else it does not keep."""
    if layout not in WITH_CROWDS and any(a.crowd for a in picture.annotations):
        picture.annotations = [a for a in picture.annotations if not a.crowd]
        remark(f"{layout} has no mark for a crowd, and would make it one thing: crowds are left out")
    if layout in UNSCORED and any(a.score is not None for a in picture.annotations):
        remark(f"{layout} has no place for scores: what an expert is unsure of goes out as if somebody had drawn it")
    if layout == "label-studio" and any(a.score is not None for a in picture.annotations):
        remark("label-studio takes annotations for what people drew: scores go along, and do not come back")
    if layout == "voc" and any(a.mask is not None for a in picture.annotations):
        remark("voc has no place for masks: the boxes around them go out")


def relative_name(key: str) -> str:
    """A sample's key as a relative path: as it is, but for parts that would lead elsewhere."""
    return "/".join(p if p.strip(".") and not set(p) & {"\\", "\0"} else path_safe(p) for p in key.split("/"))


def _size(kinds: Mapping[str, Any]) -> tuple[int, int]:
    """Of samples without a picture: that of the masks."""
    for kind in kinds.values():
        if getattr(kind, "size", None):
            return int(kind.size[0]), int(kind.size[1])
    raise RecipeError("the size of the pictures is not known. Next: --columns with an image, or a modality with a size")


def stored_picture(array: Any, row: int, kind: Any) -> tuple[bytes, str, tuple[int, int] | None]:
    """The bytes of a sample's picture as it is stored, or as a PNG; nothing where it has none."""
    cell = array[row]
    if not cell.is_valid:
        return b"", ".png", None
    if kind.codec not in ("raw", "native"):
        data = bytes(cell.as_py())
        head = imagefile.header(data, "picture")
        height, width = head.sides if kind.orientation == "ignore" else head.shown
        return data, SUFFIX.get(data[:3], ".png"), (int(height), int(width))
    (value,) = values(array.slice(row, 1), kind)
    return encoded(value, PNG), ".png", (value.shape[0], value.shape[1])


class _Writer:
    """Writes pictures as they come, and files of a whole data set at the end."""

    def __init__(self, target: Storage, layout: ToolLayout, categories: list[Any], labels: Sequence[str]):
        self.target, self.layout, self.labels, self.count = target, layout, labels, 0
        self.whole = AnnotationSet(categories)

    def add(self, picture: AnnotatedPicture, data: bytes) -> None:
        stem = picture.name.rpartition(".")[0]
        if self.layout == "folders":
            if picture.labels and data:
                self._write(f"{_folder(picture.labels[0])}/{picture.name}", data)
            return
        if data:
            self._write(f"{FOLDER.get(self.layout, 'images')}/{picture.name}", data)
        if self.layout == "yolo" and picture.annotated:
            points = next((c.points for c in self.whole.categories if c.points), ())
            data = yolo.written(picture, self.whole.names, points).encode()
            for name in dict.fromkeys((f"labels/{stem}.txt", yolo.place_of_labels(f"images/{stem}"))):
                self._write(name, data)
        elif self.layout == "voc" and picture.annotated:
            self._write(f"Annotations/{stem}.xml", voc.written(picture))
        elif self.layout == "labelme" and picture.annotated:
            self._write(f"images/{stem}.json", polygon_files.written(picture))
        elif self.layout == "colour-masks" and picture.annotated:
            self._write(f"masks/{stem}.png", _colours(picture, self.whole))
        if not picture.annotated and self.layout in LISTS:
            remark(f"{self.layout} takes a picture in its list for one in which there is nothing: {UNLISTED}")
            return
        picture.number = len(self.whole.pictures) + 1
        self.whole.pictures.append(picture)

    def finish(self) -> int:
        """The files of the whole; the number of all that were written."""
        for name, data in self._files():
            self._write(name, data)
        return self.count

    def _files(self) -> Iterator[tuple[str, bytes]]:
        if self.layout == "coco":
            yield "annotations.json", coco_writer.written(self.whole)
        elif self.layout == "coco-panoptic":
            data, maps = panoptic.written(self.whole)
            yield from ((f"panoptic/{name}", encoded(rgb, PNG)) for name, rgb in maps.items())
            yield "panoptic.json", data
        elif self.layout == "voc":
            stems = [picture.name.rpartition(".")[0] for picture in self.whole.pictures if picture.annotated]
            yield "ImageSets/Main/default.txt", "".join(f"{stem}\n" for stem in stems).encode()
        elif self.layout == "cvat":
            yield "annotations.xml", cvat_writer.written(self.whole)
        elif self.layout == "label-studio":
            yield "tasks.json", label_studio_writer.written(self.whole, folder="images")
            yield "interface.xml", label_studio_writer.interface(self.whole, self.labels).encode()
        elif self.layout == "yolo":
            some = not all(picture.annotated for picture in self.whole.pictures)
            if some:  # whoever trains takes a picture in the folder without a file of labels for one of nothing
                listed = [f"./images/{p.name}\n" for p in self.whole.pictures if p.annotated]
                yield LISTED, "".join(listed).encode()
                remark(f"yolo's trainings take a picture without labels for one of nothing: {LISTED} names the others")
            yield "data.yaml", yolo.data_yaml(self.whole, LISTED if some else "images")
        elif self.layout == "colour-masks":
            colours = {name: list(rgb) for name, rgb in zip(self.whole.names, _palette(self.whole), strict=True)}
            yield "classes.json", json.dumps(colours, ensure_ascii=False).encode()

    def _write(self, name: str, data: bytes) -> None:
        self.target.write(name, data)
        self.count += 1


def _folder(label: str) -> str:
    """A class as the name of a folder: its own, but for one that would lead elsewhere."""
    name = path_safe(label) if "/" in label else relative_name(label)
    if name != label:
        remark(f"the class {label!r} cannot be a folder's name: it goes out as {name!r}")
    return name


def _palette(whole: AnnotationSet) -> list[tuple[int, ...]]:
    """A colour for each class, that of the recipe where it gives one, and no two the same."""
    from hyperloom.stages.picture import palette

    count = len(whole.categories)
    taken = Counter(c.colour for c in whole.categories if c.colour)
    if twice := [colour for colour, times in taken.items() if times > 1]:
        names = [c.name for c in whole.categories if c.colour == twice[0]]
        raise RecipeError(f"{' and '.join(names)} have one colour, {twice[0]}. Next: mend the palette of the modality")
    free = iter([rgb for rgb in map(tuple, palette(count + len(taken)).tolist()) if rgb not in taken])
    return [c.colour or next(free) for c in whole.categories]


def _colours(picture: AnnotatedPicture, whole: AnnotationSet) -> bytes:
    """A PNG of colours, one a class; black where there is none. Things lie before maps, smaller ones before larger."""
    import numpy as np

    from hyperloom.stages.formats.shapes import mask_of

    size = (picture.height, picture.width)
    rgb = np.zeros((*size, 3), np.uint8)
    masks = [(a.layer, a.label, m) for a in picture.annotations if (m := mask_of(a, size)) is not None]
    colours = dict(zip(whole.names, _palette(whole), strict=True))
    seen = np.zeros(size, bool)
    for _, label, mask in sorted(masks, key=lambda one: (one[0], -int(one[2].sum()))):
        rgb[mask], seen = colours[label], seen | mask
    black = next((name for name, colour in colours.items() if not any(colour)), "")
    if black and not seen.all():
        remark(f"pixels of which nothing is known have the colour of {black!r}, black")
    return encoded(rgb, PNG)
