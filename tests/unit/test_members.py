"""An ensemble's members: what fewer of them come to, and whether it errs where they differ, up to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate import members
from hyperloom.stages.measure.scores import score
from hyperloom.stages.measure.sheet import Sheet
from hyperloom.stages.report import figures
from hyperloom.stages.report.page import Chart, PageTable
from hyperloom.stages.results import Judged
from tests.unit.inline import modalities

KNOWN = modalities(
    depth={"type": "dense", "unit": "m", "size": [4, 4]},
    semantic={"type": "segmentation", "classes": ["a", "b"], "size": [4, 4]},
)
DEPTH = KNOWN["depth"]
ONE = np.ones(1, bool)


def record(storage: Storage, name: str, errors: Sequence[float | None], known: bool = True) -> Any:
    """A shard on whose samples the answer is off by `errors`, with members that differ by a tenth of it; one member
    alone is off by twice as much. None: there is no answer."""
    sheet, smaller, truth = Sheet(), members.Smaller(), np.full((1, 4, 4, 1), 5, np.float32)
    for i, error in enumerate(errors):
        off, given = np.float32(error or 0), ONE & (error is not None)
        sums = score(DEPTH, truth, truth + off, ONE & known, given)
        spread = {} if error is None else members.apart(np.full((4, 4, 1), error / 10))
        sheet.add(f"{name}{i}", name, i, {"depth": sums | spread})
        smaller.add(1, "depth", score(DEPTH, truth, truth + 2 * off, ONE & known, given))
    file = SimpleNamespace(path=f"{name}.parquet")
    storage.write(file.path, sheet.to_parquet())
    return SimpleNamespace(meta={"sums": sheet.sums(), **smaller.meta()}, files=[None, file])


def judged(storage: Storage, *records: Any, count: int = 2) -> dict[str, Any] | None:
    from hyperloom.stages.measure.sums import merged

    sums = merged([r.meta["sums"]["depth"] for r in records])
    return members.ensemble(storage, DEPTH, "depth", sums, records, count)


def test_sizes_double_up_to_all() -> None:
    assert members.sizes(1) == (1,) and members.sizes(8) == (1, 2, 4, 8) and members.sizes(5) == (1, 2, 4, 5)


def test_an_ensemble_that_errs_where_its_members_differ(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    errors = np.linspace(0.1, 4, 40)
    row = judged(storage, record(storage, "a", errors[::2].tolist()), record(storage, "b", errors[1::2].tolist()))
    assert row and row["spread"] == pytest.approx(errors.mean() / 10) and row["measure"] == "mae"
    (one, alone), (all_, together) = row["by_members"]
    assert (one, all_) == (1, 2) and alone == pytest.approx(2 * together, rel=1e-5)
    apart, off = np.transpose(row["by_spread"])
    assert len(off) == members.PARTS and np.allclose(off, 10 * apart, rtol=1e-5) and (np.diff(off) > 0).all()
    report = Judged("test", lineage=None, figures={}, ensembles={"teacher": {"depth": row}})  # type: ignore[arg-type]
    root: Any = SimpleNamespace(results=lambda kind: [(None, report)] if kind is Judged else [], modalities=KNOWN)
    section = figures.spread(root)
    assert section and section.name == "ensembles"
    table, *charts = section.blocks
    assert isinstance(table, PageTable) and table.rows[0][:3] == ["teacher", "depth", 2] and table.rows[0][4] == "m"
    assert table.rows[0][7] == off[0] and table.rows[0][8] == off[-1]
    assert all(isinstance(chart, Chart) for chart in charts)
    assert [chart.title for chart in charts if isinstance(chart, Chart)] == [
        "depth.mae by members",
        "depth.mae by spread of the members",
    ]


def test_samples_without_an_answer_are_not_those_on_which_members_agree(tmp_path: Path) -> None:
    """Their spread was 0, so they were the first quarter; and one shard without any answer left no quarters at all."""
    storage, errors = Storage(str(tmp_path)), np.linspace(0.1, 4, 24).tolist()
    row = judged(storage, record(storage, "a", errors))
    silent = record(storage, "b", [None] * 8)
    mixed = record(storage, "c", [None, *errors[:12], None, *errors[12:], None])
    assert row and len(row["by_spread"]) == members.PARTS
    assert judged(storage, record(storage, "a", errors), silent) == judged(storage, mixed) == row


def test_an_ensemble_that_makes_a_task_worse_is_said(tmp_path: Path) -> None:
    """Where one input says nearly all, members that do not see it take away from what the first one knows."""
    storage = Storage(str(tmp_path))
    row = judged(storage, record(storage, "a", [1.0, 2.0]))
    assert row and members.worse("teacher", DEPTH, "depth", row) == "", "the first alone is twice as far off"
    turned = {**row, "by_members": [[1, 5.778], [4, 7.0], [8, 9.353]]}
    text = members.worse("teacher", DEPTH, "depth", turned)
    assert text.startswith("teacher: the ensemble makes depth worse: mae 9.353 of 8 members, 5.778 of the first alone.")
    assert members.worse("teacher", DEPTH, "depth", {**row, "by_members": [[1, 5.0], [8, 5.2]]}) == "", "hardly"
    shares = {"measure": "miou", "by_members": [[1, 0.5], [8, 0.4]]}
    assert "semantic worse: miou 0.4 of 8" in members.worse("t", KNOWN["semantic"], "semantic", shares)
    assert members.worse("t", KNOWN["semantic"], "semantic", {**shares, "by_members": [[1, 0.4], [8, 0.5]]}) == ""


def test_of_few_samples_of_old_records_and_of_unknown_truth_less_is_said(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    few = judged(storage, record(storage, "a", [1.0, 2.0]))
    assert few and few["by_spread"] == [] and len(few["by_members"]) == 2
    old = record(storage, "b", [1.0])
    del old.meta[members.FEWER]
    assert judged(storage, record(storage, "a", [1.0]), old) is None
    unknown = judged(storage, record(storage, "c", [1.0] * 24, known=False))
    assert unknown and unknown["spread"] == pytest.approx(0.1)
    assert unknown["by_members"] == unknown["by_spread"] == []
