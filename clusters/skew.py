"""Skew: nodes of a cluster that have other versions than the driver of what results and pickles depend on.

Ray itself refuses another Python or Ray where it is joined, not on the other nodes; nobody looks at torch. A run goes
on with a warning, since many recipes need none of what differs.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from importlib import metadata
from typing import Any

PACKAGES = ("ray", "torch", "numpy", "pyarrow")
WAIT_SECONDS = 20.0
"""How long nodes may take to say what they have. A node that is too busy is not asked again."""


def versions() -> dict[str, str]:
    """What this process has: package -> version, empty where it is missing."""
    from hyperloom import pipeline

    packages = {p: _version(p) for p in PACKAGES}
    return {"python": platform.python_version(), "hyperloom": pipeline.__version__, **packages}


def warn() -> None:
    """Say which nodes of the cluster that this process has joined differ from it."""
    import ray

    nodes = {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]}
    ask = ray.remote(num_cpus=0, max_retries=0)(versions)
    answers = {ask.options(scheduling_strategy=_on(node)).remote(): address for node, address in nodes.items()}
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=WAIT_SECONDS)
    for ref in late:
        ray.cancel(ref, force=True)
    theirs = {}
    for ref in ready:
        try:
            theirs[answers[ref]] = ray.get(ref)
        except ray.exceptions.RayError:
            continue  # the first worker there says what is wrong
    for line in lines(versions(), theirs):
        print(line, flush=True)


def lines(mine: dict[str, str], theirs: dict[str, dict[str, str]]) -> list[str]:
    """What to say of nodes (address -> versions), those that differ in the same way together."""
    alike: dict[str, list[str]] = defaultdict(list)
    for address, has in theirs.items():
        differs = [f"{p} {has.get(p) or 'missing'} (here {v})" for p, v in mine.items() if v and has.get(p) != v]
        if differs:
            alike[", ".join(differs)].append(address)
    return [
        f"warning: {', '.join(sorted(where))} has {what}: results may differ, and what one pickles the other may not "
        "read. Next: the same packages on all nodes and here"
        for what, where in alike.items()
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)
