"""The modality of a column as what was stored says it, whatever the recipe says by now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import modality_of


def stored(about: Mapping[str, Any], modalities: Mapping[str, Any], column: str) -> Any:
    """`about` is what the field of a file (`stages.column.described`) or the schema of shards says of `column`; what it
    leaves open is filled in from the recipe. Raises RecipeError where neither says what it is."""
    known = modalities.get(modality_of(column))
    if "type" not in about:
        if known is None:
            raise RecipeError(f"{column}: neither its file nor the recipe says what it is")
        return known
    names = set(plugins.load("modality", about["type"]).model_fields)
    fields = {k: v for k, v in about.items() if k == "type" or (k in names and k not in ("shape", "stored", "dtype"))}
    kind = plugins.parse("modality", fields)
    if "size" in names and getattr(kind, "size", None) is None and len(about.get("shape", ())) >= 2:
        kind = kind.model_copy(update={"size": tuple(about["shape"][:2])})
    try:
        return kind.completed(dict(modalities))
    except (ValueError, KeyError):
        return known if known is not None else kind
