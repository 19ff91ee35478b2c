"""The trainings and ensembles of the benchmark of a GPU run, tiny, where there is none."""

from __future__ import annotations

import json

import pytest

from benchmarks import gpu


def test_ensembles_and_trainings_run_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["ensemble", "train", "--device", "cpu", "--networks", "vit-102m-half"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not line["left_out"] and line["ensemble_vs_bare"] > 0
    assert set(line["train_vs_bare"]) == set(line["mfu"]) == set(line["wait"]) == {"vit-102m-half"}
