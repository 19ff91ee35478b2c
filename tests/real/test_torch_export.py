"""An expert from a torch.export archive. (Exporting takes seconds, so it is not among the unit tests.)"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import plugins
from pipeline.storage import Storage
from tests.unit.inline import modalities

torch = pytest.importorskip("torch")


def test_an_exported_program_is_an_expert(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 3, 1, bias=False)
    batch = torch.export.Dim("n", min=1, max=64)
    program = torch.export.export(net, (torch.zeros(2, 3, 12, 16),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    known = modalities(rgb={"type": "image", "size": [12, 16]}, colors={"type": "dense", "channels": 3})
    fields = {"type": "torch", "path": str(tmp_path / "net.pt2"), "in": "rgb@camera", "out": "colors@net"}
    expert = plugins.parse("expert", {**fields, "decode": "dense"})
    frames = np.random.default_rng(0).integers(0, 255, (3, 12, 16, 3)).astype(np.uint8)
    found = expert.build(known, Storage("memory://export"))({"rgb@camera": frames})["colors@net"]
    expected = frames @ net.weight.detach().numpy()[:, :, 0, 0].T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
