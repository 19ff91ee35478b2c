"""The decoder of JPEG columns where a training runs: nvImageCodec, which is nvJPEG on a GPU and libjpeg-turbo on a CPU.

The loader hands it the files of a batch, in the thread that puts the batch together, some batches ahead of the update.
It works on a stream of its own, and what it gives is finished, so the update waits for nothing.

It takes only what nvJPEG decodes to the pixels of libjpeg but for rounding (on an H100 by 5 of 255 at most): whole
files of YCbCr or grey, upsampled the same way. The chip's own decoding engine, quicker and as near to libjpeg, rounds
otherwise and takes what it has room for, so a file's pixels would depend on its neighbours: it is never asked.
All else (CMYK, RGB, PNG and WebP of a column of files, torn ones, those of another size) is left to the host's decoder,
which gives the pixels or says what is wrong. Damage in the middle of a file, of which libjpeg would warn, it does not
see: files were looked at when they came, and the pages that hold them have checksums.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.modality import Modality
from hyperloom.stages.modality.jpegfile import is_common

DecodeWhere = Literal["auto", "host", "device"]
THREADS = 16
"""Most threads of the host: they read the files' codes, the larger part of the work, and the chip does the rest."""
CODECS = ("jpeg", "file")
"""Of images, those whose files may be JPEG."""
TRIED = (16, 16)
"""Height and width of the picture that shows whether a machine can decode at all."""


class JpegDecoder:
    """Decodes on `device`. Thread-safe; one batch at a time. Raises RecipeError where its libraries are not here."""

    def __init__(self, device: torch.device):
        try:
            self._open(device)
        except RecipeError:
            raise
        except ImportError as error:
            raise RecipeError(f"decode: device needs nvImageCodec ({error}). Next: {INSTALL}") from error
        except Exception as error:  # of a driver that is too old, or an older release, which came with another package
            raise RecipeError(f"nvImageCodec does not start on {device}: {error}. Next: {INSTALL}") from error

    def _open(self, device: torch.device) -> None:
        os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # what it cannot decode the host's decoder speaks of
        from nvidia import nvimgcodec as library

        gpu = device.type == "cuda"
        kind = library.HYBRID_CPU_GPU if gpu else library.CPU_ONLY
        self.device = device
        self._library, self._lock = library, threading.Lock()
        self._beside = torch.cuda.Stream(device) if gpu else None
        self._decoder = library.Decoder(
            device_id=self._beside.device_index if self._beside else library.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=min(THREADS, len(os.sched_getaffinity(0))),
            backends=[library.Backend(kind)],
            options=":fancy_upsampling=1 :fast_idct=0",
        )
        self._how = library.DecodeParams(
            apply_exif_orientation=False,  # what a column keeps lies as it was stored
            color_spec=library.ColorSpec.SRGB,
            sample_format=library.SampleFormat.I_RGB,
        )
        self._try()

    @staticmethod
    def takes(modality: Modality) -> bool:
        """Is it of pictures that may be kept as JPEG?"""
        return modality.rgb and modality.codec in CODECS

    def decode(self, files: Sequence[Any], modality: Modality) -> tuple[torch.Tensor, list[int]]:
        """(n, H, W, 3) uint8 on the device, of `files` (bytes, or None where there is no value and the row is filler);
        and which of them are left to the host."""
        with self._lock, self._stream():
            out = torch.full((len(files), *modality.shape), modality.missing, dtype=torch.uint8, device=self.device)
            sources = {i: np.frombuffer(f, np.uint8) for i, f in enumerate(files) if f is not None}
            chosen = [i for i, data in sources.items() if is_common(data, modality.shape)]
            images = self._images([sources[i] for i in chosen])
            whole = [(i, m) for i, m in zip(chosen, images) if m is not None and tuple(m.shape) == modality.shape]
            if whole:  # one call for all: each would take the host as long as the chip takes to decode
                torch._foreach_copy_([out[i] for i, _ in whole], [self._tensor(image) for _, image in whole])
            for i, _ in whole:
                del sources[i]
            if self._beside is not None:
                self._beside.synchronize()  # their memory goes back to the library once nobody copies from it
            del images, whole
        return out, list(sources)

    def put(self, out: torch.Tensor, places: Sequence[int], rows: np.ndarray) -> None:
        """Copy `rows` (k, H, W, 3) of the host to their places of a batch."""
        with self._stream():
            for place, row in zip(places, torch.from_numpy(rows)):
                out[place].copy_(row)
            if self._beside is not None:
                self._beside.synchronize()

    def _images(self, sources: Sequence[np.ndarray]) -> list[Any]:
        """What the library makes of files, None of those that it cannot decode."""
        if not sources:
            return []
        streams = [self._library.CodeStream(data) for data in sources]
        number = self._beside.cuda_stream if self._beside else 0
        images: list[Any] = self._decoder.decode(streams, params=self._how, cuda_stream=number)
        return images

    def _tensor(self, image: Any) -> torch.Tensor:
        """The image's own memory as a tensor."""
        return torch.from_dlpack(image) if self._beside is not None else torch.from_numpy(np.asarray(image))

    @contextmanager
    def _stream(self) -> Iterator[None]:
        if self._beside is None:
            yield
        else:
            with torch.cuda.stream(self._beside):
                yield

    def _try(self) -> None:
        """Decode one picture. Raises RecipeError where that fails: libraries are there, but not all, or no driver."""
        import simplejpeg

        data = np.frombuffer(simplejpeg.encode_jpeg(np.zeros((*TRIED, 3), np.uint8)), np.uint8)
        if self._images([data])[0] is None:
            raise RecipeError(f"nvImageCodec cannot decode JPEGs on {self.device}. Next: {INSTALL}")


INSTALL = "pip install 'hyperloom[gpu]' on every node (Linux on x86-64), or decode: host"


def decoder(where: DecodeWhere, exact: bool, device: torch.device) -> JpegDecoder | None:
    """The decoder of a training on `device`, None where the host decodes. `auto` is the device where that is a GPU with
    its libraries, and the training need not be `exact`: pixels differ by rounding. Raises RecipeError where `device` is
    asked for and cannot be."""
    if where == "host" or (where == "auto" and (exact or device.type != "cuda")):
        return None
    try:
        return _shared(device)
    except RecipeError:
        if where == "device":
            raise
        return None


@cache
def _shared(device: torch.device) -> JpegDecoder:
    """One decoder for all loaders of a process: it holds memory of the device."""
    return JpegDecoder(device)
