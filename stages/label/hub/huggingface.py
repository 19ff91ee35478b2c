"""Experts from Hugging Face model directories, run by transformers: maps, classes, boxes, texts, embeddings.

    - {type: huggingface, path: models/segformer, task: image-segmentation, in: rgb@camera,
       out: [semantic@segformer, soft@segformer], labels: {vegetation: forest}}
    - {type: huggingface, path: models/minilm, task: feature-extraction, in: text@caption, out: embedding@minilm}
    - {type: huggingface, model: depth-anything/Depth-Anything-V2-Small-hf, task: depth-estimation, in: rgb@camera,
       out: depth@anything}

`path` is a local directory as `hf download --local-dir` or `save_pretrained` make it; its content is the identity.
`model` is one of the hub: its `revision` is pinned in the root when it is first planned, its files are fetched once by
each node that needs them (`stages.label.hub`). No code of a model's own is run. Labels of the model are classes of the
modality by name, `labels` renames them (null: none). torchvision is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, JsonValue, field_validator, model_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import of, parse
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import defined, modality_of
from hyperloom.stages.label.expert import CPU_BATCH, Batch, Expert, Function
from hyperloom.stages.label.hub.download import DIGEST, remote, unpacked
from hyperloom.stages.label.hub.pins import NAME
from hyperloom.stages.label.runtimes.network import library
from hyperloom.stages.modality.values import fit

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.stages.label.hub.loading import Directory
    from hyperloom.stages.label.hub.pins import Pin

PipelineTask = Literal[
    "image-segmentation", "depth-estimation", "feature-extraction", "image-feature-extraction", "image-classification",
    "text-classification", "audio-classification", "token-classification", "object-detection",
    "zero-shot-classification", "zero-shot-image-classification", "automatic-speech-recognition", "text-generation",
    "image-text-to-text", "zero-shot-object-detection", "open-vocabulary-segmentation", "box-segmentation",
]  # fmt: skip
MAPS = ("image-segmentation", "depth-estimation", "open-vocabulary-segmentation")
ASKED_IN_WORDS = ("zero-shot-classification", "zero-shot-image-classification", "zero-shot-object-detection")
"""Pipelines that are given classes as texts: `labels` (text -> class), or the modality's own names."""
CHOOSING = (
    "image-classification", "text-classification", "audio-classification", "zero-shot-classification",
    "zero-shot-image-classification",
)  # fmt: skip
"""Pipelines that score each class for the whole sample, of which a multilabel may be made."""
FEATURES = ("feature-extraction", "image-feature-extraction")
WRITING = ("automatic-speech-recognition", "text-generation", "image-text-to-text")
ALL_LABELS: dict[str, dict[str, Any]] = {
    "image-classification": {"top_k": None},
    "text-classification": {"top_k": None},
    "audio-classification": {"top_k": None},
    "token-classification": {"ignore_labels": [], "aggregation_strategy": "none"},
    "object-detection": {"threshold": 0.0},
    "zero-shot-object-detection": {"threshold": 0.0},
    "text-generation": {"return_full_text": False, "do_sample": False},
    "image-text-to-text": {"return_full_text": False},
}
"""What a pipeline is called with, so that it leaves nothing out and draws nothing by chance; `options` overrule it."""


class HuggingFace(Expert):
    """Raises SourceError for a directory that cannot be loaded, PluginError without transformers."""

    path: str = placement("")
    """A local directory; with `sha256` also the URL of an archive that holds one."""
    sha256: str = placement("", pattern=DIGEST)
    """The digest of the archive at `path`."""
    model: str = Field("", pattern=rf"^({NAME})?$")
    """ORGANISATION/NAME on the hub, in place of `path`."""
    at: str = placement("main", alias="revision", pattern=r"^[\w./-]+$")
    """A branch, tag or commit of `model`. What bears meaning is the commit that it was when it was pinned."""
    task: PipelineTask
    labels: dict[str, str | None] = {}
    decode: tuple[Annotated[Any, of("decoder")], ...] = ()
    """Of maps: one decoder for each column; by default `classes`, `probabilities` or `dense`, as the modality is."""
    pool: Literal["mean", "cls", "model"] = "mean"
    unit: bool = False
    """Of features: bring vectors to length one."""
    threshold: float | None = Field(None, ge=0, le=1)
    """The least score of a class, a label or a box; left out, it is one half for each class of a multilabel, else 0."""
    prompt: str = ""
    """image-text-to-text: what is asked about each picture."""
    options: dict[str, JsonValue] = {}
    """More arguments of the pipeline's call: candidate_labels, max_new_tokens, ..."""
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """Also fp32, fp16 and bf16."""
    compile: bool | Literal["graphs"] = placement(False)
    """As of `torch` experts; not of tasks that write texts, whose every length would be compiled anew."""

    @field_validator("precision", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}.get(value, value)

    @field_validator("decode", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _consistent(self) -> HuggingFace:
        if bool(self.path) == bool(self.model):
            raise ValueError("give either path: a local directory, or model: ORGANISATION/NAME of the hub")
        if bool(self.sha256) != remote(self.path):
            raise ValueError("sha256: is of an archive at a URL, which needs it; a local directory is its content")
        reads = 2 if self.task == "box-segmentation" else 1
        if len(self.in_) != reads:
            what = "one column" if reads == 1 else "a picture and boxes"
            raise ValueError(f"in: {self.task} reads {what}, got {list(self.in_)}")
        if self.decode and (self.task not in MAPS or len(self.decode) != len(self.out)):
            raise ValueError(f"decode: is for {' and '.join(MAPS)}, one decoder for each column")
        if self.task in FEATURES and len(self.out) != 1:
            raise ValueError(f"out: {self.task} makes one column, got {list(self.out)}")
        if self.compile and self.task in WRITING:
            raise ValueError(f"compile: {self.task} writes word by word, and each length would be compiled anew")
        if self.prompt and self.task != "image-text-to-text":
            raise ValueError(f"prompt: {self.task} takes none")
        return self

    def revised(self) -> int:
        return super().revised() + (self.threshold is None and self.task in CHOOSING)

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """Probabilities stood in the model's order whatever they were called, and it said no to what it does not
        know. The silence that fills up a recording was heard, too. Parts of a word that holds a blank got tags of
        their own, and a text in a script without blanks one tag."""
        from hyperloom.stages.label.hub.answers import is_sound

        sounds = any(is_sound(kind) for kind in defined(modalities, self.in_))
        further = {"sounds of their own length": 2} if sounds else {}
        if self.task == "token-classification":
            further |= {"words with blanks": 2, "no blanks between words": 2}
        kinds = defined(modalities, self.out) if self.task in CHOOSING else []
        named = any(k.markup == "marks" or (k.plain_numbers and k.output_names) for k in kinds)
        return {"labels by name": 2, **further} if named else further

    @property
    def usual_batch(self) -> int | None:
        return None if self.gpus else CPU_BATCH

    def weights(self) -> tuple[str, ...]:
        from hyperloom.stages.label.hub.loading import files

        return files(self.path) if self.path and not self.sha256 else ()

    def heft(self, storage: Storage) -> int:
        if self.model:
            return sum(size for name, (size, _) in self._pin(storage).files.items() if name.endswith(".safetensors"))
        return sum(os.path.getsize(file) for file in self.weights() if file.endswith(".safetensors"))

    def content(self, digests: Digests) -> list[str]:
        if self.sha256:
            return [self.sha256]
        return self._pin(digests.storage).digests if self.model else super().content(digests)

    def terms(self, storage: Storage) -> dict[str, str]:
        return {self.model: self.licence or self._pin(storage).licence} if self.model else super().terms(storage)

    def _pin(self, storage: Storage) -> Pin:
        from hyperloom.stages.label.hub.pins import pinned

        return pinned(storage, self.model, self.at)

    def _home(self, storage: Storage) -> Directory:
        from hyperloom.stages.label.hub.fetch import fetched
        from hyperloom.stages.label.hub.loading import Directory

        path = str(fetched(self._pin(storage))) if self.model else self.path
        if self.sha256:
            path = str(unpacked(self.path, self.sha256))
        return Directory(path, self.precision, self.gpus > 0, self.compile)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        home = self._home(storage)
        home.torch.set_num_threads(max(1, int(self.cpus)))
        if self.task == "box-segmentation":
            return self._regions(home, modalities)
        things = any(modalities[modality_of(column)].measure == "instances" for column in self.out)
        if self.task in MAPS and not things:
            return self._maps(home, modalities)
        if self.task in FEATURES:
            return self._features(home, modalities)
        return self._pipeline(home, modalities)

    def _maps(self, home: Any, modalities: dict[str, Any]) -> Function:
        from hyperloom.stages.label.hub.coverage import hold_whole
        from hyperloom.stages.label.hub.maps import AUTO, Maps, MapSteps
        from hyperloom.stages.label.hub.openvocabulary import TextMaps

        library("cv2", "vision")
        targets = [modalities[modality_of(column)] for column in self.out]
        decoders = [self._decoder(home, i, target) for i, target in enumerate(targets)]
        for decoder, target, column in zip(decoders, targets, self.out):
            try:
                decoder.ready(target, column)
            except ValueError as error:
                raise RecipeError(f"the expert huggingface ({self.path or self.model}): {error}") from error
        net: Maps | TextMaps = Maps(home, self.task) if self.task in AUTO else self._texts(home, targets)
        hold_whole(net.prepared, modalities[modality_of(self.in_[0])].shape[:2], self.path or self.model)
        return MapSteps(net, home.device == "cuda", self.in_[0], self.out, decoders, targets)

    def _texts(self, home: Any, targets: Sequence[Any]) -> Any:
        from hyperloom.stages.label.hub.openvocabulary import TextMaps, prompts

        classes = targets[0].classes
        if any(target.classes != classes for target in targets):
            raise RecipeError(f"out: {', '.join(self.out)} have other classes than each other")
        return TextMaps(home, prompts(self.labels, classes), classes)

    def _regions(self, home: Any, modalities: dict[str, Any]) -> Function:
        from hyperloom.stages.label.decode.scores import class_table
        from hyperloom.stages.label.hub.openvocabulary import BoxRegions, prompts

        (out,), (picture, boxes) = self.out, self.in_
        known, target = modalities[modality_of(boxes)], modalities[modality_of(out)]
        if known.measure != "boxes" or not (target.categorical and len(target.shape) == 2):
            raise RecipeError(
                f"{self.task} makes a segmentation of a picture and boxes, not {known.type} -> {target.type}"
            )
        own = {name: name for name in known.classes if name in target.classes}
        names = prompts(self.labels or own, target.classes)
        table, cut = class_table(tuple(names.get(name) for name in known.classes), target.classes), BoxRegions(home)

        def call(batch: Batch) -> Batch:
            pairs = zip(batch[picture], batch[boxes], strict=True)
            return {out: np.stack([target.fit(cut(frame, rows, table, target.classes)) for frame, rows in pairs])}

        return call

    def _decoder(self, home: Any, at: int, target: Any) -> Any:
        """The recipe's decoder, or the usual one; classes go by name where the decoder says nothing of them."""
        from hyperloom.stages.label.hub.maps import class_map

        usual = {"segmentation": "classes", "soft": "probabilities", "dense": "dense"}.get(target.type)
        if not self.decode and usual is None:
            raise RecipeError(
                f"{self.out[at]}: {self.task} makes segmentation, soft and dense columns, not {target.type}"
            )
        decoder = self.decode[at] if self.decode else parse("decoder", usual)
        if getattr(decoder, "activation", "") == "auto":  # transformers' heads give logits
            decoder = decoder.model_copy(update={"activation": "logit"})
        if self.task == "open-vocabulary-segmentation" and decoder.type == "classes":  # each text for itself
            decoder = decoder.model_copy(update={"activation": "sigmoid", "threshold": self.threshold or 0.0})
        if self.task == "image-segmentation" and getattr(decoder, "map", "") is None:
            named = {int(i): name for i, name in home.config.id2label.items()}
            decoder = decoder.model_copy(update={"map": class_map(named, target.classes, self.labels)})
        return decoder

    def _features(self, home: Any, modalities: dict[str, Any]) -> Function:
        from hyperloom.stages.label.hub.features import FeatureExtraction

        source = modalities[modality_of(self.in_[0])]
        pictures = self.task == "image-feature-extraction"
        if not (source.rgb if pictures else source.textual):
            raise RecipeError(f"{self.in_[0]}: {self.task} reads {'images' if pictures else 'text'}, not {source.type}")
        encode = FeatureExtraction(home, pictures, self.pool, self.unit)

        def call(batch: Batch) -> Batch:
            rows = batch[self.in_[0]]
            return {self.out[0]: encode(rows if pictures else [source.words(row) for row in rows])}

        return call

    def _words(self, targets: Mapping[str, Any]) -> list[str]:
        """What a pipeline is asked for, where the recipe's options say nothing of it."""
        known = {name: None for target in targets.values() for name in getattr(target, "classes", ())}
        if not (self.labels or known):
            raise RecipeError(f"{self.task} wants to know what to look for. Next: options: {{candidate_labels: [...]}}")
        return [text for text, name in self.labels.items() if name is not None] or list(known)

    def _pipeline(self, home: Any, modalities: dict[str, Any]) -> Function:
        from hyperloom.stages.label.hub.answers import from_pipeline, to_pipeline
        from hyperloom.stages.label.hub.captions import Captions

        library("PIL", "huggingface")
        source = modalities[modality_of(self.in_[0])]
        targets = {column: modalities[modality_of(column)] for column in self.out}
        silent = self.task == "image-text-to-text" and not (self.prompt or self.options.get("text"))
        run = Captions(home) if silent else home.pipeline(self.task)
        options: dict[str, Any] = {**ALL_LABELS.get(self.task, {}), **self.options}
        if self.prompt:
            options["text"] = self.prompt
        if self.task == "image-segmentation":
            options = {"subtask": "instance", "threshold": self.threshold or 0.0, **options}
        order = [home.config.id2label[i] for i in sorted(home.config.id2label)]
        if self.task in ASKED_IN_WORDS:
            options.setdefault("candidate_labels", self._words(targets))
            order = options["candidate_labels"]

        def one(row: np.ndarray) -> dict[str, Any]:
            given = to_pipeline(source, row, self.in_[0])
            answer = run(given, **options)
            outputs = {}
            for column, target in targets.items():
                try:
                    value = from_pipeline(answer, target, given, self.labels, self.threshold, order)
                    outputs[column] = fit(target, value)
                except ValueError as error:
                    outputs[column] = error
            return outputs

        def call(batch: Batch) -> Batch:
            rows = [one(row) for row in batch[self.in_[0]]]
            outputs: dict[str, Any] = {column: [row[column] for row in rows] for column in self.out}
            return outputs

        return call
