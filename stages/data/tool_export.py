"""Export to annotation tools' formats: pictures and files of annotations below one folder.

    coco            images/, annotations.json               coco-panoptic   images/, panoptic.json, panoptic/
    cvat            images/, annotations.xml                label-studio    images/, tasks.json, interface.xml
    yolo            images/, labels/, data.yaml             voc             JPEGImages/, Annotations/, ImageSets/
    labelme         images/, a JSON beside each             colour-masks    images/, masks/, classes.json
    folders         CLASS/, by the column of a category

Names of pictures are the samples' keys, with the suffix of what is stored (.png where a column keeps no files); a
second export writes the same bytes. Masks and boxes are at the size of the stored picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.storage import Storage
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
WITH_CROWDS = ("coco", "coco-panoptic")
LISTS = ("coco", "cvat")
UNLISTED = "those of which nothing is known are not in it"
FOLDER = {"voc": "JPEGImages"}
SUFFIX = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png", b"RIF": ".webp"}


def export_to_tool(reader: SampleReader, modalities: dict[str, Any], target: Storage, layout: ToolLayout) -> int:
    """Write everything that `reader` gives below `target`; returns the number of files. Raises RecipeError for columns
    that the layout cannot hold, StorageError."""
    images = [c for c in reader.columns if (m := modalities.get(modality_of(c))) is not None and m.rgb]
    if len(images) > 1:
        raise RecipeError(f"{' and '.join(images)} are pictures. Next: name one of them with --columns")
    others = [c for c in reader.columns if c not in images]
    columns = marks.written_columns(others, modalities)
    if layout == "folders":
        columns = [c for c in columns if marks.names_one(modalities[modality_of(c)])][:1]
        if not columns:
            raise RecipeError("folders by class need a category. Next: --columns with one, or another layout")
    writer = _Writer(target, layout, marks.categories(columns, modalities))
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
            if layout not in WITH_CROWDS and any(a.crowd for a in picture.annotations):
                picture.annotations = [a for a in picture.annotations if not a.crowd]
                remark(f"{layout} has no mark for a crowd, and would make it one thing: crowds are left out")
            writer.add(picture, data)
    return writer.finish()


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

    def __init__(self, target: Storage, layout: ToolLayout, categories: list[Any]):
        self.target, self.layout, self.count = target, layout, 0
        self.whole = AnnotationSet(categories)

    def add(self, picture: AnnotatedPicture, data: bytes) -> None:
        stem = picture.name.rpartition(".")[0]
        if self.layout == "folders":
            if picture.labels and data:
                self._write(f"{path_safe(picture.labels[0])}/{picture.name}", data)
            return
        if data:
            self._write(f"{FOLDER.get(self.layout, 'images')}/{picture.name}", data)
        if self.layout == "yolo" and picture.annotated:
            points = next((c.points for c in self.whole.categories if c.points), ())
            self._write(f"labels/{stem}.txt", yolo.written(picture, self.whole.names, points).encode())
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
            yield "interface.xml", label_studio_writer.interface(self.whole).encode()
        elif self.layout == "yolo":
            yield "data.yaml", yolo.data_yaml(self.whole)
        elif self.layout == "colour-masks":
            colours = {name: list(rgb) for name, rgb in zip(self.whole.names, _palette(self.whole), strict=True)}
            yield "classes.json", json.dumps(colours, ensure_ascii=False).encode()

    def _write(self, name: str, data: bytes) -> None:
        self.target.write(name, data)
        self.count += 1


def _palette(whole: AnnotationSet) -> list[tuple[int, ...]]:
    from hyperloom.stages.picture import palette

    given = palette(len(whole.categories)).tolist()
    return [tuple(c.colour or rgb) for c, rgb in zip(whole.categories, given, strict=True)]


def _colours(picture: AnnotatedPicture, whole: AnnotationSet) -> bytes:
    """A PNG of colours, one a class; black where there is none. Smaller things lie in front."""
    import numpy as np

    from hyperloom.stages.formats.shapes import mask_of

    size = (picture.height, picture.width)
    rgb = np.zeros((*size, 3), np.uint8)
    masks = [(a.label, m) for a in picture.annotations if (m := mask_of(a, size)) is not None]
    colours = dict(zip(whole.names, _palette(whole), strict=True))
    for label, mask in sorted(masks, key=lambda pair: -int(pair[1].sum())):
        rgb[mask] = colours[label]
    return encoded(rgb, PNG)
