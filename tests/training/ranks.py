"""Several ranks on this machine, without Ray: each a process of its own, joined over gloo, or over NCCL on a GPU of its
own. They are forked from a process that has loaded torch and all of Hyperloom, which takes ten seconds otherwise."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any

import torch.multiprocessing

from hyperloom.stages.train.job import Job


def start(rank: Callable[..., None], *arguments: Any, size: int = 2) -> None:
    """Call `rank(n, *arguments)` in `size` processes that find each other by the environment, and wait for them.
    Raises what one of them raised."""
    set_forkserver_preload(["tests.training.loaded"])
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    torch.multiprocessing.start_processes(_joined, (env, rank, arguments), nprocs=size, start_method="forkserver")


def train(jobs: Sequence[tuple[Job, int]], size: int, folder: Path, backend: str = "gloo") -> list[str]:
    """Train one job after the other on `size` ranks; a number above 0 is the update in which the last rank alone is
    told that its machine goes away. Returns how each ended on rank 0: "done" or what was raised."""
    ends = folder / "ends"
    start(_train, list(jobs), backend, ends, size=size)
    return ends.read_text().splitlines()


def _joined(number: int, env: dict[str, str], rank: Callable[..., None], arguments: Sequence[Any]) -> None:
    os.environ.update(env, RANK=str(number))
    torch.set_num_threads(1)
    rank(number, *arguments)


def _train(number: int, jobs: Sequence[tuple[Job, int]], backend: str, ends: Path) -> None:
    from hyperloom.stages.train import loop
    from hyperloom.stages.world import World

    if backend == "nccl":
        torch.cuda.set_device(number)
    torch.distributed.init_process_group(backend)
    world, device = World.current(), torch.device("cpu") if backend == "gloo" else None
    ended = []
    for job, leave in jobs:
        asked = At(leave if world.rank == world.size - 1 else 0)
        try:
            loop.fit(job, world, request=asked, device=device)
            ended.append("done")
        except Exception as error:
            ended.append(f"{type(error).__name__} {error}")
    if number == 0:
        ends.write_text("\n".join(ended))
    torch.distributed.destroy_process_group()


class At:
    """Asks to leave from the n-th time on that it is looked at; never for 0."""

    def __init__(self, number: int):
        self.number, self.looks = number, 0

    def __call__(self) -> object:
        from hyperloom.stages.train.notice import Ask

        self.looks += 1
        return Ask.MOVE if self.number and self.looks >= self.number else Ask.NOTHING
