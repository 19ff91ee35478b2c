"""The table of plug-ins: which types are known of each kind, and where their classes lie.

It holds names only and imports nothing, so filling it costs nothing; `pipeline.plugins` makes classes of the names.
"""

from __future__ import annotations

_TABLE: dict[str, dict[str, str]] = {}


def register(kind: str, types: dict[str, str]) -> None:
    """Make `types` (name -> "module:Class") known under `kind`. Nothing is imported."""
    _TABLE.setdefault(kind, {}).update(types)


def known(kind: str) -> list[str]:
    """Names registered under `kind`, sorted."""
    return sorted(_TABLE.get(kind, {}))


def target(kind: str, type_: str) -> str | None:
    """The "module:Class" that is registered under a name; None where there is none."""
    return _TABLE.get(kind, {}).get(type_)
