"""Pointers and chains: one of several writers wins, nobody replaces what he has not seen, damage is one line."""

from __future__ import annotations

import os
import threading
import time

import pytest

from hyperloom.pipeline.errors import IntegrityError, StorageError, Superseded
from hyperloom.pipeline.root import chain as chains
from hyperloom.pipeline.root.chain import Chain
from hyperloom.pipeline.root.pointer import Pointer, Version
from hyperloom.pipeline.root.storage import Storage


@pytest.fixture(params=["exclusive", "read back"])
def storage(request: pytest.FixtureRequest, tmp_path, monkeypatch) -> Storage:
    if request.param == "read back":
        monkeypatch.setattr(Storage, "probe_exclusive", lambda self: False)
        monkeypatch.setattr(chains, "SETTLE_SECONDS", 0.05)
    return Storage(str(tmp_path))


def test_a_value_is_written_after_the_version_that_was_read(storage: Storage) -> None:
    pointer = Pointer(storage, "things/one", "the thing")
    assert pointer.read() == Version()
    first = pointer.write({"a": 1}, Version())
    second = pointer.write({"a": 2}, first)
    assert pointer.read() == second and (second.number, second.value) == (2, {"a": 2})
    with pytest.raises(Superseded, match=r"the thing under .* was changed by somebody else.*Next: run the same"):
        pointer.write({"a": 3}, first)
    assert pointer.read() == second
    third = pointer.write(None, second)
    assert pointer.read() == third and len(storage.names("things/one")) == 2


def test_a_sleeper_whose_number_was_trimmed_meanwhile_changes_nothing(storage: Storage) -> None:
    pointer = Pointer(storage, "one")
    old = version = pointer.write(0, Version())
    for value in range(5):
        version = pointer.write(value, version)
    assert not [n for n in storage.names("one") if n.startswith("00000002")], "free again, for a writer that asks"
    with pytest.raises(Superseded):
        pointer.write("late", old)
    assert pointer.read() == version


def test_one_of_many_writers_wins(storage: Storage, monkeypatch) -> None:
    monkeypatch.setattr(chains, "SETTLE_SECONDS", 0.2)
    won: list[int] = []
    start = threading.Barrier(8)

    def race(i: int) -> None:
        start.wait()
        if Chain(storage, "race").append(0, str(i).encode()):
            won.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    last = Chain(storage, "race").last()
    assert last and last.data == str(won[0]).encode() and len(storage.names("race")) == 1


def test_a_file_that_took_too_long_to_write_wins_nothing(tmp_path, monkeypatch) -> None:
    """Such a store may have dated it before the others, and shown it after they had looked."""
    monkeypatch.setattr(Storage, "probe_exclusive", lambda self: False)
    monkeypatch.setattr(chains, "SETTLE_SECONDS", 0.05)
    write, began = Storage.write, threading.Event()

    def slow(self: Storage, path: str, data: bytes, durable: bool = True) -> None:
        began.set()
        date = time.time()
        time.sleep(0.15)
        write(self, path, data, durable)
        os.utime(self.path(path), (date, date))

    late, won = Storage(str(tmp_path)), []
    monkeypatch.setattr(late, "write", slow.__get__(late))
    writer = threading.Thread(target=lambda: won.append(Chain(late, "race").append(0, b'"late"')))
    writer.start()
    began.wait()
    link = Chain(Storage(str(tmp_path)), "race").append(0, b'"quick"')
    writer.join()
    assert won == [None] and link and Chain(Storage(str(tmp_path)), "race").last() == link


def test_a_store_on_which_every_file_takes_too_long_is_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Storage, "probe_exclusive", lambda self: False)
    monkeypatch.setattr(chains, "SETTLE_SECONDS", 0.0)
    with pytest.raises(StorageError, match=r"race: 20 small files in a row took more than 0 s.*Next: run the same"):
        Chain(Storage(str(tmp_path)), "race").append(0, b"1")
    assert not Storage(str(tmp_path)).names("race")


def test_whoever_began_last_goes_on(storage: Storage) -> None:
    pointer = Pointer(storage, "checkpoint")
    first = pointer.write({"update": 1}, pointer.begin())
    later = Pointer(storage, "checkpoint").begin()
    assert later.value == {"update": 1} and later.number > first.number
    with pytest.raises(Superseded):
        pointer.write({"update": 2}, first)
    assert pointer.write({"update": 3}, later).value == {"update": 3}


def test_an_answer_that_was_lost_is_no_defeat(storage: Storage, monkeypatch) -> None:
    """The store did it and the client asked again, so it hears that the name is taken: by itself."""
    create = Storage.create
    monkeypatch.setattr(Storage, "create", lambda *a: create(*a) and create(*a))
    assert Chain(storage, "one").append(0, b"mine")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"value": {"a": 2}, "epoch": 0, "sha256": "0"}'])
def test_damage_is_one_line_and_removing_the_file_goes_back(storage: Storage, damage: bytes) -> None:
    pointer = Pointer(storage, "one")
    first = pointer.write({"a": 1}, Version())
    pointer.write({"a": 2}, first)
    name = storage.names("one")[-1]
    storage.write(f"one/{name}", damage)
    with pytest.raises(IntegrityError, match=rf"{name}: one was cut or changed.*Next: hyperloom verify --repair"):
        pointer.read()
    if damage == b"{":
        assert pointer.begin().value is None, "progress that cannot be read is no progress"
        return
    storage.delete(f"one/{name}")
    assert pointer.read() == first
