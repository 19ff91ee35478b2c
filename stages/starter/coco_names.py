"""Names in a file of COCO's: which of the pictures here each of its images is.

A name is relative to a folder that the file does not tell. The picture of that very relative name is meant, else the
one whose name ends so (or begins above), else the only one that is called so without folders. What fits several, or is
as good a name of a picture as another image's, is nobody's: labels of another picture would be worse than none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.root.filelist import normal
from hyperloom.stages.starter.survey import DataFile, key


class CocoNames:
    """`keys`: of the picture below `root` that an image is, by the image's id as text; `unclear`: names of images that
    fit several pictures, or share one. Raises KeyError for an image without a name."""

    def __init__(self, coco: Mapping[str, Any], pictures: Sequence[DataFile], root: str):
        paths = {normal(os.path.relpath(p.path, root)).replace(os.sep, "/"): key(p, root) for p in pictures}
        by_base: dict[str, list[str]] = {}
        for path in paths:
            by_base.setdefault(path.rpartition("/")[2], []).append(path)
        claims: dict[str, dict[int, list[str]]] = {}
        self.unclear: list[str] = []
        names = {str(image["id"]): str(image["file_name"]) for image in coco["images"]}
        for image, name in names.items():
            rank, fitting = _fitting(normal(name).replace("\\", "/"), by_base)
            if len(fitting) == 1:
                claims.setdefault(fitting[0], {}).setdefault(rank, []).append(image)
            elif fitting:
                self.unclear.append(name)
        self.keys: dict[str, str] = {}
        for path, ranks in claims.items():
            best = ranks[min(ranks)]
            if len(best) == 1:
                self.keys[best[0]] = paths[path]
            else:
                self.unclear += [names[image] for image in best]
        self.absent = len(names) - len(self.keys) - len(self.unclear)
        self._root = root

    def remarks(self, path: str) -> list[str]:
        """What is to be said of images of the file at `path` that are no picture."""
        sentences = []
        if self.unclear:
            sentences.append(
                f"{counted(len(self.unclear), 'name')} in {path} fit several pictures below {self._root} or one that "
                f"has another, such as {self.unclear[0]}: these have no label. Next: init the folder that its names "
                "are relative to"
            )
        if self.absent:
            sentences.append(f"{counted(self.absent, 'picture')} of {path} do not lie below {self._root}")
        return sentences


def _fitting(name: str, by_base: Mapping[str, Sequence[str]]) -> tuple[int, list[str]]:
    """How well, 0 being best, and which pictures a name fits."""
    near = by_base.get(name.rpartition("/")[2], ())
    if name in near:
        return 0, [name]
    ends = [path for path in near if "/" in name and (path.endswith(f"/{name}") or name.endswith(f"/{path}"))]
    return (1, ends) if ends else (2, list(near))
