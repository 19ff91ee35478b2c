"""Objectives of distillation: cases by hand against NumPy, and what is best for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.stages.world import World


def _value(objective: Any, logits: torch.Tensor, teacher: torch.Tensor, weight: Any = None) -> float:
    loss = plugins.parse("objective", objective).loss(None)
    labelled, total = loss(logits, teacher, World())
    amount = labelled.sum() if weight is None else torch.where(labelled, weight, 0.0).sum()
    return float(total(labelled, weight) / amount)


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, torch.Tensor]:
    """Two samples of 3 x 4 pixels and 3 classes; the teacher says nothing of two pixels."""
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 3, 4, generator=random, dtype=torch.float64)
    teacher = (2 * torch.randn(2, 3, 3, 4, generator=random, dtype=torch.float64)).softmax(1)
    teacher[0, :, 0, 0] = teacher[1, :, 2, 3] = 0
    return logits, teacher


def _rows(case: tuple[torch.Tensor, torch.Tensor], temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Student's and teacher's probabilities at the labelled pixels, (22, 3), softened."""
    logits, teacher = (part.numpy().transpose(0, 2, 3, 1).reshape(-1, 3) for part in case)
    known = teacher.sum(1) > 0.5
    student, other = np.exp(logits[known] / temperature), teacher[known] ** (1 / temperature)
    return student / student.sum(1, keepdims=True), other / other.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergences_by_hand(case: Any, temperature: float) -> None:
    p, q = _rows(case, temperature)
    middle = (p + q) / 2
    reverse = (p * np.log(p / q)).sum(1).mean() * temperature**2
    symmetric = ((p * np.log(p / middle)).sum(1) + (q * np.log(q / middle)).sum(1)).mean() / 2 * temperature**2
    assert _value({"type": "reverse-kl", "temperature": temperature}, *case) == pytest.approx(reverse, rel=1e-4)
    assert _value({"type": "jensen-shannon", "temperature": temperature}, *case) == pytest.approx(symmetric, rel=1e-4)


def test_relations_by_hand(case: Any) -> None:
    p, q = _rows(case, 1.0)
    at_sites = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    in_classes = np.mean([1 - np.corrcoef(p[:, c], q[:, c])[0, 1] for c in range(3)])
    assert _value({"type": "dist", "sites": 0}, *case) == pytest.approx(at_sites, rel=1e-3)
    assert _value({"type": "dist", "classes": 0}, *case) == pytest.approx(in_classes, rel=1e-3)
    assert _value({"type": "dist", "classes": 2, "sites": 3}, *case) == pytest.approx(
        2 * at_sites + 3 * in_classes, rel=1e-3
    )


def test_channels_by_hand(case: Any) -> None:
    logits, teacher = (part.numpy().reshape(2, 3, 12) for part in case)
    total = amount = 0.0
    for n in range(2):
        known = teacher[n].sum(0) > 0.5
        student = logits[n] - np.log(np.exp(logits[n]).sum(0))
        a, b = (np.exp(x[:, known] / 4) for x in (student, np.log(np.clip(teacher[n], 1e-6, 1))))
        a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
        total += (b * np.log(b / a)).sum(1).mean() * 16 * known.sum()
        amount += known.sum()
    assert _value("channel-wise", *case) == pytest.approx(total / amount, rel=1e-4)


@pytest.mark.parametrize("objective", ["reverse-kl", "jensen-shannon", "dist", "channel-wise"])
def test_a_student_like_its_teacher_is_best(case: Any, objective: str) -> None:
    teacher = case[1]
    logits = teacher.clamp(min=1e-6).log().requires_grad_()
    loss = plugins.parse("objective", objective).loss(None)
    labelled, total = loss(logits, teacher, World())
    value = total(labelled, None)
    value.backward()
    best = float(value.detach())
    assert best == pytest.approx(0, abs=1e-4) and best < _value(objective, *case)
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
