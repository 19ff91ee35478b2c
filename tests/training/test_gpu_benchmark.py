"""The benchmark of a GPU runs, tiny, where there is none."""

from __future__ import annotations

import json

import pytest

from benchmarks import gpu


def test_labelling_and_decoding_run_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["label", "decode", "--device", "cpu"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["device"] == "cpu" and not line["left_out"]
    assert min(line[f"{part}_vs_bare"] for part in ("label", "label_bf16", "decode")) > 0
    assert line["decode_fps"]["slot"] > 0


def test_ensembles_and_trainings_run_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["ensemble", "train", "--device", "cpu", "--networks", "vit-102m-half"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not line["left_out"] and line["ensemble_vs_bare"] > 0
    assert set(line["train_vs_bare"]) == set(line["mfu"]) == set(line["wait"]) == {"vit-102m-half"}
