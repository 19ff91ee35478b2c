"""Balancers from torchjd: what they do to conflicting tasks, over workers, and across a resume."""

from __future__ import annotations

import inspect
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.stages.balance.aggregators import OPTIONS, PREFERRING
from hyperloom.stages.world import World
from tests.training import ranks

TASKS = ("a", "b", "c")


class Net(nn.Module):
    """A shared layer and one head a task; `losses` are the means over a batch, as shares of the global one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(4, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in TASKS)

    def losses(self, x: torch.Tensor, y: torch.Tensor, count: int) -> torch.Tensor:
        features = self.shared(x).tanh()
        return torch.stack([(h(features)[:, 0] - y[:, i]).square().sum() / count for i, h in enumerate(self.heads)])


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(8, 4, generator=random)
    return x, torch.stack([x[:, 0], -3 * x[:, 0], x[:, 1]], 1)


def _train(balancer: Any, world: World, updates: int = 4, parts: int = 1, present: Sequence[bool] = (True,) * 3) -> Any:
    """Weights after some updates of plain descent over this rank's part of the data, cut into `parts`."""
    net, module = Net(), plugins.parse("balancer", balancer).build(TASKS, [True] * 3)
    parameters = [*net.parameters(), *module.parameters()]
    optimizer = torch.optim.SGD(parameters, 0.05)
    mine = [t[world.slice(8)] for t in _data()]
    for update in range(updates):
        torch.manual_seed(100 * world.rank + update)  # as the loop does: ranks draw differently
        for x, y in zip(*(m.chunk(parts) for m in mine), strict=True):
            losses = net.losses(x, y, 8) * torch.tensor(present)
            module.backward(losses * world.size, torch.tensor(present), parameters)
        module.settle(parameters, world)
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def _worker(rank: int, balancers: list[Any], folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    torch.save([_train(b, World.current(), parts=2) for b in balancers], folder / str(rank))
    torch.distributed.destroy_process_group()


def _available(name: str) -> bool:
    try:
        plugins.parse("balancer", {"type": "torchjd", "aggregator": name}).build(TASKS, [True] * 3)
    except Exception:
        return False
    return True


def test_two_workers_step_as_one(tmp_path: Path) -> None:
    """Gradients of tasks are summed over parts and ranks before they are aggregated, for every method."""
    names = [
        "static",
        "uncertainty",
        {"type": "leading", "every": 2},
        *({"type": "torchjd", "aggregator": n} for n in OPTIONS if _available(n)),
    ]
    assert {"type": "torchjd", "aggregator": "PCGrad"} in names
    ranks.start(_worker, names, tmp_path)
    first, second = (torch.load(tmp_path / str(rank)) for rank in (0, 1))
    plain = _train("static", World())
    for name, one, two in zip(names, first, second, strict=True):
        assert torch.equal(one, two), name
        assert torch.allclose(one, _train(name, World()), atol=1e-4), name
        differs = not torch.allclose(one, plain, atol=1e-4)
        assert differs or name == "static" or name.get("aggregator") in ("Sum", "GradDrop"), name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_sum_is_the_sum_however_filters_lie_in_memory(layout: torch.memory_format) -> None:
    """A fused optimizer goes through filters and their gradients as they lie there."""

    def weights(aggregated: bool) -> torch.Tensor:
        torch.manual_seed(0)
        trunk, heads = nn.Conv2d(3, 8, 3), [nn.Conv2d(8, 1, 1) for _ in range(2)]
        trunk = trunk.to(memory_format=layout)
        parameters = [p for part in (trunk, *heads) for p in part.parameters()]
        module = plugins.parse("balancer", {"type": "torchjd", "aggregator": "Sum"}).build(("a", "b"), [True] * 2)
        optimizer = torch.optim.AdamW(parameters, 0.01, fused=True)
        x = torch.randn(4, 3, 8, 8).to(memory_format=layout)
        for _ in range(3):
            losses = torch.stack([(h(trunk(x).relu()) - i).square().mean() for i, h in enumerate(heads)])
            if aggregated:
                module.backward(losses, torch.ones(2, dtype=torch.bool), parameters)
                module.settle(parameters, World())
            else:
                losses.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return torch.cat([p.detach().reshape(-1) for p in parameters])

    assert torch.allclose(weights(True), weights(False), atol=1e-6)


def test_a_task_alone_and_a_task_without_labels_are_left_to_themselves() -> None:
    for name in ("pcgrad", "mgda", "upgrad"):
        if not _available(plugins.parse("balancer", name).chosen):
            continue
        gone = _train(name, World(), present=(True, False, False))
        assert torch.allclose(gone, _train("static", World(), present=(True, False, False)), atol=1e-6)
        net, heads = Net(), Net().heads[1].weight.numel() + 1
        start = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
        first = net.shared.weight.numel() + 8 + heads
        assert torch.equal(gone[first : first + heads], start[first : first + heads])


def test_heads_get_their_own_gradient_and_the_trunk_the_aggregate() -> None:
    net, module = Net(), plugins.parse("balancer", "mgda").build(TASKS, [True] * 3)
    parameters = list(net.parameters())
    losses = net.losses(*_data(), 8)
    alone = torch.autograd.grad(losses[0], net.heads[0].weight, retain_graph=True)[0]
    each = [torch.autograd.grad(loss, parameters[:2], retain_graph=True) for loss in losses]
    rows = [torch.cat([g.reshape(-1) for g in gradients]) for gradients in each]
    module.backward(losses, torch.ones(3, dtype=torch.bool), parameters)
    module.settle(parameters, World())
    assert torch.allclose(net.heads[0].weight.grad, alone)
    step = torch.cat([p.grad.reshape(-1) for p in parameters[:2]])
    assert all(float(step @ row) > -1e-6 for row in rows)  # no task loses where gradients conflict
    assert float(step.norm()) <= min(float(row.norm()) for row in rows) + 1e-6  # the shortest of all mixtures


@pytest.mark.parametrize("name", ["GradVac", "PCD", "ExcessMTL", "PCGrad", "leading"])
def test_an_aggregator_goes_on_where_it_was(name: str) -> None:
    def steps(module: Any, net: Net, count: int) -> None:
        for _ in range(count):
            module.backward(net.losses(*_data(), 8), torch.ones(3, dtype=torch.bool), list(net.parameters()))
            module.settle(list(net.parameters()), World())
            with torch.no_grad():
                for p in net.parameters():
                    p -= 0.05 * p.grad
                    p.grad = None

    made = plugins.parse("balancer", name if name == "leading" else {"type": "torchjd", "aggregator": name})
    calm, net = made.build(TASKS, [True] * 3), Net()
    steps(calm, net, 3)
    resumed, again = made.build(TASKS, [True] * 3), Net()
    buffer = io.BytesIO()
    torch.save([calm.state_dict(), net.state_dict()], buffer)
    buffer.seek(0)
    for module, state in zip((resumed, again), torch.load(buffer, weights_only=True), strict=True):
        module.load_state_dict(state)
    steps(calm, net, 2)
    steps(resumed, again, 2)
    assert torch.equal(net.shared.weight, again.shared.weight)


def test_the_table_of_options_is_the_librarys() -> None:
    from torchjd import aggregation

    for name, options in OPTIONS.items():
        parameters = inspect.signature(getattr(aggregation, name).__init__).parameters
        assert set(options) <= set(parameters), name
        assert ("pref_vector" in parameters) == (name in PREFERRING), name
        needed = {k for k, p in parameters.items() if p.default is p.empty}
        assert needed - {"self", *options, "kwargs", "args"} == set(), name


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"type": "torchjd"}, "torchjd has"),
        ({"type": "torchjd", "aggregator": "PCGard"}, "PCGard"),
        ({"type": "cagrad", "options": {"radius": 1}}, "radius"),
        ({"type": "pcgrad", "preference": {"a": 1}}, "takes none"),
    ],
)
def test_an_aggregator_that_is_none_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        plugins.parse("balancer", wrong)
    with pytest.raises(ValueError, match="detph"):
        plugins.parse("balancer", {"type": "upgrad", "preference": {"detph": 1}}).check(["depth"])


def test_the_others_take_no_more_than_their_share_whatever_their_numbers() -> None:
    """The second task is a thousand times as large; by hand: its gradient on the shared layer, weighed, has half the
    norm of the first's."""
    net, module = Net(), plugins.parse("balancer", {"type": "leading", "share": 0.5}).build(TASKS[:2], [True] * 2)
    parameters = list(net.parameters())
    scale = torch.tensor([1.0, 1000.0])
    for _ in range(2):  # the first update measures, the second weighs
        net.zero_grad()
        losses = net.losses(*_data(), 8)[:2] * scale
        rows = [torch.autograd.grad(loss, parameters[:2], retain_graph=True) for loss in losses]
        one, two = (torch.cat([g.flatten() for g in row]) for row in rows)
        module.backward(losses, torch.ones(2, dtype=torch.bool), parameters)
        module.settle(parameters, World())
    step = torch.cat([p.grad.flatten() for p in parameters[:2] if p.grad is not None])
    assert float((step - one).norm()) == pytest.approx(0.5 * float(one.norm()), rel=1e-4)
    assert torch.allclose(step, one + 0.5 * two * one.norm() / two.norm(), rtol=1e-3, atol=1e-6)
