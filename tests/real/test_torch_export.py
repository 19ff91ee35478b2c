"""An expert from a torch.export archive. (Exporting takes seconds, so it is not among the unit tests.)"""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.root.storage import Storage
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


class Evil:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def test_an_archive_with_code_in_a_pickle_is_refused(tmp_path):
    """torch.export.load itself runs what lies in the place of the sample inputs."""
    program = torch.export.export(torch.nn.Conv2d(3, 3, 1), (torch.zeros(2, 3, 12, 16),))
    torch.export.save(program, tmp_path / "good.pt2")
    evil = io.BytesIO()
    torch.save(Evil(tmp_path / "ran"), evil)
    known = modalities(rgb={"type": "image", "size": [12, 16]}, colors={"type": "dense", "channels": 3})
    with zipfile.ZipFile(tmp_path / "good.pt2") as good:
        parts = {name: good.read(name) for name in good.namelist()}
    constants = next(name for name in parts if name.endswith("constants_config.json"))
    opaque = {
        "config": {"x": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}
    }
    folder = constants.rpartition("/")[0]
    tricks = {
        "inputs": {name: evil.getvalue() for name in parts if "sample_inputs" in name},
        "opaque": {
            constants: json.dumps(opaque).encode(),
            f"{folder}/opaque_obj_0": pickle.dumps(Evil(tmp_path / "ran")),
        },
    }
    for trick, changed in tricks.items():
        assert changed
        with zipfile.ZipFile(tmp_path / f"{trick}.pt2", "w") as bad:
            for name, data in {**parts, **changed}.items():
                bad.writestr(name, data)
        fields = {"type": "torch", "path": str(tmp_path / f"{trick}.pt2"), "in": "rgb@camera", "out": "colors@net"}
        with pytest.raises(SourceError):
            plugins.parse("expert", {**fields, "decode": "dense"}).build(known, Storage("memory://export"))
        assert not (tmp_path / "ran").exists(), trick
