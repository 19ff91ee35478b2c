"""What ranks load, what torch loads at the first step of any optimizer, and pyarrow at the first values: their server
does it once for all (see ranks.py)."""

import pandas  # noqa: F401
import torch._dynamo
import torch.distributed
import torch.distributed.fsdp

import hyperloom.stages  # registers the plug-ins
import hyperloom.stages.network.unet
import hyperloom.stages.shard.loader
import hyperloom.stages.train.descent
import hyperloom.stages.train.loop  # noqa: F401

torch.set_num_threads(1)
