"""What ranks load, and what torch loads at the first step of any optimizer: their server does it once for all (see
ranks.py)."""

import torch._dynamo
import torch.distributed

import hyperloom.stages  # registers the plug-ins
import hyperloom.stages.train.loop  # noqa: F401

torch.set_num_threads(1)
