"""Do committed files exist with the sizes that were promised? One listing a folder answers for all files in it."""

from __future__ import annotations

from collections.abc import Iterable

from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import File


class Listing:
    """Folders as they were when the first of their files was asked about."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self._sizes: dict[str, dict[str, int]] = {}

    def lacks(self, files: Iterable[File]) -> list[str]:
        """Paths of those files that are gone or have another size."""
        return [f.path for f in files if not self._has(f)]

    def _has(self, file: File) -> bool:
        folder, _, name = file.path.rpartition("/")
        if folder not in self._sizes:
            self._sizes[folder] = self.storage.sizes(folder)
        return self._sizes[folder].get(name) == file.bytes
