"""Claims: who works on what under a root, so that several drivers share it and a dead one is replaced.

Who works here has a card, `{root}/claims/owners/{owner}.json`, which says its process, its recipe and what it holds; it
alone writes its card, anew every BEAT seconds. A claim on a thing is a link of the thing's chain (pipeline.root.chain),
`{root}/claims/{name}/{epoch}.json`: the highest epoch holds it, if its owner lives and has not released it. So epochs
only grow, and nobody removes or overwrites another's claim.

An owner is dead when its process is provably gone (on this very kernel, in this very pid namespace), or when its card
stood still for EXPIRY seconds of the observer's own clock, in looks of which none counts for more than a beat (an
observer that slept itself has seen nothing), and once more after a pause. Then a mark is left,
`{root}/claims/dead/{owner}.json`, before anything of it is taken: whoever sleeps through its time finds the mark when
it wakes, before it commits anything, and ends. What it may still do in between is harmless by itself: records and
manifests are immutable, pointers (pipeline.root.pointer) are written after a version. What removes things (gc, repair,
replay) has the whole root for itself (`exclusively`).
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.errors import ClaimError, StorageError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.root import sealed
from hyperloom.pipeline.root.chain import Chain, Link
from hyperloom.pipeline.root.storage import Storage

FOLDER = "claims"
BEAT = 5.0
EXPIRY = 30.0
PATIENCE = 10
"""A store that does not answer for so many times EXPIRY ends the driver: nobody knows what became of its claims."""
WHOLE = "root"
"""The claim on the whole root."""
LOOK = 0.5
"""Seconds between two looks at what another holds."""

Who = dict[str, Any]


@dataclass
class _Watched:
    """What an observer has seen of another's card."""

    beat: Any = None
    looked: float = field(default_factory=time.monotonic)
    still: float = 0.0
    """Seconds for which it was seen not to move."""
    second: bool = False
    """Did it look dead already, at the look before?"""


class Claims:
    """This process's part in a root, from `with` to its end. Its methods may be called from any thread."""

    def __init__(
        self, storage: Storage, recipe: str, say: Callable[[str], None] = lambda _: None, wait: float = 60.0,
        beat: float | None = None, expiry: float | None = None,
    ):  # fmt: skip
        self.storage, self.recipe, self.say, self.wait = storage, recipe, say, wait
        self.beat, self.expiry = beat or BEAT, expiry or EXPIRY
        self.owner = uuid.uuid4().hex
        self.run = ""
        """The id of the run that this driver makes, for its card."""
        self._held: dict[str, Link] = {}
        self._count = 0
        self._waits = False
        self._lost = ""
        self._seen_alive = _clock()
        self._watched: dict[str, _Watched] = {}
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._keep, name="claims", daemon=True)

    # -- being here --------------------------------------------------------------------------------------------------
    def __enter__(self) -> Claims:
        """Begin to work on the root. Waits for who has all of it; raises ClaimError after `wait` seconds."""
        if not self.storage.exclusive:
            self.say("this store does not keep exclusive creation: claims are written under own names and read back")
        self._write_card()
        self._thread.start()
        try:
            self._enter()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _enter(self) -> None:
        """Wait until nobody has the whole root. The card is there before the question, and whoever takes the whole root
        looks at cards afterwards: of two who begin at once, one sees the other."""
        deadline, announced = time.monotonic() + self.wait, False
        while who := self.holder(WHOLE):
            if time.monotonic() > deadline:
                raise self._busy(who, "has all of it for itself")
            if not announced:
                self.say(f"waiting for {process.named(who)}, {who['recipe']!r} (up to {self.wait:.0f} s)")
                announced = True
            self._waiting(True)
            time.sleep(LOOK)
            self._waiting(False)

    def _waiting(self, so: bool) -> None:
        """Say on the card that this driver does nothing: it is in nobody's way."""
        if self._waits != so:
            self._waits = so
            self._write_card()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=self.beat * 2)
        for name in list(self._held):
            with suppress(StorageError):  # it expires
                self.release(name)
        with suppress(StorageError):
            self.storage.delete(_card(self.owner))
            self.storage.delete(_mark(self.owner))

    def check(self) -> None:
        """Raise ClaimError when this driver was taken for dead. Costs nothing, unless it has slept."""
        if not self._lost and _clock() - self._seen_alive > self.expiry / 2:
            self._confirm()
        if self._lost:
            raise ClaimError(
                f"this driver was replaced: {self._lost}. Nothing more is written; its finished work is kept. "
                "Next: run the same command again"
            )

    def confirm(self) -> None:
        """Ask the store now, and raise ClaimError when this driver was taken for dead: before what cannot be undone."""
        self._confirm()
        self.check()

    # -- claims ------------------------------------------------------------------------------------------------------
    def take(self, name: str) -> int:
        """Claim `name` (a relative path) for this driver: the claim's epoch, from 1, or 0 where another driver that
        lives holds it. What is taken from a dead one is said. Raises StorageError, ClaimError."""
        self.check()
        chain = self.chain(name)
        while True:
            last = chain.last()
            holder = _held(last)
            if holder and not (why := self.gone(holder)):
                return last.number if last and holder["owner"] == self.owner else 0
            link = chain.append(last.number if last else 0, self.entry())
            if link is None:
                continue
            chain.trim(link.number)
            with self._lock:
                self._held[name] = link
            self._write_card()
            if holder:
                self.say(f"taking {name} over from {process.named(holder)}: {why}")
            return link.number

    def release(self, name: str) -> None:
        """Give a claim back; nothing happens where it is not held. Raises StorageError; then it is held as before."""
        link = self._held.get(name)
        if link is not None:
            self.chain(name).replace(link, self.entry(released=True))
            with self._lock:
                self._held.pop(name, None)

    def holder(self, name: str) -> Who | None:
        """Who holds `name`; None when nobody does, or somebody that is gone."""
        held = _held(self.chain(name).last())
        return held if held and not self.gone(held) else None

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Inside the block no other driver works on the root, or begins to. Raises ClaimError when one does for longer
        than `wait` seconds."""
        deadline = time.monotonic() + self.wait
        self._waiting(True)
        try:
            while busy := self._whole_is_taken():
                if time.monotonic() > deadline:
                    raise self._busy(busy, "this command must not meet others")
                time.sleep(LOOK)
            yield
        finally:
            self.release(WHOLE)
            self._waiting(False)

    def _whole_is_taken(self) -> Who | None:
        """By whom; None once it is this driver's."""
        if not self.take(WHOLE):
            return self.holder(WHOLE) or {"owner": "", "recipe": "?"}
        return next((w for w in self.others() if not w.get("waits")), None)

    def others(self) -> list[Who]:
        """The other drivers that work on this root."""
        return [w for w in cards(self.storage) if w["owner"] != self.owner and not self.gone(w)]

    def chain(self, name: str) -> Chain:
        return Chain(self.storage, f"{FOLDER}/{name}", self._alone)

    def entry(self, **more: Any) -> bytes:
        """What a claim of this driver says."""
        return json.dumps({"owner": self.owner, "recipe": self.recipe, **process.this(), **more}).encode()

    # -- others ------------------------------------------------------------------------------------------------------
    def gone(self, who: Who) -> str:
        """Why a driver is known to be dead, in words; empty while it may live. Never waits: what takes time to be sure
        of takes several calls."""
        if who["owner"] == self.owner:
            return ""
        if process.is_gone(who):
            why = "its process is gone"
        elif self.storage.exists(mark := _mark(who["owner"])):
            return str(_read(self.storage, mark).get("why") or "it was found dead")  # maybe by another call of ours
        elif self._still(who["owner"]):
            why = f"no sign of life for {self.expiry:g} s"
            self.storage.write_json(_mark(who["owner"]), {"by": process.this(), "why": why})
        else:
            return ""
        self.storage.delete(_card(who["owner"]))
        return why

    def _still(self, owner: str) -> bool:
        """Has its card not moved for long enough, and not even now? A card that is gone does not move either."""
        beat = _read(self.storage, _card(owner)).get("beat")
        with self._lock:
            seen = self._watched.setdefault(owner, _Watched(beat))
            now = time.monotonic()
            passed, seen.looked = now - seen.looked, now
            if beat != seen.beat:
                self._watched[owner] = _Watched(beat)
                return False
            seen.still += min(passed, self.beat)
            if seen.still <= self.expiry:
                return False
            if not seen.second:  # it may have woken together with us: a beat's time for it to say so
                seen.second, seen.still = True, self.expiry - 1.5 * self.beat
                return False
            return True

    def _alone(self) -> bool:
        return not self.others()

    def _busy(self, who: Who, why: str) -> ClaimError:
        return ClaimError(
            f"{self.storage} is in use by {process.named(who)}, recipe {who['recipe']!r}: {why}. Next: wait for it "
            f"(--wait 3600), or stop it; a dead machine's claims expire in {self.expiry:.0f} s"
        )

    # -- one's own card ----------------------------------------------------------------------------------------------
    def _write_card(self) -> None:
        with self._lock:
            self._count += 1
            card = self.entry(beat=self._count, works=sorted(self._held), waits=self._waits, run=self.run)
        self.storage.write(_card(self.owner), sealed.wrap(_card(self.owner), card), durable=False)

    def _confirm(self) -> None:
        """Look whether this driver was taken for dead."""
        before = _clock()
        try:
            mark = _read(self.storage, _mark(self.owner))
        except StorageError as error:
            if before - self._seen_alive > PATIENCE * self.expiry:
                self._lost = f"the store has not answered for {before - self._seen_alive:.0f} s ({error})"
            return
        if mark:
            by = mark.get("by") or {}
            self._lost = f"{process.named(by)} found it without a sign of life and took over"
        self._seen_alive = before

    def _keep(self) -> None:
        while not self._stop.wait(self.beat) and not self._lost:
            self._confirm()
            try:
                if not self._lost:
                    self._write_card()
            except StorageError:
                continue


@contextmanager
def alone(storage: Storage, what: str, wait: float) -> Iterator[Claims]:
    """Inside the block no driver works on the root: what removes things must not take them from under one. `check` what
    it gives before each removal. Raises ClaimError when one works here for longer than `wait` seconds."""
    with Claims(storage, what, lambda line: print(f"hyperloom: {line}"), wait) as claims, claims.exclusively():
        yield claims


def cards(storage: Storage) -> list[Who]:
    """The cards of all drivers under a root, whether they live or not."""
    owners = [name.removesuffix(".json") for name in storage.names(f"{FOLDER}/owners")]
    return [{"owner": owner, "recipe": "?", **_read(storage, _card(owner))} for owner in owners]


def sweep(storage: Storage) -> None:
    """Remove the cards of drivers that provably died."""
    for card in cards(storage):
        if process.is_gone(card):
            storage.delete(_card(card["owner"]))


def _held(link: Link | None) -> Who | None:
    """Who holds a claim by its last link; None of one that was released. A torn link holds until it expires."""
    if link is None:
        return None
    try:
        who = json.loads(link.data)
        return None if who.get("released") or not who["owner"] else who
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"owner": f"torn-{link.number}", "recipe": "?"}


def _read(storage: Storage, path: str) -> dict[str, Any]:
    """A small JSON object; empty where there is none, or a torn one."""
    try:
        value = storage.read_json(path)
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _card(owner: str) -> str:
    return f"{FOLDER}/owners/{owner}.json"


def _mark(owner: str) -> str:
    return f"{FOLDER}/dead/{owner}.json"


def _clock() -> float:
    """Seconds that go on while the machine sleeps, where the kernel counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
