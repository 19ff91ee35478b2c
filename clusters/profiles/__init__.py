"""Profiles: the files by which other systems start Hyperloom, all made from one spec (clusters/deployment.py)."""

from __future__ import annotations

from collections.abc import Callable

from hyperloom.clusters.profiles import container, kubernetes, ray_up, slurm
from hyperloom.clusters.profiles.workload import Workload

PROFILES: dict[str, Callable[[Workload], str]] = {
    "aws": ray_up.aws,
    "gcp": ray_up.gcp,
    "on-premise": ray_up.on_premise,
    "rayjob": kubernetes.ray_job,
    "raycluster": kubernetes.ray_cluster,
    "cronjob": kubernetes.cron_job,
    "slurm": slurm.slurm,
    "container": container.container,
}
"""What `hyperloom cluster render` can make, by the name that it is asked for with."""
