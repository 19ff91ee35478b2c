"""Results: what a stage made, as a typed object; in the manifest it is the body, plain JSON.

A result is a frozen dataclass whose fields are the keys of the body. The metadata of a field may say how its value is
read and written (`form`); a field that is None is left out of the body, so an optional part costs no bytes where it
does not apply.

Which result a manifest holds follows from the form of its body, never from the name of the stage: a stage of one's own
that returns `Labels` is read like the label stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, Self

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError


def form(read: Callable[[Any], Any], write: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
    """Metadata of a field whose JSON is `write(value)` and whose value is `read(json)`."""
    return {"read": read, "write": write}


@dataclass(frozen=True)
class Result:
    """Base of results. A body is of this form when it has the keys of all fields without a default."""

    noun: ClassVar[str] = "result"
    """What messages call it."""

    def body(self) -> dict[str, Any]:
        """The manifest's body: JSON, deterministic."""
        values = {f.name: (f, getattr(self, f.name)) for f in fields(self)}
        return {name: f.metadata.get("write", _same)(v) for name, (f, v) in values.items() if v is not None}

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """The result in a manifest; None when its body has another form."""
        known = {f.name: f for f in fields(cls)}
        if any(_required(f) and name not in manifest.body for name, f in known.items()):
            return None
        return cls(**{n: known[n].metadata.get("read", _same)(v) for n, v in manifest.body.items() if n in known})

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Self:
        """The result in a manifest. Raises RecipeError when its body has another form."""
        result = cls.of(manifest)
        if result is None:
            raise RecipeError(
                f"the {manifest.stage} step {manifest.fingerprint[:12]} holds no {cls.noun}. Next: read another step"
            )
        return result


def _required(f: Field[Any]) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


def _same(value: Any) -> Any:
    return value
