"""Experts behind HTTP: chat and embeddings as OpenAI speaks them, the Open Inference Protocol, any JSON route.

    - {type: http, api: chat, url: "http://127.0.0.1:8000/v1", model: qwen2-vl, key_env: MY_KEY,
       in: rgb@camera, out: weather@qwen, prompt: "What is the weather? Answer sunny, cloudy or rainy."}
    - {type: http, api: json, url: "http://127.0.0.1:8000", path: /depth, in: rgb@camera, out: depth@serve}

The address, the key and how patiently it is asked are placement; model, prompt and parameters are meaning (`version`
tells apart what a service calls by one name). Each answer is kept under the root (see stages.label.services.replay), so
that a rerun, a replay of failed samples, and a changed reading of the answers (`fields`, `decode`) cost nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import JsonValue, field_validator, model_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import defined, modality_of
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.services.apis import APIS, Api, Question, in_words
from hyperloom.stages.label.services.endpoint import Endpoint, Refused
from hyperloom.stages.label.services.replay import Replay
from hyperloom.stages.modality.tags import WORDS, characters
from hyperloom.stages.modality.values import fit

OTHERS_SECONDS = 0.1
"""Between two looks for what another process asks."""
READING = ("out", "fields", "decode")
"""Fields that say how an answer is read, not what is asked; so does a revision of some fields (`revised`)."""


class Http(Expert):
    """One question a sample. Raises SourceError when the endpoint lets nobody in, TimeoutError when it stays away."""

    api: Literal["chat", "embeddings", "kserve", "json"]
    url: str = placement()
    """Up to where the API's own paths begin, as in https://api.openai.com/v1."""
    path: str | None = None
    """What follows the URL, where it is not the API's usual path."""
    model: str = ""
    version: str = ""
    system: str = ""
    prompt: str = ""
    """`{column}` stands for the words of an input that is no image."""
    parameters: dict[str, JsonValue] = {}
    """More fields of the request: temperature, max_tokens, dimensions, ..."""
    tensors: dict[str, str] = {}
    fields: dict[str, str] = {}
    """Output column -> where its value is in the answer: a dotted path, or a tensor's name."""
    decode: tuple[Annotated[Any, of("decoder")], ...] = ()
    """kserve: decoders as for networks, one for each column, where tensors are no values yet."""
    layout: Literal["nhwc", "nchw"] = "nhwc"
    image: Literal["png", "jpeg"] = "png"
    key_env: str = placement("")
    """The environment variable that holds the key. The key itself is written nowhere."""
    key_header: str = placement("Authorization")
    """`Authorization` carries it as a bearer token, any other header as it is."""
    concurrency: int = placement(4, ge=1, le=256)
    """Requests under way at once, of each process."""
    per_request: int = placement(16, ge=1)
    """Samples in one request, where the API takes several."""
    timeout: float = placement(120.0, gt=0)
    """Seconds for one answer."""
    patience: float = placement(600.0, gt=0)
    """Seconds for one request with all its tries and waits."""
    replay: bool = placement(True)
    """Keep each answer under the root and never ask for it again."""

    @field_validator("decode", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _consistent(self) -> Http:  # of the whole, so that an error shows no field's value: it might be a key
        if self.key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_env):
            raise ValueError("key_env: expected the name of an environment variable, never the key itself")
        if not re.match(r"https?://[^/@]+(/|$)", self.url):
            raise ValueError("url: expected http(s)://host[:port][/path], without a name or password in it")
        if self.api in ("chat", "embeddings", "kserve") and not self.model:
            raise ValueError(f"model: {self.api} needs the name of a model")
        if self.api == "embeddings" and len(self.out) != 1:
            raise ValueError(f"out: embeddings make one column, got {list(self.out)}")
        if self.decode and (self.api != "kserve" or len(self.decode) != len(self.out)):
            raise ValueError("decode: is for api: kserve, one decoder for each column")
        if any(len(d.tensors) > 1 for d in self.decode):
            raise ValueError("decode: a field of an answer is one tensor, and this decoder reads several")
        unknown = [c for c in (*self.fields, *self.tensors) if c not in (*self.in_, *self.out)]
        if unknown:
            raise ValueError(f"fields, tensors: {', '.join(unknown)} is no column of this expert")
        return self

    def revised(self) -> int:
        return super().revised() + (self.api == "kserve" and not self.decode)

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """A chat was told of numbers four with four digits each, and of boxes how many there are; of labels that nobody
        knows that they do not apply. Tags of one text were taken however many they were."""
        kinds = defined(modalities, self.in_) if self.api == "chat" else []
        numbers = {"numbers in words": 2} if any(not kind.rgb and not in_words(kind) for kind in kinds) else {}
        unknown = {"unknown labels": 2} if any(kind.markup == "marks" for kind in kinds) else {}
        tags = any(kind.ended and kind.categorical for kind in defined(modalities, self.out)) and self.tagged(
            modalities
        )
        return {**numbers, **unknown, **({"one tag a word": 2} if tags else {})}

    def tagged(self, modalities: Mapping[str, Any]) -> str:
        """The input whose words tags are of: the only text; empty where there is none, or several."""
        texts = [c for c in self.in_ if (kind := modalities.get(modality_of(c))) is not None and kind.textual]
        return texts[0] if len(texts) == 1 else ""

    @property
    def usual_batch(self) -> int | None:
        return self.concurrency * (self.per_request if APIS[self.api].groups else 4)

    def calls(self, rows: int) -> int:
        return rows

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        api = APIS[self.api](self, modalities)
        url = self.url.rstrip("/") + (api.path if self.path is None else self.path)
        endpoint = Endpoint(url, self.key_env, self.key_header, self.timeout, self.patience)
        request = {k: v for k, v in payload(self).items() if k not in READING} | {"revision": type(self).revision}
        replay = Replay(storage, request, self.timeout) if self.replay else None
        for decoder, column in zip(self.decode, self.out):
            try:
                decoder.ready(modalities[modality_of(column)], column)
            except ValueError as error:
                raise RecipeError(f"the expert http ({column}): {error}") from error
        return _Caller(self, api, endpoint, replay)


class _Caller:
    """The function of an expert: questions of a batch, answered from the cache or over the wire."""

    def __init__(self, expert: Http, api: Api, endpoint: Endpoint, replay: Replay | None):
        self._expert, self._api, self._endpoint, self._replay = expert, api, endpoint, replay
        self._threads = ThreadPoolExecutor(expert.concurrency, thread_name_prefix="http")
        self._tagged = expert.tagged({modality_of(column): kind for column, kind in api.modalities.items()})

    def __call__(self, batch: Batch) -> Batch:
        expert = self._expert
        count = len(batch[expert.in_[0]])
        questions = [self._api.question({c: batch[c][i] for c in expert.in_}) for i in range(count)]
        answers = self._answers(questions)
        outputs: dict[str, list[Any]] = {column: [] for column in expert.out}
        for i, answer in enumerate(answers):
            values = self._read(answer)
            for column in expert.out:
                outputs[column].append(self._of_words(column, values[column], batch, i))
        return outputs  # type: ignore[return-value]

    def _of_words(self, column: str, value: Any, batch: Batch, i: int) -> Any:
        """The value; of tags that are not one for each word of the text beside them, or for each character of one that
        blanks need not divide, an error: whoever leaves one out gives each later word that of another."""
        kind = self._api.modalities[column]
        if not (kind.ended and kind.categorical and self._tagged) or not isinstance(value, np.ndarray):
            return value
        text = self._api.modalities[self._tagged].words(batch[self._tagged][i])
        words, letters, count = len(WORDS.findall(text)), len(characters(text)), len(kind.tallied(value))
        if count in (words, letters or words):
            return value
        also = f" ({counted(letters, 'character')})" if letters else ""
        return ValueError(f"{count} tags for {counted(words, 'word')}{also}")

    def _answers(self, questions: Sequence[Question]) -> list[Any]:
        """One answer a question, in a tuple, or the exception that it met. The same question is asked once."""
        began = time.monotonic()
        keys = [Replay.key(question) for question in questions]
        answers: dict[str, Any] = {}
        if self._replay is not None:
            kept = self._threads.map(self._replay.get, dict.fromkeys(keys))
            answers = {key: answer for key, answer in zip(dict.fromkeys(keys), kept) if answer is not None}
        open_ = {key: question for key, question in zip(keys, questions) if key not in answers}
        size = self._expert.per_request if self._api.groups else 1
        while open_:
            todo = list(open_.items())
            for answered in self._threads.map(self._claimed, [todo[i : i + size] for i in range(0, len(todo), size)]):
                answers |= answered
            open_ = {key: question for key, question in open_.items() if key not in answers}
            if open_:  # another process asks these; it has its own bounds, and so has this wait
                if time.monotonic() - began > self._expert.patience + self._expert.timeout:
                    raise TimeoutError(f"another process has been asking for {len(open_)} answers without getting them")
                time.sleep(OTHERS_SECONDS)
        return [answers[key] for key in keys]

    def _claimed(self, group: Sequence[tuple[str, Question]]) -> dict[str, Any]:
        """Ask what nobody else asks, and take what somebody else has got."""
        replay = self._replay
        if replay is None:
            return self._ask(group)
        mine = [(key, question) for key, question in group if replay.claim(key)]
        try:
            answers = self._ask(mine) if mine else {}
        finally:
            for key, _ in mine:
                replay.release(key)
        others = {key: replay.get(key) for key, _ in group if key not in answers}
        return answers | {key: answer for key, answer in others.items() if answer is not None}

    def _ask(self, group: Sequence[tuple[str, Question]]) -> dict[str, Any]:
        """Send one request and keep what comes, before anything is done with it."""
        keys, questions = [key for key, _ in group], [question for _, question in group]
        try:
            response = self._endpoint.post(self._api.body(questions), {"Idempotency-Key": keys[0]})
            answers = self._api.answers(response, len(group))
        except (Refused, ValueError, KeyError, TypeError) as error:
            if len(group) > 1:  # one of them is at fault
                return {k: v for one in group for k, v in self._ask([one]).items()}
            return {keys[0]: error if isinstance(error, ValueError) else ValueError(f"unexpected answer: {error!r}")}
        if self._replay is not None:
            for key, answer in zip(keys, answers, strict=True):
                self._replay.put(key, answer)
        return {key: (answer,) for key, answer in zip(keys, answers, strict=True)}

    def _read(self, answer: Any) -> dict[str, Any]:
        """A value, or an exception, for each column."""
        if isinstance(answer, Exception):
            return dict.fromkeys(self._expert.out, answer)
        try:
            values = self._api.values(answer[0])
        except ValueError as error:
            return dict.fromkeys(self._expert.out, error)
        return {column: self._value(at, column, values[column]) for at, column in enumerate(self._expert.out)}

    def _value(self, at: int, column: str, value: Any) -> Any:
        modality = self._api.modalities[column]
        try:
            if self._expert.decode:
                decoder = self._expert.decode[at]
                size = self._api.modalities[self._expert.in_[0]].shape[:2]
                tile = decoder.tile(np.asarray(value), decoder.layout or self._expert.layout, size)
                return decoder.finish(tile, modality)
            return fit(modality, value)
        except ValueError as error:
            return error
