"""Which experts and models get a share of a GPU where the recipe says nothing of `gpus`.

Where the cluster has GPUs, a network whose weights take 20 MB or more (5M numbers of 32 bits) gets half of one, so that
another process is fed while one computes; one of 1 GB or more gets a whole one. Smaller networks, algorithms, votes and
services get none. A process that finds no GPU that its library can use works on its CPUs.
"""

from __future__ import annotations

from collections.abc import Callable

BIG = 20 * 10**6
WHOLE = 10**9


def share(weights: int, gpus: Callable[[], float]) -> float:
    """Of a GPU, for weights of so many bytes; `gpus` says how many the cluster has, and is asked only where it
    matters, since that starts or joins one."""
    if weights < BIG or not gpus():
        return 0.0
    return 0.5 if weights < WHOLE else 1.0
