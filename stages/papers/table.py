"""The table of papers: `docs/papers.md`, made from recipes and records, never by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hyperloom.pipeline.counting import counted
from hyperloom.stages.papers.dials import curves, draw, picture_of
from hyperloom.stages.papers.shelf import PaperRecipe
from hyperloom.stages.verdict.claims import Claim

HEAD = """# Claims of papers, tested
Made by `hyperloom papers report` from the recipes and records under `recipes/papers`; not written by hand. A claim
*holds* when its 95 % interval lies beyond what it is compared with and no seed lies on the other side, it is
*reversed* when the interval lies on the other side, else it is *not shown*; beside it stands the smallest effect that
could have been seen ([comparing.md](comparing.md)). Of a claim that something grows with a dial the highest and the
lowest place are shown, and the slope.
"""
COLUMNS = ("claim", "ours", "theirs", "what it is about", "interval", "seeds", "smallest", "word")


def page(papers: Iterable[PaperRecipe]) -> str:
    """All of them by family, as Markdown."""
    parts = [HEAD]
    for family, members in groupby(sorted(papers, key=lambda p: (p.family, p.paper.id)), key=lambda p: p.family):
        parts.append(f"## {family}")
        parts += [_paper(one) for one in members]
    return "\n".join(parts)


def write_page(path: str, papers: Iterable[PaperRecipe]) -> None:
    """The page, and beside it the pictures of papers that turn a dial."""
    listed = list(papers)
    Path(path).write_text(page(listed), encoding="utf-8")
    for one in listed:
        draw(Path(path).parent, one)


def is_page(path: str, papers: Iterable[PaperRecipe]) -> bool:
    """Is what lies at `path` the page of these papers?"""
    return Path(path).is_file() and Path(path).read_text(encoding="utf-8") == page(papers)


def rows(papers: Iterable[PaperRecipe]) -> list[dict[str, Any]]:
    """One line a paper, for the terminal."""
    return [
        {
            "id": one.paper.id,
            "name": one.name,
            "family": one.family,
            "verdict": one.record.verdict if one.record else "",
            "record": one.standing,
            "minutes": f"{one.record.seconds / 60:.1f}" if one.record else "",
        }
        for one in papers
    ]


def _paper(one: PaperRecipe) -> str:
    about, record = one.paper, one.record
    lines = [f"### {about.id} {one.name.partition('-')[2] or one.name}", f"{about.cite}. Claim: {about.claim}."]
    kind = "Only the mechanism is tested. " if about.mechanism else ""
    lines.append(f"{kind}Departs from the paper: {'; '.join(about.departs)}.")
    if record is None:
        return "\n\n".join([*lines, "**Not run yet.**"]) + "\n"
    word = f"**{record.verdict.capitalize()}**"
    if len(record.before):
        word += f" (before: {', '.join(str(b['verdict']) for b in record.before)})"
    cost = f"{record.seconds / 60:.1f} min on {record.cores} cores"
    cost += f" ({record.cpu / 60:.1f} min of CPU time)" if record.cpu else ""
    lines.append(f"{word}, {counted(record.samples, 'sample')}, {counted(record.folds, 'fold')}, {cost}.")
    table = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    kinds = {**one.step.beside, **one.step.claims}
    table += [_row(name, claim, kinds.get(name)) for name, claim in record.claims.items()]
    table += [_row(f"{name} (beside)", claim, kinds.get(name)) for name, claim in record.beside.items()]
    picture = [f"![What a dial buys]({picture_of(one)})"] if curves(one) else []
    return "\n\n".join([*lines, "\n".join(table), *picture]) + "\n"


def _row(name: str, claim: Mapping[str, Any], definition: Claim | None) -> str:
    sides = claim["sides"]
    named = [who for who in _compared(definition) if who in sides] if definition else []
    ours, theirs = [*(f"{who} {sides[who]:.3f}" for who in named or sides), "", ""][:2]
    low_high = claim["interval"]
    interval = "too few samples" if low_high is None else f"{low_high[0]:+.3f} to {low_high[1]:+.3f}"
    smallest = "" if claim["smallest"] is None else f"{claim['smallest']:.3f}"
    cells = [name, ours, theirs, f"{claim['value']:+.3f}", interval, _seeds(claim["seeds"]), smallest, claim["word"]]
    return f"| {' | '.join(cells)} |"


def _compared(definition: Claim) -> list[str]:
    """Whose figures stand in the row: of a dial those at its highest and its lowest place."""
    if not definition.dial:
        return [definition.ours, definition.theirs]
    places = sorted(definition.dial, key=definition.dial.__getitem__)
    return [places[-1], places[0]]


def _seeds(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.3f}" for value in values)
