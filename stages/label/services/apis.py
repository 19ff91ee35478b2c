"""What is asked of an HTTP endpoint, and where in its answer the values are: four ways to speak JSON.

An API makes of one sample a *question*, of several questions a request's body, and of the response one *answer* for
each; questions and answers are JSON and what the replay cache keeps. `values` reads an answer: a plain value (text,
number, list, array) for each output column. What an answer lacks raises ValueError, which is that sample's fault.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plain import finite
from hyperloom.stages.base import modality_of

if TYPE_CHECKING:
    from hyperloom.stages.label.services.http import Http

Question = Any
JsonAnswer = Any
KSERVE = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
NUMPY = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
"""Data types of the Open Inference Protocol (KServe v2)."""


class Api:
    """Base of the four. `modalities` are those of the expert's columns."""

    path = ""
    """Where below the URL requests go, unless the recipe says so."""
    groups = False
    """Can a request carry several questions?"""

    def __init__(self, expert: Http, modalities: Mapping[str, Any]):
        self.expert = expert
        self.modalities = {c: modalities[modality_of(c)] for c in (*expert.in_, *expert.out)}

    def question(self, values: Mapping[str, np.ndarray]) -> Question:
        raise TypeError(f"{type(self).__name__} has no question()")

    def body(self, questions: Sequence[Question]) -> Any:
        (question,) = questions
        return question

    def answers(self, response: Any, count: int) -> list[JsonAnswer]:
        return [response]

    def values(self, answer: JsonAnswer) -> dict[str, Any]:
        """By the recipe's `fields`: column -> dotted path into the answer."""
        paths = {c: self.expert.fields.get(c, modality_of(c)) for c in self.expert.out}
        if len(paths) == 1 and not self.expert.fields and not isinstance(answer, dict):
            return dict.fromkeys(paths, answer)
        return {column: reached(answer, path) for column, path in paths.items()}

    def plain(self, column: str, value: np.ndarray) -> Any:
        """An input's value as JSON: an image as the base64 of a PNG or JPEG file, text as itself, numbers as lists."""
        modality = self.modalities[column]
        if modality.rgb:
            return base64.b64encode(picture(value, self.expert.image)).decode()
        return modality.words(value) if modality.textual else finite(np.asarray(value).tolist())


class Chat(Api):
    """OpenAI's chat completions: a prompt, images, texts, names of classes, boxes and numbers in (the latter two as
    JSON); text, or JSON with `fields`, out."""

    path = "/chat/completions"

    def __init__(self, expert: Http, modalities: Mapping[str, Any]):
        super().__init__(expert, modalities)
        for column in expert.in_:
            kind = self.modalities[column]
            if not (kind.rgb or in_words(kind) or kind.markup == "boxes" or kind.readable_numbers):
                raise RecipeError(f"{column}: a chat has no words for {kind.type}. Next: in: with another column")

    def phrase(self, column: str, value: np.ndarray) -> str:
        """An input's value in words, with all that it says."""
        kind = self.modalities[column]
        if in_words(kind):
            return str(kind.words(value))
        if kind.markup == "boxes":
            return json.dumps(_shortest(kind.encode([value]).to_pylist()[0]))
        numbers = _shortest(np.asarray(value).tolist())
        return json.dumps(numbers[0] if kind.shape == (1,) else numbers)

    def question(self, values: Mapping[str, np.ndarray]) -> Question:
        prompt, parts = self.expert.prompt, []
        for column, value in values.items():
            modality = self.modalities[column]
            if modality.rgb:
                url = f"data:image/{self.expert.image};base64,{self.plain(column, value)}"
                parts.append({"type": "image_url", "image_url": {"url": url}})
            elif f"{{{column}}}" in prompt:
                prompt = prompt.replace(f"{{{column}}}", self.phrase(column, value))
            else:
                parts.append({"type": "text", "text": self.phrase(column, value)})
        if prompt:
            parts.insert(0, {"type": "text", "text": prompt})
        only_text = len(parts) == 1 and parts[0]["type"] == "text"
        messages = [{"role": "user", "content": parts[0]["text"] if only_text else parts}]
        if self.expert.system:
            messages.insert(0, {"role": "system", "content": self.expert.system})
        return {"model": self.expert.model, "messages": messages, **self.expert.parameters}

    def answers(self, response: Any, count: int) -> list[JsonAnswer]:
        return [reached(response, "choices.0.message.content")]

    def values(self, answer: JsonAnswer) -> dict[str, Any]:
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError(f"the model said nothing ({answer!r})")
        if len(self.expert.out) == 1 and not self.expert.fields:
            return {self.expert.out[0]: answer.strip()}
        bare = answer.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
        try:
            return super().values(json.loads(bare))
        except json.JSONDecodeError as error:
            raise ValueError(f"expected JSON from the model, got {answer[:200]!r}") from error


def in_words(kind: Any) -> bool:
    """Do the words of a value, which are made for people, say all of it?"""
    return bool(kind.textual or kind.markup in ("choice", "marks") or hasattr(kind, "tags"))


def _shortest(value: Any) -> Any:
    """JSON with each number in the fewest digits that its float32 reads back from; null for NaN."""
    if isinstance(value, list):
        return [_shortest(one) for one in value]
    if isinstance(value, dict):
        return {name: _shortest(one) for name, one in value.items()}
    return (float(str(np.float32(value))) if math.isfinite(value) else None) if isinstance(value, float) else value


class Embeddings(Api):
    """OpenAI's embeddings: texts in, vectors out."""

    path, groups = "/embeddings", True

    def question(self, values: Mapping[str, np.ndarray]) -> Question:
        return "\n".join(self.plain(column, value) for column, value in values.items())

    def body(self, questions: Sequence[Question]) -> Any:
        return {"model": self.expert.model, "input": list(questions), **self.expert.parameters}

    def answers(self, response: Any, count: int) -> list[JsonAnswer]:
        entries = reached(response, "data")
        vectors = {entry.get("index", i): entry["embedding"] for i, entry in enumerate(entries)}
        if sorted(vectors) != list(range(count)):
            raise ValueError(f"expected {count} embeddings, got those of {sorted(vectors)}")
        return [vectors[i] for i in range(count)]

    def values(self, answer: JsonAnswer) -> dict[str, Any]:
        return {self.expert.out[0]: answer}


class KServe(Api):
    """The Open Inference Protocol (KServe v2, Triton, MLServer): tensors in, tensors out.

    `tensors` names a column's tensor where it is not its modality's name; `fields` those of the outputs.
    """

    groups = True

    @property
    def path(self) -> str:  # type: ignore[override]
        return f"/v2/models/{self.expert.model}/infer"

    def question(self, values: Mapping[str, np.ndarray]) -> Question:
        tensors = {}
        for column, value in values.items():
            if self.modalities[column].textual:
                tensors[self._tensor(column)] = {"datatype": "BYTES", "shape": [1], "data": [self.plain(column, value)]}
                continue
            array = np.asarray(value)
            if self.expert.layout == "nchw" and array.ndim == 3:
                array = array.transpose(2, 0, 1)
            kind = array.dtype.name if array.dtype.name in KSERVE else "float32"
            data = finite(array.astype(kind).ravel().tolist())
            tensors[self._tensor(column)] = {
                "datatype": KSERVE[kind], "shape": list(array.shape), "data": data,
            }  # fmt: skip
        return tensors

    def body(self, questions: Sequence[Question]) -> Any:
        inputs = [
            {
                "name": name,
                "datatype": first["datatype"],
                "shape": [len(questions), *first["shape"]],
                "data": [number for question in questions for number in question[name]["data"]],
            }
            for name, first in questions[0].items()
        ]
        return {"inputs": inputs, **({"parameters": self.expert.parameters} if self.expert.parameters else {})}

    def answers(self, response: Any, count: int) -> list[JsonAnswer]:
        outputs: list[dict[str, Any]] = [{} for _ in range(count)]
        for output in reached(response, "outputs"):
            name, shape, data = output["name"], output["shape"], output["data"]
            if not shape or shape[0] != count or len(data) != np.prod(shape):
                raise ValueError(f"the tensor {name}: expected {count} samples, got {len(data)} numbers for {shape}")
            size = len(data) // count
            for i in range(count):
                part = {"datatype": output["datatype"], "shape": shape[1:], "data": data[i * size : (i + 1) * size]}
                outputs[i][name] = part
        return outputs

    def values(self, answer: JsonAnswer) -> dict[str, Any]:
        values = {}
        for column in self.expert.out:
            name = self.expert.fields.get(column, modality_of(column))
            if name not in answer:
                raise ValueError(f"the model gave no tensor {name!r}; it gave {', '.join(answer)}")
            kind = NUMPY.get(answer[name]["datatype"])
            data = answer[name]["data"]
            values[column] = data[0] if kind is None else _array(name, data, kind).reshape(answer[name]["shape"])
        return values

    def _tensor(self, column: str) -> str:
        return self.expert.tensors.get(column, modality_of(column))


def _array(name: str, data: list[Any], kind: str) -> np.ndarray:
    """A tensor's numbers. Raises ValueError where they are none of its data type, which would cut them."""
    try:
        array = np.array(data, kind)
        if array.dtype.kind == "f" or (array == np.array(data)).all():
            return array
    except (TypeError, OverflowError):
        pass
    raise ValueError(f"the tensor {name} is to be {kind} and holds other numbers: {str(data)[:80]}")


class Json(Api):
    """Any route that takes a JSON object and gives JSON, such as a Ray Serve deployment: one sample a request.

    The object has a key for each input (`tensors` renames it; by default its modality) and those of `parameters`.
    """

    def question(self, values: Mapping[str, np.ndarray]) -> Question:
        named = {self.expert.tensors.get(c, modality_of(c)): self.plain(c, value) for c, value in values.items()}
        return {**self.expert.parameters, **named}


APIS: dict[str, type[Api]] = {"chat": Chat, "embeddings": Embeddings, "kserve": KServe, "json": Json}


def picture(image: np.ndarray, format_: str) -> bytes:
    """A PNG or JPEG file of an (H, W, 3) uint8 RGB image."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if format_ == "jpeg" else []
    return cv2.imencode(f".{format_}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def reached(value: Any, path: str) -> Any:
    """What lies at a dotted path: keys of objects, numbers of lists. Raises ValueError."""
    at = value
    for part in path.split(".") if path else ():
        try:
            at = at[int(part)] if isinstance(at, list) else at[part]
        except (KeyError, IndexError, TypeError, ValueError):
            text = json.dumps(value)
            raise ValueError(f"the answer has no {path!r}: {text[:200]}") from None
    return at
