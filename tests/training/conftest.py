"""What trainings are tried on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Storage, ingest and shards of sixteen small scenes, four of which validate."""
    return scenes.shards(tmp_path_factory.mktemp("root"), val=True)
