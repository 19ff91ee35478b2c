"""Several ranks on this machine, without Ray: each a process of its own, joined over gloo, or over NCCL on a GPU of its
own."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hyperloom.stages.train.job import Job

HERE = Path(__file__).parents[2]


def train(jobs: Sequence[tuple[Job, int]], size: int, folder: Path, backend: str = "gloo") -> list[str]:
    """Train one job after the other on `size` ranks; a number above 0 is the update in which the last rank alone is
    told that its machine goes away. Returns how each ended on rank 0: "done" or what was raised."""
    task = folder / "jobs.pickle"
    task.write_bytes(pickle.dumps(list(jobs)))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    env |= {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "tests.training.ranks", str(task), backend]
    workers = [
        subprocess.Popen(command, env=env | {"RANK": str(r)}, cwd=HERE, stdout=subprocess.PIPE, text=True)
        for r in range(size)
    ]
    try:
        told = [w.communicate(timeout=400)[0] for w in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert all(w.returncode == 0 for w in workers), told
    return told[0].splitlines()


def _rank(task: str, backend: str) -> None:
    import torch

    import hyperloom.stages  # noqa: F401  registers the plug-ins
    from hyperloom.stages.train import loop
    from hyperloom.stages.world import World

    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["RANK"]))
    torch.distributed.init_process_group(backend)
    world, device = World.current(), torch.device("cpu") if backend == "gloo" else None
    for job, leave in pickle.loads(Path(task).read_bytes()):
        asked = At(leave if world.rank == world.size - 1 else 0)
        try:
            loop.fit(job, world, request=asked, device=device)
            print("done", flush=True)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    torch.distributed.destroy_process_group()


class At:
    """Asks to leave from the n-th time on that it is looked at; never for 0."""

    def __init__(self, number: int):
        self.number, self.looks = number, 0

    def __call__(self) -> object:
        from hyperloom.stages.train.notice import Ask

        self.looks += 1
        return Ask.MOVE if self.number and self.looks >= self.number else Ask.NOTHING


if __name__ == "__main__":
    _rank(*sys.argv[1:])
