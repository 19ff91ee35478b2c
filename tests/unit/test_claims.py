"""Claims: who works on what; dead ones are replaced and said, sleepers find out, living ones are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hyperloom.pipeline.errors import ClaimError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.root import claims as claiming
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.storage import Storage

QUICK = {"beat": 0.03, "expiry": 0.15}


@pytest.fixture
def storage(tmp_path, monkeypatch) -> Storage:
    monkeypatch.setattr(claiming, "LOOK", 0.02)
    return Storage(str(tmp_path))


def elsewhere(storage: Storage, name: str = "", owner: str = "far", **more) -> None:
    """A driver on another machine, with a card that does not move and a claim on `name`."""
    who = {**process.this(), "host": "elsewhere", "boot": "another", "owner": owner, "recipe": "far", **more}
    storage.write_json(f"claims/owners/{owner}.json", {**who, "beat": 1})
    if name:
        storage.write_json(f"claims/{name}/00000001.json", who)


def killed(storage: Storage, name: str, before: list[str] | None = None) -> None:
    """Have a process take a claim on `name` and die."""
    code = (
        "import sys, os, signal; from hyperloom.pipeline.root.claims import Claims\n"
        "from hyperloom.pipeline.root.storage import Storage\n"
        "claims = Claims(Storage(sys.argv[1]), 'dead').__enter__(); claims.take(sys.argv[2])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([*(before or []), sys.executable, "-c", code, str(storage), name], check=False, capture_output=True)
    assert storage.exists(f"claims/{name}/00000001.json")


def taken(claims: Claims, name: str, seconds: float = 10.0) -> int:
    """The epoch of a claim once it is there."""
    end = time.monotonic() + seconds
    while not (epoch := claims.take(name)) and time.monotonic() < end:
        time.sleep(0.02)
    return epoch


def test_one_of_many_gets_a_claim_and_epochs_only_grow(storage: Storage) -> None:
    with Claims(storage, "one") as one, Claims(storage, "two") as two:
        assert (one.take("steps/a"), two.take("steps/a"), one.take("steps/a")) == (1, 0, 1)
        assert two.take("steps/b") == 1, "another thing is free"
        held = two.holder("steps/a")
        assert held and held["recipe"] == "one" and held["pid"] == os.getpid() and held["boot"] and held["space"]
        one.release("steps/a")
        assert two.holder("steps/a") is None and two.take("steps/a") == 2
        one.release("steps/a")  # not its own any more: changes nothing
        assert one.take("steps/a") == 0
    assert claiming.cards(storage) == [] and storage.names("claims/dead") == []
    with Claims(storage, "three") as three:
        assert three.take("steps/a") == 3, "what was given back is free at once"
        assert storage.names("claims/steps/a") == ["00000003.json"]


def test_threads_that_race_for_one_claim(storage: Storage) -> None:
    with Claims(storage, "here"):
        racers = [Claims(storage, str(i)) for i in range(6)]
        got: list[int] = []
        threads = [threading.Thread(target=lambda c=c: got.append(c.take("steps/a"))) for c in racers]
        for racer in racers:
            racer.__enter__()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for racer in racers:
            racer.__exit__()
        assert sorted(got) == [0, 0, 0, 0, 0, 1]


def test_a_killed_driver_is_replaced_at_once_and_said(storage: Storage) -> None:
    killed(storage, "steps/a")
    said: list[str] = []
    began = time.monotonic()
    with Claims(storage, "next", said.append) as claims:
        assert claims.take("steps/a") == 2
    assert time.monotonic() - began < claiming.EXPIRY / 2
    assert len(said) == 1 and "taking steps/a over from process" in said[0] and "its process is gone" in said[0]


def test_another_machine_that_went_silent_is_replaced_after_its_time(storage: Storage) -> None:
    elsewhere(storage, "steps/a")
    said: list[str] = []
    with Claims(storage, "next", said.append, **QUICK) as claims:
        assert claims.take("steps/a") == 0 and (silent := claims.holder("steps/a")) is not None
        assert taken(claims, "steps/a") == 2
        assert "process" in said[0] and "on elsewhere: no sign of life for 0.15 s" in said[0]
        assert claims.gone(silent) == "no sign of life for 0.15 s", "whoever looks after the one that was sure"


def test_what_another_kernel_or_namespace_says_of_a_pid_proves_nothing(storage: Storage) -> None:
    """The pid is free here and the host's name is ours: all that another container or machine has, too."""
    gone = {**process.this(), "pid": 2**22 + 1, "born": "1"}
    assert process.is_gone(gone)
    assert not process.is_gone({**gone, "boot": "another"})
    assert not process.is_gone({**gone, "space": 1})
    assert not process.is_gone({**process.this(), "born": process.UNSEEN, "boot": ""})


def test_an_owner_that_beats_keeps_what_it_has(storage: Storage) -> None:
    with Claims(storage, "alive", beat=0.03, expiry=0.3) as alive:
        assert alive.take("steps/a")
        observer = Claims(storage, "observer", beat=0.03, expiry=0.3)  # with no beat of its own: it only looks
        end = time.monotonic() + 0.45
        while time.monotonic() < end:
            assert observer.take("steps/a") == 0
            time.sleep(0.01)
        alive.check()


def test_an_observer_that_slept_has_seen_nothing(storage: Storage, monkeypatch) -> None:
    """One look, an hour of sleep, another look: a beat's worth of stillness, no more."""
    elsewhere(storage, "steps/a")
    with Claims(storage, "observer", beat=5.0, expiry=30.0) as observer:
        assert observer.take("steps/a") == 0
        now = time.monotonic()
        monkeypatch.setattr(claiming.time, "monotonic", lambda: now + 3600)
        assert observer.take("steps/a") == 0
        monkeypatch.undo()


def test_a_driver_that_slept_through_its_time_finds_out_before_it_commits(storage: Storage, monkeypatch) -> None:
    with Claims(storage, "sleeper", beat=60.0, expiry=0.15) as sleeper, Claims(storage, "next", **QUICK) as following:
        sleeper.take("steps/a")
        assert taken(following, "steps/a") == 2
        with pytest.raises(ClaimError, match=r"was replaced: process \d+ .* without a sign of life .*Next: run"):
            sleeper.check()
        with pytest.raises(ClaimError):
            sleeper.take("steps/b")
        sleeper.release("steps/a")
        assert following.holder("steps/a")["recipe"] == "next", "what a sleeper gives back is not another's"
    assert claiming.cards(storage) == [] and storage.names("claims/dead") == []


def test_the_whole_root_is_for_one_alone(storage: Storage) -> None:
    in_use = r"in use by process \d+.*recipe 'driver'.*Next: wait"
    with Claims(storage, "driver"), Claims(storage, "gc", wait=0) as claims:
        block = claims.exclusively()
        with pytest.raises(ClaimError, match=in_use):
            block.__enter__()
    said: list[str] = []
    with Claims(storage, "verify --gc") as claims, claims.exclusively():
        with pytest.raises(ClaimError, match="verify --gc"):
            Claims(storage, "driver", wait=0).__enter__()
        assert [c["recipe"] for c in claiming.cards(storage)] == ["verify --gc"]
        late = threading.Thread(target=lambda: Claims(storage, "late", said.append, wait=10).__enter__().__exit__())
        late.start()
        while not said:
            time.sleep(0.01)
    late.join()
    assert said == [s for s in said if s.startswith("waiting for process")] and len(said) == 1


def test_two_that_want_the_whole_root_come_one_after_the_other(storage: Storage) -> None:
    inside: list[int] = []

    def go() -> None:
        with Claims(storage, "gc", wait=20) as claims, claims.exclusively():
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not any(t.is_alive() for t in threads)


def test_torn_claims_and_cards_hold_nothing_for_ever(storage: Storage) -> None:
    storage.write("claims/steps/a/00000007.json", b"{")
    storage.write("claims/owners/torn.json", b"[1")
    with Claims(storage, "next", **QUICK) as claims:
        assert taken(claims, "steps/a") == 8
        with claims.exclusively():
            pass


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root and Linux's namespaces")
def test_containers_with_one_host_name_do_not_take_each_other_for_dead(storage: Storage) -> None:
    """In a pid namespace of its own a driver looks at a living one outside, whose pid is nobody's there."""
    code = (
        "import sys; from hyperloom.pipeline.root.claims import Claims\n"
        "from hyperloom.pipeline.root.storage import Storage\n"
        "claims = Claims(Storage(sys.argv[1]), 'inside').__enter__()\n"
        "print(claims.take('steps/a'), claims.take('steps/b')); claims.__exit__()"
    )
    inside = ["unshare", "-pf", "--mount-proc"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us make pid namespaces")
    with Claims(storage, "outside") as claims:
        claims.take("steps/a")
        done = subprocess.run([*inside, sys.executable, "-c", code, str(storage)], capture_output=True, text=True)
        assert done.stdout.split() == ["0", "1"], done.stderr
        claims.check()


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root and Linux's namespaces")
def test_a_driver_killed_in_another_pid_namespace_has_its_time(storage: Storage) -> None:
    inside = ["unshare", "-pf", "--mount-proc"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us make pid namespaces")
    killed(storage, "steps/a", inside)
    with Claims(storage, "next", **QUICK) as claims:
        assert claims.take("steps/a") == 0, "nothing is provable of a process in another namespace"
        assert taken(claims, "steps/a") == 2


def test_a_stopped_process_is_replaced_and_ends_when_it_wakes(storage: Storage) -> None:
    code = (
        "import sys, time; from hyperloom.pipeline.root.claims import Claims\n"
        "from hyperloom.pipeline.root.storage import Storage\n"
        "claims = Claims(Storage(sys.argv[1]), 'sleeper', beat=0.03, expiry=0.15).__enter__()\n"
        "claims.take('steps/a'); print('here', flush=True)\n"
        "while True:\n    claims.check(); time.sleep(0.01)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(storage)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdout.readline() == "here\n"
    with Claims(storage, "next", **QUICK) as claims:
        assert claims.take("steps/a") == 0
        child.send_signal(signal.SIGSTOP)
        assert taken(claims, "steps/a") == 2
        child.send_signal(signal.SIGCONT)
        _, said = child.communicate(timeout=20)
        assert "this driver was replaced" in said
        assert claims.take("steps/a") == 2
