"""Secrets: what must not reach an event, a log, an error, MLflow or a manifest, and the one place that blots it out.

A value is a secret by where it stands: a recipe took it from the environment (`${NAME}`), it is a variable of the
workers (`cluster: {env: ...}`), a user name, password or query of a URL, or in a field declared `config.secret`.
Loading a recipe keeps these values here; a process of the run knows them from the moment it enters the project
(`pipeline.host.project`). From then on all text that leaves goes through `blot`: events (`Events.emit`), errors
(`HyperloomError`, the outcome of a unit, the failures of a training), standard output and error
(`pipeline.host.terminal`). In place of a value stands the name it came by, `${NAME}`, or `***`.

What only looks like a secret, the user of a URL or `password=...`, is blotted out as well, a net for what no recipe
said. A value of fewer than `SHORTEST` characters is hidden where it stands in a recipe or a payload, but not looked
for in other text: it occurs in half of all words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BLOT = "***"
SHORTEST = 6
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+(?=@)")
_QUERY = re.compile(r"(://[^\s'\"?#]*\?)([^\s'\"#)\]}>]*=[^\s'\"#)\]}>]*)")
_VARIABLE = re.compile(r"\$\{\w+(?::-[^}]*)?\}")
_WORD = r"(?:password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]id)?|credentials?)"
_PAIR = re.compile(rf"(?i)(\b[\w.-]*{_WORD}['\"]?\s*[:=]\s*['\"]?)(?!\$\{{)([^\s'\",;&}}]+)")

_known: dict[str, str] = {}
_pattern: re.Pattern[str] | None = None


def keep(value: str, name: str = "") -> None:
    """Remember a secret value; `name` is the variable that it came from."""
    adopt({value: f"${{{name}}}" if name else BLOT})


def keep_url(url: str) -> None:
    """Remember the user, the password and the query of a URL, where it has any."""
    for match in _USERINFO.finditer(url):
        for part in (match[0], *match[0].split(":")):
            keep(part)
    for match in _QUERY.finditer(url):
        for part in (match[2], *(pair.partition("=")[2] for pair in match[2].split("&"))):
            keep(part)


def known() -> dict[str, str]:
    """The values that are looked for in text, and what stands in their place: for another process of the run."""
    return dict(_known)


def adopt(values: Mapping[str, str]) -> None:
    """Know the secrets of the process that started this one."""
    global _known, _pattern
    fresh = {v: shown for v, shown in values.items() if len(v) >= SHORTEST and v not in _known}
    if not fresh:
        return
    _known = {**_known, **fresh}
    forms = {form: shown for value, shown in _known.items() for form in _forms(value)}
    longest_first = sorted(forms, key=len, reverse=True)
    _pattern = re.compile("|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in longest_first))


def _forms(value: str) -> set[str]:
    """The value as URLs, JSON and Python spell it."""
    import json
    from urllib.parse import quote, unquote

    return {value, quote(value), quote(value, safe=""), unquote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}


def _shown(match: re.Match[str]) -> str:
    return next(shown for value, shown in _known.items() if match[0] in _forms(value))


def hide(text: str) -> str:
    """`text` with `${NAME}` or `***` in place of all values that are known."""
    return _pattern.sub(_shown, text) if _pattern else text


def blot(text: str) -> str:
    """`text` without what is known, or looks like a secret: `s3://me:pw@host/a` becomes `s3://***@host/a`."""
    text = hide(text)
    if "://" in text:
        text = blot_url(text)
    return _PAIR.sub(lambda m: m[1] + BLOT, text)


def blot_url(text: str) -> str:
    """`text` without user, password and query of the URLs in it. Where these are variables alone they stay."""
    text = _USERINFO.sub(lambda m: BLOT if _VARIABLE.sub("", m[0]).strip(":") else m[0], text)
    return _QUERY.sub(lambda m: m[1] + BLOT, text)


def scrub(value: Any) -> Any:
    """`blot` for each string within what becomes JSON."""
    if isinstance(value, str):
        return blot(value)
    if isinstance(value, Mapping):
        return {scrub(k): scrub(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else blot(str(value))
