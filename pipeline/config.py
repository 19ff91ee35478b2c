"""The base of everything a recipe configures, and the mark that separates meaning from placement.

A field either bears meaning (it enters the fingerprint when it differs from its default) or is *placement*: hardware,
paths, worker counts, batch sizes of inference, endpoints, retry limits. Placement is a mark on the field
(`placement(...)`), so nested plug-ins stay flat in the recipe and no code path can forget the split:
`fingerprint.payload` is the only reader of the mark.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Config(BaseModel):
    """A frozen pydantic model; unknown fields are errors. Field aliases (`in` for `in_`) are what recipes write.

    A recipe uses few of the classes that are imported with it: each is built when it is first used.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True, defer_build=True
    )


def placement(default: Any = ..., **kwargs: Any) -> Any:
    """A field that says where or how fast, never what: it cannot enter a fingerprint."""
    return Field(default, json_schema_extra={"placement": True}, **kwargs)


def secret(default: Any = "", **kwargs: Any) -> Any:
    """A field that holds a credential: placement, and blotted out of all that is shown (`pipeline.secrets`). Its value
    comes from the environment, `${NAME}` in the recipe; one that stands in the recipe itself is refused."""
    return Field(default, json_schema_extra={"placement": True, "secret": True}, repr=False, **kwargs)


def is_secret(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("secret"))


def as_tuple(value: Any) -> Any:
    """For fields that take one name or several: `_listed = field_validator("data", mode="before")(as_tuple)`."""
    return (value,) if isinstance(value, str) else value


class _StepRef:
    """Marker behind `StepName`: the plan turns such a value into an edge, and into a fingerprint in identities."""


STEP_REF = _StepRef()
StepName = Annotated[str, STEP_REF]
"""The name of another step of the recipe. `list[StepName]` works too, as does a field of a nested plug-in."""
