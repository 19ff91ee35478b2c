"""JPEG columns decoded where a training runs. nvImageCodec decodes on CPUs too, so all but the chip is tried here."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from hyperloom.pipeline.errors import IntegrityError, RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import VALID
from hyperloom.stages.shard import decoder
from hyperloom.stages.shard.decoder import JpegDecoder
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.table import write_table
from hyperloom.stages.train import loop
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.world import World
from tests.training.ranks import At
from tests.unit import scenes
from tests.unit.inline import modalities

CPU = torch.device("cpu")
KNOWN = modalities(
    photo={"type": "image", "size": [13, 27], "codec": "jpeg"},
    came={"type": "image", "size": [13, 27], "codec": "file"},
    plain={"type": "image", "size": [13, 27]},
)
COLUMNS = [f"{name}@x" for name in KNOWN]


@pytest.fixture(scope="module")
def decodes() -> JpegDecoder:
    pytest.importorskip("nvidia.nvimgcodec", reason="needs nvImageCodec: pip install 'hyperloom[gpu]'")
    return JpegDecoder(CPU)


def jpeg(picture: np.ndarray, mode: str = "RGB", orientation: int = 1, **how: Any) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).convert(mode).save(file, "jpeg", exif=exif, **how)
    return file.getvalue()


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


KINDS: dict[str, Callable[[np.ndarray], bytes]] = {
    "plain": jpeg,
    "sharp": lambda p: jpeg(p, quality=100, subsampling=0),
    "halved": lambda p: jpeg(p, subsampling=1),
    "grey": lambda p: jpeg(p, "L"),
    "ink": lambda p: jpeg(p, "CMYK"),
    "rgb": lambda p: jpeg(p, keep_rgb=True),
    "progressive": lambda p: jpeg(p, progressive=True),
    "turned": lambda p: jpeg(p, orientation=3),
    "png": png,
}
BY_THE_DEVICE = {"plain", "sharp", "halved", "grey", "progressive", "turned"}


def pictures(count: int) -> list[np.ndarray]:
    coarse = [np.random.default_rng(i).integers(0, 256, (5, 9, 3), np.uint8) for i in range(count)]
    return [np.kron(c, np.ones((3, 3, 1), np.uint8))[:13] for c in coarse]


def files(storage: Storage, count: int) -> list[dict[str, Any]]:
    """One shard in which pictures of all kinds are kept, each fifth missing."""
    kinds, shown = list(KINDS), pictures(count)
    values = {
        "photo@x": pa.array([jpeg(p) if i % 5 else None for i, p in enumerate(shown)], pa.binary()),
        "came@x": pa.array([KINDS[kinds[i % len(kinds)]](p) for i, p in enumerate(shown)], pa.binary()),
        "plain@x": KNOWN["plain"].encode(shown),
    }
    storage.write("0.parquet", write_table(values, [KNOWN[c[:-2]].field(c) for c in values], rows=4))
    return [{"path": "0.parquet", "split": "train", "rows": count, "row_group": 4}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_pixels_of_the_hosts_decoder_or_is_left_to_it(decodes: JpegDecoder, kind: str) -> None:
    data = [KINDS[kind](p) for p in pictures(3)]
    out, left = decodes.decode([data[0], None, *data[1:]], KNOWN["came"])
    assert left == ([] if kind in BY_THE_DEVICE else [0, 2, 3])
    assert not out[1].any()
    for got, file in zip(out[[0, 2, 3]], data, strict=True):
        if kind in BY_THE_DEVICE:
            apart = got.numpy().astype(int) - KNOWN["came"].decompress(file)
            assert np.abs(apart).max() <= 2


@pytest.mark.parametrize("cache_mb", [0, 0.002, 100])
def test_batches_are_those_of_the_hosts_decoder(decodes: JpegDecoder, tmp_path: Path, cache_mb: float) -> None:
    storage = Storage(str(tmp_path))
    listed = files(storage, 40)
    how: dict[str, Any] = {"batch": 7, "cache_mb": cache_mb, "pool": 3}
    host, device = (Loader(storage, listed, KNOWN, COLUMNS, **how, decoder=d) for d in (None, decodes))
    for _ in range(2):
        for mine, theirs in zip(device, host, strict=True):
            assert mine.keys() == theirs.keys()
            for column in COLUMNS:
                assert torch.equal(mine[column + VALID], theirs[column + VALID])
                assert mine[column].dtype == torch.uint8
                assert int((mine[column].int() - theirs[column].int()).abs().max()) <= 2, column


def test_files_stay_in_memory_as_they_are_so_that_more_of_them_fit(decodes: JpegDecoder, tmp_path: Path) -> None:
    storage, flat = Storage(str(tmp_path)), [np.full((13, 27, 3), i, np.uint8) for i in range(20)]
    values = {"photo@x": pa.array([jpeg(p, quality=20) for p in flat], pa.binary())}
    storage.write("0.parquet", write_table(values, [KNOWN["photo"].field("photo@x")], rows=4))
    listed = [{"path": "0.parquet", "split": "train", "rows": 20, "row_group": 4}]
    decoded = 20 * 13 * 27 * 3
    assert sum(len(v.as_py()) for v in values["photo@x"]) < 0.8 * decoded
    data = Loader(storage, listed, KNOWN, ["photo@x"], batch=4, cache_mb=0.8 * decoded / 1e6, decoder=decodes)
    first = sum(len(batch["photo@x"]) for batch in data)
    (tmp_path / "0.parquet").unlink()
    assert sum(len(batch["photo@x"]) for batch in data) == first == 20


@pytest.mark.parametrize("fault", ["torn", "short", "turned", "none"])
def test_a_file_that_cannot_be_is_said_as_the_hosts_decoder_says_it(
    decodes: JpegDecoder, tmp_path: Path, fault: str
) -> None:
    storage, (picture,) = Storage(str(tmp_path)), pictures(1)
    whole = jpeg(picture, quality=100)
    wrong = {"torn": whole[: len(whole) // 2], "short": whole[:-2], "turned": jpeg(picture[:, :13]), "none": b""}
    values = {"photo@x": pa.array([whole, wrong[fault]], pa.binary())}
    storage.write("0.parquet", write_table(values, [KNOWN["photo"].field("photo@x")]))
    listed = [{"path": "0.parquet", "split": "train", "rows": 2, "row_group": 2}]
    texts = []
    for one in (None, decodes):
        with pytest.raises(IntegrityError, match=r"0\.parquet, column photo@x: .*Next: hyperloom verify") as error:
            list(Loader(storage, listed, KNOWN, ["photo@x"], batch=2, cache_mb=0, decoder=one))
        texts.append(str(error.value))
    assert texts[0] == texts[1]


@pytest.fixture
def photographed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The scenes, their pictures kept as JPEG."""
    known = {**scenes.KNOWN, **modalities(rgb={"type": "image", "size": list(scenes.SIZE), "codec": "jpeg"})}
    monkeypatch.setattr(scenes, "KNOWN", known)
    return scenes.shards(tmp_path / "root", val=True)


def test_a_training_learns_the_same_from_what_its_device_decodes(
    decodes: JpegDecoder, photographed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPUs both decoders are libjpeg-turbo, so to the byte; and as well from the middle on."""
    taken: list[int] = []
    real = JpegDecoder.decode

    def decode(self: JpegDecoder, data: Any, modality: Any) -> Any:
        taken.append(len(data))
        return real(self, data, modality)

    monkeypatch.setattr(JpegDecoder, "decode", decode)
    host, device = (scenes.job(photographed, where, decode=where) for where in ("host", "device"))
    assert host.rhythm.decode == "host"
    loop.fit(host, device=CPU)
    assert not taken
    with pytest.raises(Preempted):
        loop.fit(device, request=At(3), device=CPU)
    loop.fit(device, device=CPU)
    assert sum(taken) >= device.updates * device.batch
    assert scenes.trained(device.storage, device.folder) == scenes.trained(host.storage, host.folder)


def test_the_decoder_bears_no_meaning_and_is_the_hosts_where_exactness_is_promised(photographed: Any) -> None:
    host, device = (
        scenes.step(photographed[0], photographed[2], decode=where).fingerprint for where in ("host", "device")
    )
    assert host == device
    assert decoder.decoder("auto", False, CPU) is None
    assert decoder.decoder("auto", True, torch.device("cuda", 0)) is None
    assert decoder.decoder("host", False, torch.device("cuda", 0)) is None


def test_a_training_on_the_cpu_of_a_machine_with_a_gpu_decodes_there(
    photographed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(decoder, "_shared", lambda device: device)  # as if this machine could decode there
    job = scenes.job(photographed, "beside")
    job = replace(job, rhythm=replace(job.rhythm, deterministic=False))
    assert loop.Training(job, device=CPU, world=World()).batches.loader.decoder is None


def test_a_release_that_is_too_old_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    for old in (ModuleType("nvimgcodec"), MagicMock(Decoder=MagicMock(side_effect=AttributeError("no CPU_ONLY")))):
        monkeypatch.setitem(sys.modules, "nvidia", MagicMock(nvimgcodec=old))
        monkeypatch.setattr(torch.cuda, "Stream", MagicMock())
        decoder._shared.cache_clear()
        assert decoder.decoder("auto", False, gpu) is None
        with pytest.raises(RecipeError, match=r"nvImageCodec does not start on cuda:0: .*Next: pip install"):
            decoder.decoder("device", False, gpu)


def test_a_machine_without_the_library_says_what_to_install(photographed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia", None)
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    decoder._shared.cache_clear()
    with pytest.raises(RecipeError, match=r"decode: device needs nvImageCodec .*Next: pip install 'hyperloom\[gpu\]'"):
        loop.fit(scenes.job(photographed, "lacking", decode="device"))
    job = scenes.job(photographed, "lacking")
    loop.fit(replace(job, rhythm=replace(job.rhythm, deterministic=False)))
