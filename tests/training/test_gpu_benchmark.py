"""The benchmark of a GPU runs, tiny, where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from benchmarks import gpu


def test_labelling_and_decoding_run_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["label", "decode", "jpeg", "--device", "cpu"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["device"] == "cpu" and not line["left_out"]
    assert min(line[f"{part}_vs_bare"] for part in ("label", "label_bf16", "decode")) > 0
    assert line["decode_fps"]["slot"] > 0
    assert line["jpeg"]["host"] > 0
    if find_spec("nvidia") and find_spec("nvidia.nvimgcodec"):  # other packages of NVIDIA have that folder too
        assert line["jpeg"]["device"] > 0 and line["jpeg"]["apart"] == 0, "both are libjpeg-turbo on a CPU"


def test_ensembles_and_trainings_run_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["ensemble", "train", "--device", "cpu", "--networks", "vit-102m-half"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not line["left_out"] and line["ensemble_vs_bare"] > 0
    assert set(line["train_vs_bare"]) == set(line["mfu"]) == set(line["wait"]) == {"vit-102m-half"}


def test_a_benchmark_that_takes_too_long_ends_with_what_there_is() -> None:
    code = (
        "import argparse, time; from benchmarks import gpu; gpu.LATE = 0;"
        "bench = gpu.Bench(argparse.Namespace(device='cpu', seconds=0.1, frames=1, size=None));"
        "bench.line['mfu'] = {'unet': 0.5}; bench.now = 'vit'; bench.end_in_time(); time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["mfu"] == {"unet": 0.5} and line["left_out"] == ["vit: broken off"]
