"""The lease: one driver a root, dead ones are replaced, lost ones stop."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from hyperloom.pipeline import lease as leases
from hyperloom.pipeline.errors import ClaimError
from hyperloom.pipeline.lease import Lease
from hyperloom.pipeline.storage import Storage


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path))


def test_the_second_driver_says_who_holds_it(storage: Storage) -> None:
    said: list[str] = []
    with Lease(storage, "first"):
        with pytest.raises(ClaimError, match=r"in use by process \d+ on .*recipe 'first'.*Next: wait"):
            Lease(storage, "second", wait=0.6, say=said.append).acquire()
        assert "waiting for process" in said[0]
    Lease(storage, "second", wait=0).acquire()


def test_the_second_driver_gets_it_when_the_first_is_done(storage: Storage) -> None:
    first = Lease(storage, "first")
    first.acquire()
    threading.Timer(0.3, first.release).start()
    with Lease(storage, "second", wait=10):
        assert leases.read(storage)["recipe"] == "second"
    assert leases.read(storage) is None


def test_a_killed_driver_is_replaced_at_once(storage: Storage, tmp_path) -> None:
    code = (
        "import sys, os, signal; from hyperloom.pipeline.lease import Lease\n"
        "from hyperloom.pipeline.storage import Storage\n"
        "Lease(Storage(sys.argv[1]), 'dead').acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert leases.read(storage)["recipe"] == "dead"
    began = time.monotonic()
    with Lease(storage, "next", wait=0):
        assert leases.read(storage)["recipe"] == "next"
    assert time.monotonic() - began < leases.EXPIRY / 2


def test_a_driver_of_another_machine_that_went_silent_is_replaced(storage: Storage, monkeypatch) -> None:
    monkeypatch.setattr(leases, "EXPIRY", 0.6)
    storage.write_json(
        "lease.json", {"owner": "x", "beat": 7, "host": "elsewhere", "pid": 1, "recipe": "far", "born": "1"}
    )
    with Lease(storage, "next", wait=30):
        assert leases.read(storage)["recipe"] == "next"


def test_a_driver_that_lost_its_lease_stops(storage: Storage, monkeypatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    with Lease(storage, "first") as lease:
        lease.check()
        thief = {"owner": "thief", "beat": 0, "host": "elsewhere", "pid": 9, "recipe": "x", "born": ""}
        storage.write_json("lease.json", thief)
        time.sleep(0.4)
        with pytest.raises(ClaimError, match=r"lost its lease.*process 9 on elsewhere"):
            lease.check()
    assert leases.read(storage)["owner"] == "thief"  # another's lease is not removed


def test_a_store_without_exclusive_creation(storage: Storage, monkeypatch) -> None:
    monkeypatch.setattr(Storage, "probe_exclusive", lambda self: False)
    said: list[str] = []
    with Lease(storage, "first", say=said.append):
        assert "write-then-read-back" in said[0]
        with pytest.raises(ClaimError):
            Lease(storage, "second", wait=0).acquire()


def test_a_torn_lease_is_taken_over(storage: Storage, monkeypatch) -> None:
    monkeypatch.setattr(leases, "EXPIRY", 0.3)
    storage.write("lease.json", b"{")
    with Lease(storage, "next", wait=5):
        assert leases.read(storage)["recipe"] == "next"
