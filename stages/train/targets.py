"""Targets: the columns that teach a task, and what each weighs where the recipe gives no number."""

from __future__ import annotations

from typing import Any

from hyperloom.stages.base import is_human

PEOPLE = 3.0
"""A column of people beside others: three answers of experts are worth one of a person, a figure of our own choice."""


def weighed(columns: Any) -> Any:
    """Columns and weights of a task, of one column or a list; others as they are."""
    columns = [columns] if isinstance(columns, str) else columns
    if not isinstance(columns, list | tuple):
        return columns
    people = [c for c in columns if is_human(str(c))]
    return {c: PEOPLE if c in people and len(people) < len(columns) else 1.0 for c in columns}
