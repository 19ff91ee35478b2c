"""The source `python`: samples that a function of the user's own makes, the twin of the expert `python`.

    {type: python, call: "mine:digits", out: [scan@file, digit@truth], options: {labels: 10}, files: digits.parquet}

The function is called as `function(**options)` and yields `(key, group, values)` for each sample, in order: `values` is
a dict from column to array or plain value, and a column that it leaves out is missing there. Whoever has a parameter
`files` gets the paths of the recipe's `files`.

The step's identity is the code of the module, the options and the content of `files`; that of a partition what its
samples hold, so changed code costs only what it changed. The function runs once while units are planned, where values
are looked at and let go, and once in each worker, which keeps all of them: what does not fit into memory belongs into
files of another source. It must give the same samples each time.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from pydantic import Field, JsonValue, PrivateAttr, field_validator

from hyperloom.pipeline.config import as_tuple, placement
from hyperloom.pipeline.errors import HyperloomError, PluginError, SourceError
from hyperloom.pipeline.root import filelist
from hyperloom.pipeline.root.digests import Digests, FileDigest
from hyperloom.stages import usercode
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.source import Item, Piece, Read, Source, Values
from hyperloom.stages.modality.values import fit

Sample: TypeAlias = tuple[str, str, Mapping[str, Any]]
UNTOUCHED = (HyperloomError, ConnectionError, TimeoutError, MemoryError)
"""What a function may raise to be understood as it is."""


class Generated(Source):
    """Samples by the user's own code. Raises PluginError when it cannot be imported, or yields what is no sample, and
    SourceError when it raises or gives none."""

    revision: ClassVar[int] = 1
    fits: ClassVar[bool] = False
    call: str
    """`module:name` of a function that yields `(key, group, {column: value})`."""
    out: tuple[str, ...] = Field(min_length=1)
    """The columns that it makes."""
    options: dict[str, JsonValue] = {}
    files: tuple[str, ...] = placement(())
    """Files, folders or patterns that it reads; their content belongs to the step's identity. What lies below the root
    is none of them."""
    _root: str = PrivateAttr("")

    _dotted = field_validator("call")(usercode.dotted)
    _tuple = field_validator("out", "files", mode="before")(as_tuple)

    def offers(self) -> tuple[str, ...]:
        for column in self.out:
            modality_of(column)
        return self.out

    def check(self, modalities: dict[str, Any]) -> None:
        usercode.source_file(self._module)

    def facts(self, digests: Digests) -> list[Any]:
        code = usercode.source_file(self._module)
        read = [[f.name, f.sha256] for pattern in self.files for f in digests.files(pattern)]
        return [self.call, self.options, digests.file(code).sha256 if code else "", read]

    def pieces(self, digests: Digests) -> list[Piece]:
        groups: dict[str, list[FileDigest]] = {}
        facts = json.dumps(self.facts(digests))
        for key, group, digest in _listing(self.model_dump_json(), str(digests.storage), facts):
            groups.setdefault(group, []).append(FileDigest("", key, 0, digest))
        return [Piece(group, group, tuple(samples)) for group, samples in sorted(groups.items())]

    def items(self, piece: Piece) -> list[Item]:
        return [Item(sample.name, index, digest=sample.sha256) for index, sample in enumerate(piece.files)]

    def meaning(self, column: str) -> dict[str, Any]:
        """Samples are known by what they hold, so the code that made them is left out here."""
        return {"type": self.type, "revision": type(self).revision, "column": column}

    def beside(self, root: str) -> Generated:
        source = self.model_copy()
        source._root = root
        return source

    def build(self, modalities: dict[str, Any]) -> Read:
        kept: dict[str, tuple[str, Mapping[str, Any]]] = {}

        def read(items: list[Item]) -> Iterator[tuple[Item, Values | Exception]]:
            if not kept:
                kept.update((key, (_digest(values), values)) for key, _, values in self.samples())
            for item in items:
                digest, values = kept.get(item.key, ("", {}))
                if digest != item.digest:
                    raise PluginError(
                        f"{self.call} gave another {item.key!r} than a moment before. Next: make it give the same "
                        "samples each time, such as by a fixed seed"
                    )
                yield item, self._fitted(values, modalities)

        return read

    def samples(self) -> Iterator[Sample]:
        """What the function yields, checked."""
        function = usercode.imported(self.call)
        given: dict[str, Any] = dict(self.options)
        seen: set[str] = set()
        try:
            if "files" in inspect.signature(function).parameters:
                given["files"] = [f.path for pattern in self.files for f in filelist.find(pattern, self._root).files]
            for sample in function(**given):
                yield self._checked(sample, seen)
        except UNTOUCHED:
            raise
        except Exception as error:  # a person's code may raise anything
            where = usercode.line(usercode.source_file(self._module), error)
            raise SourceError(f"{self.call} failed: {type(error).__name__}: {error}{where}") from error

    def _checked(self, sample: Any, seen: set[str]) -> Sample:
        form = isinstance(sample, tuple) and len(sample) == 3 and all(isinstance(name, str) for name in sample[:2])
        if not form or not isinstance(sample[2], Mapping):
            want = f"(key, group, {{column: value}}), the columns being {', '.join(self.out)}"
            raise PluginError(f"{self.call} yields {str(sample)[:80]!r}, where a sample is {want}")
        key, _, values = sample
        if unknown := sorted(set(values) - set(self.out)):
            raise PluginError(
                f"{self.call} gives {', '.join(map(str, unknown))} of {key!r}, which `out` does not name. Next: add it "
                f"to out: [{', '.join(self.out)}]"
            )
        if not key or key in seen:
            raise PluginError(f"{self.call} gives the key {key!r} twice. Next: a key of its own for each sample")
        seen.add(key)
        return sample

    def _fitted(self, values: Mapping[str, Any], modalities: dict[str, Any]) -> Values | Exception:
        fitted = {column: fit(modalities[modality_of(column)], values.get(column)) for column in self.out}
        wrong = {column: value for column, value in fitted.items() if isinstance(value, Exception)}
        return next((ValueError(f"{column}: {error}") for column, error in wrong.items()), fitted)

    @property
    def _module(self) -> str:
        return self.call.partition(":")[0]


@lru_cache(maxsize=8)
def _listing(source: str, root: str, facts: str) -> list[tuple[str, str, str]]:
    """Key, group and digest of each sample, in order; `facts` are in the cache's key alone."""
    python = Generated.model_validate_json(source).beside(root)
    listing = [(key, group, _digest(values)) for key, group, values in python.samples()]
    if not listing:
        raise SourceError(f"{python.call} gives no sample. Next: check its options")
    return listing


def _digest(values: Mapping[str, Any]) -> str:
    """What a sample holds, whatever the order of its columns."""
    hashed = hashlib.sha256()
    for column in sorted(values):
        about, content = _content(values[column])
        hashed.update(f"{column}\0{about}\0".encode())
        hashed.update(content)
    return hashed.hexdigest()


def _content(value: Any) -> tuple[str, bytes]:
    """A value in words, and the bytes of its numbers; of arrays inside lists and dicts too, whose own words leave out
    what is in their middle."""
    if hasattr(value, "tobytes") or hasattr(value, "__array__"):
        import numpy as np

        array = np.asarray(value)
        if array.dtype.kind != "O":
            return f"{array.dtype} {array.shape}", array.tobytes()
        value = array.tolist()  # the bytes of its objects would be addresses
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    inside = [(key, *_content(part)) for key, part in parts]
    if not any(content for _, _, content in inside):
        return repr(value), b""
    words = [(key, about, len(content)) for key, about, content in inside]
    return repr(words), b"".join(content for _, _, content in inside)
