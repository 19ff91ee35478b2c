"""An ONNX network whose frames and answers stay on a device, as torch tensors (ONNX Runtime's I/O binding).

Frames are bound where torch has them, answers are taken over where ONNX Runtime leaves them, so that maps are decoded
there as those of a torch network are (`stages.label.runtimes.device`) and small integers come back. ONNX Runtime
computes on a stream of its own: what torch was asked for is waited for before each run, and a run returns when it is
done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from hyperloom.stages.label.runtimes.onnx import OnnxSession


class BoundSession:
    """The session as `stages.label.runtimes.device` asks it; `device`: torch's name of where ONNX Runtime computes."""

    def __init__(self, session: OnnxSession, device: str):
        self._session, self.device = session, device
        self.layout, self.channels, self.dtype = session.layout, session.channels, session.dtype

    def tensors(self, images: torch.Tensor, tensors: Sequence[str | int]) -> list[torch.Tensor]:
        """The outputs of `images` (n, C, h, w) or (n, h, w, C), numbers that are no integers as float32; in calls of as
        many frames as the graph takes."""
        step = self._session.batch or len(images)
        kind = torch.from_numpy(np.empty(0, self.dtype)).dtype
        calls = [self._run(images[i : i + step].to(kind), step, tensors) for i in range(0, len(images), step)]
        each = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*calls, strict=True)]
        return [one.float() if one.is_floating_point() else one for one in each]

    def _run(self, images: torch.Tensor, step: int, tensors: Sequence[str | int]) -> list[torch.Tensor]:
        count, session = len(images), self._session
        if count < step:
            images = torch.cat([images, images[-1:].expand(step - count, *images.shape[1:])])
        images = images.contiguous()
        binding = session.runtime.io_binding()
        binding.bind_input(session.image, self.device, 0, self.dtype, tuple(images.shape), images.data_ptr())
        for name, values in session.constants(step).items():
            binding.bind_cpu_input(name, values)
        names = [session.output(t) for t in tensors]
        bound = list(dict.fromkeys(names))
        for name in bound:
            binding.bind_output(name, self.device)
        if images.is_cuda:
            torch.cuda.current_stream(images.device).synchronize()
        session.runtime.run_with_iobinding(binding)
        given = dict(zip(bound, binding.get_outputs(), strict=True))
        return [torch.from_dlpack(getattr(given[n], "_ortvalue", given[n]))[:count] for n in names]
