"""The target of an export: a folder that knows what was written into it, and so what else lies there."""

from __future__ import annotations

from hyperloom.pipeline.root.storage import Storage


class ExportTarget(Storage):
    """Where an export goes. Nothing is removed: other files may be somebody's own."""

    def __init__(self, url: str):
        super().__init__(url)
        self._written: set[str] = set()

    def write(self, path: str, data: bytes, durable: bool = True) -> None:
        super().write(path, data, durable)
        self._written.add(path)

    def others(self) -> list[str]:
        """Files in the folder or below it that were not written: of an earlier export with more or other samples or
        groups, by whose side whoever reads the folder takes them for part of this one. Hidden ones nobody reads."""
        others = (path for path in self.walk("") if path not in self._written)
        return [path for path in others if not any(part.startswith(".") for part in path.split("/"))]
