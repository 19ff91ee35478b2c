"""The street frames in two groups a drive: its first 60 % (`0001TPearly`) and, after a gap of 4 %, the rest (`..late`).

    python -m recipes.papers.phg_mae.halves ../shared/data/street build/street_halves

writes links to the frames and labels under such names, for `student.yaml`, whose test is the late part of a drive.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

EARLY, GAP = 0.6, 0.04


def names(frames: list[dict[str, str]]) -> dict[str, str]:
    """Of a row of `frames.csv` its new name; none for those in the gap."""
    renamed = {}
    for drive in dict.fromkeys(f["sequence"] for f in frames):
        mine = [f for f in frames if f["sequence"] == drive]
        first = int(EARLY * len(mine))
        late = first + max(2, int(GAP * len(mine)))
        for i, frame in enumerate(mine):
            part = "early" if i < first else "late" if i >= late else ""
            if part:
                renamed[frame["name"]] = f"{drive}{part}_{frame['name'].split('_')[1]}"
    return renamed


def main(street: str, to: str) -> None:
    """Write the links below `to`."""
    with open(Path(street) / "frames.csv", encoding="utf-8", newline="") as file:
        renamed = names(list(csv.DictReader(file)))
    for kind in ("images", "labels"):
        (Path(to) / kind).mkdir(parents=True, exist_ok=True)
        for path in sorted((Path(street) / kind).iterdir()):
            link = Path(to) / kind / f"{renamed.get(path.stem)}{path.suffix}"
            if path.stem in renamed and not link.is_symlink():
                link.symlink_to(path.resolve())


if __name__ == "__main__":
    main(*sys.argv[1:3])
