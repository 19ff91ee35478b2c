"""One HTTP endpoint that answers JSON with JSON: waiting as it asks, never for ever, and never telling the key.

Too many requests (429), a busy or restarting server (408, 5xx) and a broken connection are waited out, as long as
`Retry-After` says or ever longer, all threads together; after `patience` seconds a request is given up with
TimeoutError, which is no sample's fault. Another refusal (4xx) is about what was asked, and raises Refused. The key
comes from an environment variable and goes into the request's header, nowhere else: what a server says is searched
for it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.secrets import BLOT, blot
from hyperloom.stages.label.runtimes.network import library

PASSING = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504, 529})
"""Answers that another try may change."""
CONNECT_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the second try, and the most that are waited unless the server asks for more."""
SHOWN = 300
"""Characters of a server's answer that an error shows."""


class Refused(ValueError):
    """The endpoint understood the request and does not want it."""


class Endpoint:
    """Posts JSON to `url`; any number of threads may do so at once."""

    def __init__(self, url: str, key_env: str, key_header: str, timeout: float, patience: float):
        self.url, self._timeout, self._patience = url, timeout, patience
        self._key = _key(key_env)
        self._key_env, self._key_header = key_env, key_header
        self._requests = library("requests", "http")
        raised = self._requests.exceptions
        self._broken = (raised.ConnectionError, raised.Timeout, raised.ChunkedEncodingError)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._not_before = 0.0

    def post(self, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON that the endpoint answers. Raises Refused, TimeoutError, or SourceError when nobody is let in."""
        began, why = time.monotonic(), "no answer"
        for pause in _pauses():
            self._hold(began, why)
            reply, why = self._once(body, headers or {})
            if not why:
                return reply
            self._later(pause if reply is None else reply)
        raise AssertionError("pauses never end")

    def _once(self, body: Any, headers: Mapping[str, str]) -> tuple[Any, str]:
        """(the answer, "") or (seconds that the server asks to wait, or None; why there is no answer)."""
        try:
            response = self._session().post(
                self.url,
                json=body,
                headers=dict(headers),
                auth=self._signed,
                timeout=(CONNECT_SECONDS, self._timeout),
                allow_redirects=False,  # the key is for this address
            )
            text = response.text
        except self._broken as error:
            return None, self._safe(f"{type(error).__name__}: {error}")
        status = response.status_code
        if status in PASSING:
            return _retry_after(response.headers), self._safe(f"{status} {response.reason}: {text[:SHOWN]}")
        if status == 200:
            try:
                return response.json(), ""
            except ValueError as error:
                raise Refused(self._safe(f"expected JSON, got {text[:SHOWN]!r}")) from error
        message = self._safe(f"{status} {response.reason}: {text[:SHOWN]}")
        if status in (401, 403):
            advice = f"check the key in {self._key_env}" if self._key_env else "name its key's variable in key_env"
            raise SourceError(f"{blot(self.url)} lets nobody in ({message}). Next: {advice}")
        if status in (404, 405) or 300 <= status < 400:
            raise SourceError(f"{blot(self.url)} is no such endpoint ({message}). Next: check url, path and model")
        raise Refused(message)

    def _signed(self, request: Any) -> Any:
        """The request with the key; given as `auth`, so that no .netrc puts another one in its place."""
        if self._key:
            bearer = self._key_header.lower() == "authorization"
            request.headers[self._key_header] = f"Bearer {self._key}" if bearer else self._key
        return request

    def _hold(self, began: float, why: str) -> None:
        """Wait until requests may go out again. Raises TimeoutError when that is later than patience goes."""
        while (wait := self._not_before - time.monotonic()) > 0 or time.monotonic() - began > self._patience:
            if time.monotonic() + max(wait, 0.0) - began > self._patience:
                raise TimeoutError(
                    f"{blot(self.url)} did not answer within {self._patience:.0f} s (patience); the last time: {why}"
                )
            time.sleep(wait + random.uniform(0, 0.05))  # not all threads in the same instant

    def _later(self, seconds: float) -> None:
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _session(self) -> Any:
        if not hasattr(self._local, "session"):
            self._local.session = self._requests.Session()
        return self._local.session

    def _safe(self, text: str) -> str:
        return blot(text.replace(self._key, BLOT) if self._key else text)


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise RecipeError(
            f"the environment variable {variable}, which holds an endpoint's key, is not set where this worker runs. "
            "Next: set it where you start hyperloom; on a cluster that runs already, where its nodes start"
        )
    return key


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.75, 1.25)
        pause = min(2 * pause, LONGEST_PAUSE)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`: a number or a date (RFC 9110); None when there is none that can be read."""
    value = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
