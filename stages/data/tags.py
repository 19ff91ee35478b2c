"""TagBook: names of what a step had made at one time, so that it can be found, compared and read again later.

    tags/{name}/{number}.json    the pointer: step, stage, fingerprint

A manifest stays under the root when its recipe moves on, so a tag is a pointer to one and copies nothing. It is written
after the version that its writer has read; a tag moves only when told so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import IntegrityError, RecipeError
from hyperloom.pipeline.fingerprint import SHORT
from hyperloom.pipeline.root.pointer import Pointer
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near


@dataclass(frozen=True)
class Tag:
    """A name and what it points to: the step of a recipe as it was, `stage` and `fingerprint`."""

    name: str
    step: str
    stage: str
    fingerprint: str
    rows: int = 0

    @property
    def short(self) -> str:
        return f"{self.stage}/{self.fingerprint[:SHORT]}"


class TagBook:
    """The tags of a root."""

    def __init__(self, storage: Storage):
        self.storage, self.folder = storage, "tags"

    def all(self) -> list[Tag]:
        """By name."""
        return [tag for name in sorted(self.storage.names(self.folder)) if (tag := self._read(name)) is not None]

    def names(self) -> list[str]:
        return [tag.name for tag in self.all()]

    def get(self, name: str) -> Tag:
        """Raises RecipeError where there is none of this name."""
        tag = self._read(name)
        if tag is None:
            known = self.names()
            listed = ", ".join(known) or "none"
            raise RecipeError(f"there is no tag {name!r}{near(name, known)}; tags: {listed}. Next: hyperloom data tag")
        return tag

    def set(self, tag: Tag, move: bool = False) -> Tag | None:
        """Point a name at something; what it pointed to before. Raises RecipeError where it does so already and may not
        `move`, Superseded, StorageError."""
        if not tag.name.strip(".") or tag.name != tag.name.strip() or set(tag.name) & set("/\\\0"):
            raise RecipeError(f"no tag can be called {tag.name!r}: letters, digits, dots and dashes do")
        pointer = self._pointer(tag.name)
        version = pointer.read()
        before = Tag(**version.value) if version.value else None
        if before is not None and before.fingerprint != tag.fingerprint and not move:
            raise RecipeError(
                f"the tag {tag.name!r} is at {before.short} ({before.step}). Next: another name, or --move"
            )
        if before != tag:
            pointer.write(asdict(tag), version)
        return before

    def remove(self, name: str) -> None:
        """Raises RecipeError where there is none, Superseded, StorageError."""
        self.get(name)
        pointer = self._pointer(name)
        pointer.write(None, pointer.read())

    def manifest(self, name: str) -> Manifest:
        """What a tag points to. Raises RecipeError where it is gone."""
        tag = self.get(name)
        try:
            manifest = manifests.load(self.storage, tag.stage, tag.fingerprint)
        except IntegrityError as error:
            raise RecipeError(f"what the tag {name!r} points to is damaged: {error}") from error
        if manifest is None:
            raise RecipeError(f"what the tag {name!r} points to ({tag.short}) is gone from {self.storage}")
        return manifest

    def _read(self, name: str) -> Tag | None:
        value: Any = self._pointer(name).read().value
        return Tag(**value) if value else None

    def _pointer(self, name: str) -> Pointer:
        return Pointer(self.storage, f"{self.folder}/{name}", f"the tag {name!r}")
