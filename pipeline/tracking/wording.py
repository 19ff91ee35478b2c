"""How events are worded for MLflow: names it allows, flat parameters, Markdown tables, run states."""

from __future__ import annotations

import json
import re
from typing import Any

_STATES = {"running": "RUNNING", "interrupted": "KILLED", "cancelled": "KILLED", "killed": "KILLED"}
_STATES |= dict.fromkeys(("done", "finished", "reused"), "FINISHED")


def state(event: dict[str, Any]) -> str:
    """MLflow's word for how a step or run ended; any status it does not know is a failure."""
    return _STATES.get(str(event.get("status", "finished")).lower(), "FAILED")


def allowed(key: str) -> str:
    """`key` with what MLflow allows in names: `semantic@color` becomes `semantic.color`."""
    return re.sub(r"[^\w.\- /]", "_", key.replace("@", "."))[:250]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters by dotted names; a list stays one value, as JSON."""
    out: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return out


def markdown(columns: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; floats with four digits, missing values empty."""

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")

    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)
