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
