"""The recipe's optional `cluster:` section: where Ray runs and with how much. All of it is placement: no field can
change a result, so none enters a fingerprint.

    cluster: {cpus: 8}                          # a private Ray on this machine, gone when the command ends
    cluster: {address: auto}                    # the Ray that `ray start` runs on this machine
    cluster: {address: 10.0.0.5:6379}           # a cluster that this machine has joined
    cluster: {dashboard: "https://ray.example:8265"}    # where `hyperloom submit` sends jobs
"""

from __future__ import annotations

import os
import re

from pydantic import field_validator

from hyperloom.clusters.deployment import Deployment
from hyperloom.pipeline.config import Config, placement
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.workers import ray_internals

DASHBOARD = "http://127.0.0.1:8265"
WHERE = (
    "give local, auto or host:port. For a cluster elsewhere use `hyperloom submit --address http://host:8265`: the "
    "driver must run on a node of the cluster"
)


class ClusterError(HyperloomError):
    """No Ray where one was said to be, it refused us, or a job could not be handed to it."""

    exit_code = Exit.CLUSTER


class ClusterRefusal(ClusterError):
    """A cluster that is there and does not take us: another version, another token. Trying again is of no use."""

    exit_code = Exit.WRONG


class Cluster(Config):
    """Where the work runs."""

    address: str | None = placement(None)
    """`local` starts a private Ray; `auto` takes the one running on this machine; `host:port` one that this machine has
    joined. By default RAY_ADDRESS (set inside Ray jobs), else `local`."""
    cpus: int | None = placement(None, gt=0)
    """CPUs of a private Ray; by default all that this process may use."""
    gpus: int | None = placement(None, ge=0)
    """GPUs of a private Ray; by default all there are."""
    object_store_mb: int = placement(256, ge=80)
    """Shared memory of a private Ray. Data goes through storage, so little is needed."""
    env: dict[str, str] = placement(default_factory=dict)
    """Environment of the workers, for what their storage needs: `{AWS_ENDPOINT_URL: ...}`. Ray's dashboard does not
    show it, but for what counts as a process starts (clusters/environment.py)."""
    logs: bool = placement(False)
    """Show the workers' own output; failures are reported either way."""
    dashboard: str | None = placement(None)
    """URL of the job server, for `hyperloom submit`; by default RAY_API_SERVER_ADDRESS, else port 8265 here."""

    deployment: Deployment | None = placement(None)
    """The machines of `hyperloom cluster render`."""

    @field_validator("address")
    @classmethod
    def _reachable(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise ValueError(WHERE)
        return value

    @property
    def where(self) -> str:
        """The address that counts: inside a Ray job the job's; else the recipe's, the environment's, or `local`. Raises
        ClusterRefusal for one of the environment that no driver can use."""
        given = os.environ.get("RAY_ADDRESS", "").strip()
        if ray_internals.in_job():
            return given or "auto"
        where = self.address or given or "local"
        if where not in ("local", "auto") and ("://" in where or not re.fullmatch(r"\S+:\d{1,5}", where)):
            raise ClusterRefusal(f"{self.said_by}{where!r}: {WHERE}, or {self.without}")
        return where

    @property
    def said_by(self) -> str:
        """In front of what is said of the address: who gave it, where that is not the recipe."""
        return "" if self.address or ray_internals.in_job() else "RAY_ADDRESS in your environment: "

    @property
    def without(self) -> str:
        """How to do without the address."""
        return (
            "leave `cluster: address` out for a private one" if self.address else "unset RAY_ADDRESS for a private one"
        )

    @property
    def names_job_server(self) -> bool:
        """Has somebody said where jobs go?"""
        return bool(self.dashboard or os.environ.get("RAY_API_SERVER_ADDRESS"))

    @property
    def job_server(self) -> str:
        """The URL that counts for job submission."""
        return self.dashboard or os.environ.get("RAY_API_SERVER_ADDRESS") or DASHBOARD
