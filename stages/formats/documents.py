"""Documents: bytes of JSON and XML files as what Python makes of them, or one line that says what is wrong where.

A file that was cut, a list that was written twice into one file, and XML that defines entities are refused by name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar
from xml.etree import ElementTree

from hyperloom.pipeline.errors import SourceError

ReaderFields = ParamSpec("ReaderFields")
Said = TypeVar("Said")
FORM = (TypeError, ValueError, LookupError, AttributeError, OverflowError)
"""What a reader raises of a value that has another form than its format says: a number where a list stands, .."""


def of_form(
    form: str,
) -> Callable[
    [Callable[Concatenate[bytes, str, ReaderFields], Said]], Callable[Concatenate[bytes, str, ReaderFields], Said]
]:
    """Makes a reader `(data, path, ..)` of files of `form` raise SourceError where a part has another form."""

    def wrapped(
        read: Callable[Concatenate[bytes, str, ReaderFields], Said],
    ) -> Callable[Concatenate[bytes, str, ReaderFields], Said]:
        @functools.wraps(read)
        def checked(data: bytes, path: str, /, *given: ReaderFields.args, **named: ReaderFields.kwargs) -> Said:
            try:
                return read(data, path, *given, **named)
            except FORM as error:
                what = f"{path}: a part has another form than {form} gives it ({type(error).__name__}: {error})"
                raise SourceError(f"{what}. Next: export it again") from error

        return checked

    return wrapped


def parse_json(data: bytes, path: str) -> Any:
    """The value of a JSON file. Raises SourceError."""
    if not data.strip():
        raise SourceError(f"{path} is empty. Next: export it again")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no UTF-8: {error}. Next: export it again") from error
    except json.JSONDecodeError as error:
        torn = error.pos >= len(error.doc.rstrip()) or "Unterminated" in error.msg
        what = f"is cut off after {len(data)} bytes" if torn else f"is no JSON at line {error.lineno}"
        twice = " (two documents in one file?)" if error.msg == "Extra data" else ""
        raise SourceError(f"{path} {what}{twice}: {error.msg}. Next: export it again") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise SourceError(f"{path} is no JSON: {error}. Next: export it again") from error
    except RecursionError as error:
        raise SourceError(f"{path} nests too deeply for a file of annotations. Next: export it again") from error


def parse_xml(data: bytes, path: str) -> ElementTree.Element:
    """The root of an XML file. Raises SourceError."""
    if b"<!ENTITY" in data:
        raise SourceError(f"{path} defines entities, which is not taken. Next: export it again")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two of an encoding
        raise SourceError(f"{path} is no whole XML: {error}. Next: export it again") from error
