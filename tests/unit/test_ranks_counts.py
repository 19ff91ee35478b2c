"""What checkpoints hold as a sum over ranks: a resumed training counts it once, on the device where ranks add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.stages.train import clock
from hyperloom.stages.train.clipping import Clipping
from hyperloom.stages.train.clock import Clock
from hyperloom.stages.world import World

META = torch.device("meta")
COLUMNS = {"rgb@camera": plugins.parse("modality", {"type": "image", "size": [2, 2]})}


@dataclass(frozen=True)
class Pair(World):
    """One of two ranks that have the same, whose sums go over their device alone, as those of NCCL do."""

    size: int = 2

    def gather(self, value: Any) -> list[Any]:
        return [value, value]

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        assert value.device == self.device
        return value.mul_(2)


def looked(world: World) -> Clipping:
    """One that saw a batch of three samples, of which light left one white."""
    before = torch.full((3, 2, 2, 3), 100.0, device=world.device)
    after = before.clone()
    after[1] = 300
    clipping = Clipping(world)
    clipping.look(0, COLUMNS, {"rgb@camera": before}, {"rgb@camera": after})
    return clipping


def test_a_checkpoint_has_what_all_ranks_counted() -> None:
    clipping = looked(Pair())
    for _ in range(2):  # the second as the first: a sum leaves the rank's own counts as they are
        assert {name: counts.tolist() for name, counts in clipping.state_dict().items()} == {"rgb@camera": [6, 2]}


def test_what_was_counted_before_counts_once_after() -> None:
    ranks = [Clipping(Pair(rank)) for rank in (0, 1)]
    for one in ranks:
        one.load_state_dict({"rgb@camera": torch.tensor([6.0, 2.0])})
    assert sum(one.counts["rgb@camera"] for one in ranks).tolist() == [6, 2]


@pytest.mark.parametrize("rank", [0, 1])
def test_counts_of_a_checkpoint_go_to_the_ranks_device(rank: int) -> None:
    """`checkpoint.load` reads onto the CPU, where NCCL adds nothing up."""
    clipping = looked(Pair(rank, device=META))
    clipping.load_state_dict({"rgb@camera": torch.tensor([6.0, 2.0])})
    assert clipping.state_dict()["rgb@camera"].device == META
    batch = {"rgb@camera": torch.zeros(3, 2, 2, 3, device=META)}
    clipping.look(1, COLUMNS, batch, {"rgb@camera": batch["rgb@camera"] + 1})
    assert clipping.state_dict()["rgb@camera"].device == META


def test_time_is_that_of_all_ranks_and_the_first_goes_on_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock.time, "perf_counter", lambda: 7.0)
    monkeypatch.setattr(clock.time, "process_time", lambda: 3.0)
    assert Clock(since=(2.0, 1.0)).state(Pair()) == [5.0, 4.0], "of wall one rank's, of CPU both ranks'"
    ranks = [Clock(), Clock()]
    for rank, one in enumerate(ranks):
        one.restore([5.0, 4.0], Pair(rank))
    assert [one.seconds for one in ranks] == [5.0, 5.0]
    assert [one.cpu_seconds for one in ranks] == [4.0, 0.0]
