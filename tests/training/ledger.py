"""A ledger of which samples each update saw, kept by an augmentation that changes nothing."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperloom.stages.augment.views import Augment


class Ledger(Augment):
    """Writes `{folder}/{seed of the update}/{first}-{end of this rank's part}`: a digest of each sample's picture.
    While the file `brake` is there, an update takes half a second longer."""

    folder: str
    brake: str = ""

    def draw(self, columns: Mapping[str, Any], count: int, part: slice, generator: Any) -> Any:
        return {"path": f"{generator.initial_seed()}/{part.start}-{part.stop}"}

    def apply(self, batch: Any, columns: Mapping[str, Any], drawn: Mapping[str, Any]) -> Any:
        path = Path(self.folder) / drawn["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        digests = [hashlib.sha256(picture.cpu().numpy().tobytes()).hexdigest() for picture in batch["rgb@camera"]]
        path.write_text("\n".join(digests))
        if self.brake and Path(self.brake).exists():
            time.sleep(0.5)
        return batch


def seen(folder: Path, batch: int) -> tuple[int, Counter[str]]:
    """How many updates there were, and how often each sample was part of one. An update that was made again after a
    crash, by as many workers or by others, must have had the same samples in the same order."""
    total: Counter[str] = Counter()
    updates = list(folder.iterdir())
    for update in updates:
        parts = {tuple(map(int, p.name.split("-"))): p.read_text().split() for p in update.iterdir()}
        whole: list[str | None] = [None] * batch
        for (first, end), digests in parts.items():
            assert len(digests) == end - first
            for place, digest in zip(range(first, end), digests, strict=True):
                assert whole[place] in (None, digest), "an update that was made again had other samples"
                whole[place] = digest
        assert None not in whole, "an update lacked a part of its batch"
        total.update(d for d in whole if d)
    return len(updates), total
