"""The target of an export: a folder that knows what was written into it, and so what else lies there."""

from __future__ import annotations

from hyperloom.pipeline.storage import Storage


class ExportTarget(Storage):
    """Where an export goes. Nothing is removed: other files may be somebody's own."""

    def __init__(self, url: str):
        super().__init__(url)
        self._names: dict[str, set[str]] = {}

    def write(self, path: str, data: bytes, durable: bool = True) -> None:
        super().write(path, data, durable)
        folder, _, name = path.rpartition("/")
        self._names.setdefault(folder, set()).add(name)

    def others(self) -> list[str]:
        """Files in the folders that were written to, which were not: of an earlier export with more or other samples,
        by whose side whoever reads the folder takes them for part of this one."""
        beside = ((folder, name) for folder, mine in sorted(self._names.items()) for name in self.sizes(folder)
                  if name not in mine)  # fmt: skip
        return sorted(f"{folder}/{name}" if folder else name for folder, name in beside)
