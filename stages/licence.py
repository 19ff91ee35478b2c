"""Licences of the networks that label: what they forbid in few words, and how they come to the card of a release.

A licence is what the owners of the weights call it (`apache-2.0`, `cc-by-nc-4.0`), as the hub, the catalogue or the
recipe (`licence:`) says it. It travels as a lesson (`stages.lesson`) from the expert over columns, consensus and models
to the release. Whether it forbids something is read off its name alone: this is a reminder, no counsel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hyperloom.stages.lesson import Lesson

RESTRICTED = ("-nc", "noncommercial", "non-commercial", "research", "academic", "amlr", "segformer")
"""Parts of the names of licences that forbid commercial use."""
OWN = ("other", "unknown", "custom")
"""Names that say nothing: the licence is the owner's own text."""


def restricted(licence: str) -> bool:
    return any(part in licence.lower() for part in RESTRICTED)


def commercial(licence: str) -> bool | None:
    """Does it allow commerce? None where its name does not say. What has no weights ("") forbids nothing."""
    return None if licence.lower() in OWN else not restricted(licence)


def remark(who: str, licence: str) -> str:
    """What is to be said of `who` before anything is made with it; empty where nothing is."""
    if restricted(licence):
        return f"{who} is licensed {licence}: labels and students made with it are not for commerce"
    if not licence:
        return f"{who} names no licence: ask whose it is before you hand on what it made"
    if commercial(licence) is None:
        return f"{who} has a licence of its own: read it before you hand on what it made"
    return ""


def lessons(terms: Mapping[str, str]) -> list[Lesson]:
    """Licences by their owners, as what a column's maker goes back to."""
    return [Lesson("", "", "licence", f"{who}: {licence}") for who, licence in terms.items() if licence]


def sentences(learned: Iterable[Lesson]) -> list[str]:
    """The licences behind a model, each once; those that forbid commerce say so."""
    named = sorted({lesson.by for lesson in learned if lesson.how == "licence"})
    return [f"{text}{' (NOT for commerce)' if restricted(text.partition(': ')[2]) else ''}" for text in named]
