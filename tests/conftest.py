"""What holds for all tests: property tests on a busy machine, no wait for the disk, and which tests share a process
(see groups.py)."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from hyperloom.pipeline.cli import COLLECTED

GUARD = pytest.StashKey[Any]()
DRAWN = "HYPERLOOM_EXAMPLES" in os.environ
"""Are examples drawn anew? Else each run tries the same ones, so that a change is not blamed for an old fault."""
settings.register_profile("busy", deadline=None, derandomize=not DRAWN, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

os.fsync = lambda handle: None
"""No test cuts the power, and waiting for the disk was a third of the time; processes that tests start do wait."""
sys.dont_write_bytecode = False
"""Modules of tests are compiled with their asserts rewritten: five seconds for each process that cannot keep them."""


gc.set_threshold(*COLLECTED)
"""As in the command."""
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's `&` leaves it; some tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()  # the tests themselves and what they import: going over them again and again was a tenth of the time


def pytest_sessionstart(session: pytest.Session) -> None:
    from tests import orphans

    session.config.stash[GUARD] = orphans.watch()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from tests import groups

    items.sort(key=groups.rank)  # stable: a group keeps its order


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests import groups

    return groups.Groups(config, log) if config.getvalue("dist") == "loadgroup" else None
