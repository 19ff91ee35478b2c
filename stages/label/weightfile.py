"""The files that an expert's identity is made of, as they were when that was made: whoever loads others says so.

A run lasts for hours, and somebody may bring newer weights to the same path meanwhile. What they say would be kept as
the answers of those before, and counted as such when these come back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from hyperloom.pipeline.errors import SourceError


@dataclass(frozen=True)
class WeightFile:
    """A local file; `mark` is its size and times where its `sha256` was taken."""

    path: str
    sha256: str
    mark: tuple[int, ...]

    def check(self) -> None:
        """Raise SourceError where another file lies there by now. One that does not lie there is elsewhere on this
        node, or gone, which its reader says."""
        if not os.path.isfile(self.path) or _mark(self.path) == self.mark:
            return
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise SourceError(
                f"{self.path} is another file than when this step began (its sha256 is {digest[:12]}, it was "
                f"{self.sha256[:12]}). Next: run the same command again"
            )


def weight_files(paths: Sequence[str], digests: Sequence[str]) -> tuple[WeightFile, ...]:
    """The local ones of `paths`, whose `digests` are these; none where the digests are of something else."""
    if len(paths) != len(digests):
        return ()
    local = ((os.path.expanduser(path), digest) for path, digest in zip(paths, digests, strict=True))
    return tuple(WeightFile(path, digest, _mark(path)) for path, digest in local if os.path.isfile(path))


def _mark(path: str) -> tuple[int, ...]:
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
