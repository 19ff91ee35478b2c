"""What a recipe writes, beside what it means: where a value came from the environment or is a secret in itself.

While a recipe's YAML is read each scalar is entered here with its place. So the recipe can be shown as it is written, a
payload can name `${NAME}` where the environment gave the value, and `pipeline.secrets` learns what must not be said.
Places that are secret by themselves: the values of `cluster: {env: ...}`, and user, password and query of a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline import secrets
from hyperloom.pipeline.secrets import BLOT

Where = tuple[str | int, ...]
HIDDEN = (("cluster", "env"),)
"""Sections each of whose values is a secret."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass
class Written:
    """The scalars of one recipe. `given` are the places whose value holds something of the environment, with the value
    and what stands in the recipe; `variables` is what the environment gave, by name."""

    text: str
    given: dict[Where, tuple[str, str]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    numerals: dict[Where, str] = field(default_factory=dict)
    """Numbers as they stand in the recipe: `0042` may have been meant as a name."""
    matrix: tuple[str, ...] = ()
    """Names that mean a value of the recipe's matrix and no variable; they stay as they are written."""
    missing: dict[Where, str] = field(default_factory=dict)
    """Places that mention a variable which is not set and has no default, with its name. They stay as written: a recipe
    that builds on this one may say something else."""
    _spans: dict[tuple[int, int], str] = field(default_factory=dict)

    def scalar(self, where: Where, raw: str, start: int, stop: int) -> str:
        """The value of a scalar that stands in text[start:stop]."""
        value = _VARIABLE.sub(lambda match: self._variable(where, match), raw)
        if where in self.missing:
            value = raw
        elif value != raw:
            self.given[where] = value, raw
        if where[:2] in HIDDEN and where not in self.missing:
            secrets.keep(value, str(where[2]) if len(where) > 2 else "")
            if value == raw:
                self._spans[start, stop] = BLOT + ("\n" if self.text[start:stop].endswith("\n") else "")
        elif "://" in value:
            secrets.keep_url(value)
            source = self.text[start:stop]
            if (blotted := secrets.blot_url(source)) != source:
                self._spans[start, stop] = blotted
            elif value == raw and secrets.blot_url(raw) != raw:  # behind YAML's escapes
                self._spans[start, stop] = f'"{BLOT}"'
        return value

    def over(self, base: Written, stays: Callable[[Where], bool]) -> Written:
        """What is written of a recipe that builds on one: of `base` only the places that stay, and the variables by
        which its own base is found."""
        given = {**{w: v for w, v in base.given.items() if stays(w)}, **self.given}
        gone = _names(raw for w, (_, raw) in base.given.items() if w != ("base",) and not stays(w))
        gone -= _names(raw for _, raw in given.values()) | set(self.variables)
        return Written(
            self.text,
            given,
            {name: value for name, value in {**base.variables, **self.variables}.items() if name not in gone},
            {**{w: v for w, v in base.numerals.items() if stays(w)}, **self.numerals},
            self.matrix,
            {**{w: v for w, v in base.missing.items() if stays(w)}, **self.missing},
        )

    def _variable(self, where: Where, match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name in self.matrix:
            return match.group(0)
        value = os.environ.get(name) or default
        if value is None:
            self.missing.setdefault(where, name)
            return match.group(0)
        self.variables[name] = value
        if value != default:
            secrets.keep(value, name)
        return value

    def shown(self) -> str:
        """The recipe's text, for people and for what is stored: as written, without the secrets that stand in it."""
        text = self.text
        for (start, stop), instead in sorted(self._spans.items(), reverse=True):
            text = text[:start] + instead + text[stop:]
        return text

    def value(self, where: Where, value: Any) -> Any:
        """What may be shown of the value at a place."""
        if where[:2] in HIDDEN:
            return BLOT
        return self.given[where][1] if where in self.given else secrets.scrub(value)

    def payload(self, value: Any, key: str = "") -> Any:
        """A step's payload with what is written in place of what the environment gave. It is matched by the name of
        the field and by value: a payload has forms of its own."""
        if isinstance(value, dict):
            return {k: self.payload(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self.payload(v, key) for v in value]
        for where, (given, raw) in self.given.items():
            named = next((part for part in reversed(where) if isinstance(part, str)), "")
            if named == key and _same(value, given):
                return raw
        return secrets.hide(value) if isinstance(value, str) else value


def _names(texts: Iterable[str]) -> set[str]:
    """Of the variables that texts mention."""
    return {match[1] for text in texts for match in _VARIABLE.finditer(text)}


def _same(value: Any, text: str) -> bool:
    """Is this what a field made of `text`?"""
    if isinstance(value, bool) or value is None:
        return str(value).lower() == text.lower()
    try:
        return value == (text if isinstance(value, str) else type(value)(text))
    except (TypeError, ValueError):
        return False
