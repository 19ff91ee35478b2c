"""What holds for all tests: property tests on a busy machine, and which tests share a process of `pytest -n`.

Tests that share something costly to start form a group, and a group stays in one process:
`pytest -n 2 --dist loadgroup --no-loadscope-reorder`. All tests on one Ray cluster or one MLflow server are a group,
else each file is one. Groups are handed out in the order of `FOLDERS`, the longest first, so that no process works
alone for long at the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

HERE = Path(__file__).parent
SHARED = {("ray", "ray_cluster"): "the Ray cluster", ("tracking", "server"): "the MLflow server"}
"""Folder and name of a fixture that is started once a process -> the group of the tests that use it."""
FOLDERS = ("ray", "real", "training", "tracking", "stores", "experts")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    groups = {item: _group(item) for item in items}
    order = {group: at for at, group in enumerate(sorted(set(groups.values()), key=_rank))}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: order[groups[item]])  # stable: within a group the order stays


def _group(item: pytest.Item) -> str:
    path = item.path.relative_to(HERE)
    uses = {(path.parts[0], fixture) for fixture in getattr(item, "fixturenames", ())}
    return next((SHARED[key] for key in SHARED if key in uses), str(path))


def _rank(group: str) -> tuple[int, str]:
    folder = next((folder for (folder, _), name in SHARED.items() if name == group), group.partition("/")[0])
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS), "" if group in SHARED.values() else group
