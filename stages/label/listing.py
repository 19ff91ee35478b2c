"""What `hyperloom experts` prints: the list of the catalogue, one entry, and a try of it."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.spelling import near
from hyperloom.stages import licence
from hyperloom.stages.label.catalogue import TASKS, Entry, entries, entry


def listed(given: Any, task: str | None, free: bool) -> int:
    """All entries, those of a task, those for commerce."""
    from hyperloom.pipeline.errors import RecipeError
    from hyperloom.pipeline.output.tables import table

    if task is not None and task not in TASKS:
        raise RecipeError(
            f"no expert is of the task {task!r}{near(task, list(TASKS)) or '; there are: ' + ', '.join(TASKS)}"
        )
    chosen = [e for e in entries().values() if task in (None, e.task)]
    chosen = [e for e in chosen if not free or licence.commercial(e.licence)]
    given.answer = [about(one) for one in chosen]
    print(table([_row(one) for one in chosen], rest="hyperloom experts show NAME says all"))
    print("\nIn a recipe: {type: catalogue, name: NAME, in: COLUMN, out: COLUMN}; hyperloom experts show NAME")
    return 0


def _row(one: Entry) -> dict[str, Any]:
    size = f"{one.size_mb:g} MB" if one.size_mb else ""
    forbidden = " (NOT for commerce)" if licence.restricted(one.licence) else ""
    return {
        "name": one.name, "task": one.task, "size": size, "licence": f"{one.licence}{forbidden}", "about": one.about,
        "classes": one.named,
    }  # fmt: skip


def about(one: Entry) -> dict[str, Any]:
    """An entry for a program."""
    return {
        "name": one.name, "task": one.task, "about": one.about, "licence": one.licence,
        "commercial": licence.commercial(one.licence), "size_mb": one.size_mb, "classes": list(one.classes),
        "named": one.named, "speed": one.speed, "install": one.install, "pin": one.pin, "also": list(one.also),
        "modalities": {name: dict(fields) for name, fields in one.modalities.items()}, "line": one.line,
        "expert": one.written(one.line),
    }  # fmt: skip


def shown(given: Any, name: str) -> int:
    """One entry: what is to be known of it, what a recipe says, and what that stands for."""
    one = entry(name)
    given.answer = about(one)
    facts = {
        "tells": one.about, "classes": one.named, "licence": one.licence or "none: it has no weights",
        "size": f"{one.size_mb:g} MB" if one.size_mb else "", "pinned": one.pin, "speed": one.speed,
        "needs": " and ".join(filter(None, [f"pip install 'hyperloom[{one.install.replace(' ', '')}]'", one.commands])),
        "also in": ", ".join(one.also),
    }  # fmt: skip
    print(f"{one.name}: {one.task}")
    for what, text in facts.items():
        if text:
            print(f"  {what:<8} {text}")
    if warning := licence.remark(one.name, one.licence) if one.licence else "":
        print(f"  {warning}")
    print("\n" + _yaml({"modalities": {k: dict(v) for k, v in one.modalities.items()}, "experts": [one.line]}))
    print("# which stands for\n" + _yaml([_short(one.written(one.line))]), end="")
    if one.classes:
        print(f"# classes: {', '.join(one.classes[:40])}{', ...' if len(one.classes) > 40 else ''}")
    return 0


def _short(expert: dict[str, Any]) -> dict[str, Any]:
    """Without the long list of classes, which is said beside it."""
    decode = expert.get("decode")
    if not isinstance(decode, dict) or len(decode.get("names", ())) <= 12:
        return expert
    return {**expert, "decode": {**decode, "names": [*decode["names"][:3], "..."]}}


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110))


def checked(given: Any, name: str, root: str | None) -> int:
    """Fetch one, load it and ask it; what keeps it from working is an error."""
    from hyperloom.pipeline.errors import SourceError
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.label.probe import probe

    one = entry(name)
    try:
        done = probe(one, Storage(root or "memory://experts"))
    except (ConnectionError, TimeoutError) as error:
        raise SourceError(f"{name}: {error}") from error
    given.answer = {
        "name": name, "shapes": {c: list(shape) for c, shape in done.shapes.items()}, "remarks": list(done.remarks),
        "load_seconds": done.load_seconds, "sample_seconds": done.sample_seconds,
    }  # fmt: skip
    for text in done.remarks:
        print(text)
    for column, shape in done.shapes.items():
        print(f"{name} works here: {column} {list(shape)}, loaded in {done.load_seconds:.1f} s, ", end="")
        print(f"{done.sample_seconds * 1000:.0f} ms a sample")
    return 0
