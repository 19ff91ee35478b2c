"""Proxies of the environment, and what must not go through them: a proxy that is asked for 127.0.0.1 answers for its
own machine, or not at all. Whoever needs a proxy for buckets, endpoints or a tracking server keeps it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


def spare_loopback(environ: MutableMapping[str, str] = os.environ) -> None:
    """Where a proxy is set, let this process and its children reach this machine without it."""
    if not any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES):
        return
    known = environ.get("no_proxy") or environ.get("NO_PROXY") or ""  # who reads both reads the small one first
    if "*" in known.split(","):
        return
    missing = [host for host in LOOPBACK if host not in [part.strip() for part in known.split(",")]]
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(filter(None, [known, *missing]))
