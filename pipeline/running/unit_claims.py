"""Unit claims: the units that drivers on one root have in hand, so that each is done once by whoever has it.

A space (the units of one expert, say) has a chain (pipeline.root.chain) in `{root}/claims/spaces/{space}`; each link
names the units that one driver has in hand. Whoever adds a link has read all before it and names no unit of a driver
that lives, so links never contradict each other. A driver takes about AHEAD_SECONDS of work at once, and its new link
names all that it still has, so its older ones go: a hundred thousand units are a few files at any time, and a fraction
of a percent of the work.

What another driver has in hand comes here as it is committed (a thread looks for the records), or becomes free: its
driver died, gave it up, or had it in hand for HOLD_SECONDS without beginning it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass, field

from hyperloom.pipeline.commits.retry import Key
from hyperloom.pipeline.commits.units import Unit, is_whole, load_record
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.root.chain import Link
from hyperloom.pipeline.root.claims import Claims, Who
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.work import Work
from hyperloom.pipeline.workers.slots import Seat

AHEAD_SECONDS = 20.0
"""Work that a driver takes in hand at once; six times that where a store makes each claim slow."""
HOLD_SECONDS = 60.0
"""What was in hand for so long and has not begun is given back."""
LOOK_SECONDS, LOOK_LONGEST = 0.5, 10.0
"""Between two looks at what others have in hand; longer where a look takes long."""
LOOK_SHARE = 200
"""How much longer than a look the pause is at least."""
FEW = 16
"""Records that are looked for one by one; of more the folder is listed."""


@dataclass
class _Space:
    """This driver's part in a space: what it has in hand, and its link that says so."""

    units: set[str] = field(default_factory=set)
    link: Link | None = None
    since: float = 0.0


class UnitClaims:
    """The unit claims of one run. Without `claims` all units are this driver's. Belongs to the pool's thread, but for
    the thread that waits for others: it settles their units in `works()`, under the condition `news`, and then calls
    `ring`."""

    def __init__(
        self, claims: Claims | None, works: Callable[[], list[Work]], news: threading.Condition,
        ring: Callable[[], None],
    ):  # fmt: skip
        self.claims, self.works, self.news, self.ring = claims, works, news, ring
        self._spaces: dict[str, _Space] = {}
        self._awaited: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._stop = False
        self._tended = time.monotonic()
        self._thread: threading.Thread | None = None

    def group(self, work: Work, seat: Seat, seats: list[Seat], flying: Container[Key]) -> list[Unit]:
        """The next group of a step for a slot (see `Work.take`): units that this driver has in hand."""
        if self.claims is None:
            return work.take(seat, seats, flying)
        ahead = AHEAD_SECONDS if self.claims.storage.exclusive else 6 * AHEAD_SECONDS
        return work.take(seat, seats, flying, self._secure, ahead)

    def _secure(self, key: Key, ahead: Callable[[], Iterable[Key]]) -> bool:
        """Have this unit in hand, and of those that come `ahead` what is free; False while another driver has it, which
        is then waited for. Raises StorageError."""
        space, id_ = key
        own = self._spaces.setdefault(space, _Space())
        if id_ in own.units:
            return True
        fresh = {i for s, i in ahead() if s == space} | {id_}
        if id_ in self._take(space, own, fresh - own.units):
            return True
        with self._lock:
            self._awaited.setdefault(space, set()).add(id_)
        self._bell.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="unit claims", daemon=True)
            self._thread.start()
        return False

    def done(self, key: Key) -> None:
        """A unit of this driver was committed."""
        if (own := self._spaces.get(key[0])) is not None:
            own.units.discard(key[1])

    def drop(self, keys: Iterable[Key]) -> None:
        """This driver does not want these units any more."""
        spaces: dict[str, set[str]] = {}
        for space, id_ in keys:
            spaces.setdefault(space, set()).add(id_)
        for space, ids in spaces.items():
            with self._lock:
                self._awaited.get(space, set()).difference_update(ids)
            own = self._spaces.get(space)
            if own is not None and own.units & ids:
                own.units -= ids
                self._say(space, own)

    def tend(self, flying: Collection[Key]) -> None:
        """Give back what has been in hand for long and is not in `flying`."""
        now = time.monotonic()
        if now - self._tended < HOLD_SECONDS / 6:
            return
        self._tended = now
        for space, own in self._spaces.items():
            if own.units and now - own.since > HOLD_SECONDS:
                self.drop([(space, i) for i in own.units if (space, i) not in flying])

    def close(self) -> None:
        """Give everything back."""
        self._stop = True
        self._bell.set()
        for space, own in self._spaces.items():
            own.units.clear()
            try:
                self._say(space, own)
            except HyperloomError:
                continue  # it expires
        self._spaces.clear()

    # -- in hand -----------------------------------------------------------------------------------------------------
    def _take(self, space: str, own: _Space, fresh: set[str]) -> set[str]:
        """Take in hand what nobody else has of `fresh`."""
        chain = self._mine.chain(f"spaces/{space}")
        while True:
            last, theirs, over = self._theirs(space)
            free = fresh - set().union(*(ids for _, ids in theirs))
            if not free:
                return free
            units = own.units | free
            link = chain.append(last, self._mine.entry(units=sorted(units)))
            if link is not None:
                break
        for who, why, ids in over:
            if both := ids & free:
                self._mine.say(f"taking {counted(len(both), 'unit')} of {space} over from {process.named(who)}: {why}")
        living = {number for number, _ in theirs}
        for number, name in chain.names().items():
            if number < link.number and number not in living:
                self._storage.delete(f"{chain.folder}/{name}")
        own.units, own.link, own.since = units, link, time.monotonic()
        return free

    def _theirs(self, space: str) -> tuple[int, list[tuple[int, set[str]]], list[tuple[Who, str, set[str]]]]:
        """The last number of a space's chain, what other drivers that live have in hand (by number of the link), and
        what those had that are gone, with why."""
        chain = self._mine.chain(f"spaces/{space}")
        names, theirs, over = chain.names(), [], []
        for number, name in names.items():
            try:
                who = json.loads(chain.read(name))
                ids, owner = set(who["units"]), who["owner"]
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                continue  # given back, or torn: then a unit may be done twice, to the same bytes
            if owner == self._mine.owner or not ids:
                continue
            if why := self._mine.gone(who):
                over.append((who, why, ids))
            else:
                theirs.append((number, ids))
        return max(names, default=0), theirs, over

    def _say(self, space: str, own: _Space) -> None:
        """Write anew what this driver has in hand of a space."""
        if own.link is not None:
            self._mine.chain(f"spaces/{space}").replace(own.link, self._mine.entry(units=sorted(own.units)))

    @property
    def _mine(self) -> Claims:
        assert self.claims is not None
        return self.claims

    @property
    def _storage(self) -> Storage:
        return self._mine.storage

    # -- waiting for others ------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        pause = 0.0
        while not self._stop:
            with self._lock:
                awaited = {space: set(ids) for space, ids in self._awaited.items() if ids}
            if not awaited:
                self._bell.wait()
                self._bell.clear()
                continue
            time.sleep(pause)
            if self._stop:
                return
            began = time.monotonic()
            try:
                for space, ids in awaited.items():
                    self._look(space, ids)
            except HyperloomError:
                pass  # the store does not answer: the next look may be luckier
            pause = min(LOOK_LONGEST, max(LOOK_SECONDS, LOOK_SHARE * (time.monotonic() - began)))

    def _look(self, space: str, ids: set[str]) -> None:
        """Hand on what was done or given back. Who has it is read first: what is committed is given back afterwards."""
        _, theirs, _ = self._theirs(space)
        busy = set().union(*(in_hand for _, in_hand in theirs))
        if len(ids) > FEW:
            listed = {name.removesuffix(".json") for name in self._storage.names(f"{space}/units")} & ids
        else:
            listed = ids
        for id_ in sorted(ids):
            record = load_record(self._storage, space, id_) if id_ in listed else None
            if record is not None and not is_whole(self._storage, record):
                record = None
            if record is None and id_ in busy:
                continue
            with self._lock:
                self._awaited[space].discard(id_)
            with self.news:
                for work in self.works():
                    if record is not None:
                        work.elsewhere(record)
                    else:
                        work.freed((space, id_))
            self.ring()
