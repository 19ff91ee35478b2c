"""Do committed files exist with the sizes that were promised? One listing a folder answers for all files in it."""

from __future__ import annotations

from collections.abc import Iterable

from hyperloom.pipeline.commits.records import FilePlace
from hyperloom.pipeline.root.storage import Storage


class Listing:
    """Folders as they were when the first of their files was asked about."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self._sizes: dict[str, dict[str, int]] = {}

    def lacks(self, places: Iterable[FilePlace]) -> list[str]:
        """Paths of those files that are gone or have another size."""
        gone, last, sizes = [], "", dict[str, int]()
        for folder, name, size in places:
            if folder != last:
                last, sizes = folder, self._folder(folder)
            if sizes.get(name) != size:
                gone.append(f"{folder}/{name}")
        return gone

    def _folder(self, folder: str) -> dict[str, int]:
        if folder not in self._sizes:
            self._sizes[folder] = self.storage.sizes(folder)
        return self._sizes[folder]
