"""`hyperloom data tag` and `data diff`: names for what a step has made, and what differs between two of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError

MOST = 12
"""Rows of a table of flips."""


def add(command: Callable[..., argparse.ArgumentParser], kinds: Any, load: Any, steps: Any) -> None:
    """Add the commands to those of `hyperloom data`."""

    def opened(function: Callable[[Any, Any, Any, Any], int]) -> Callable[[Any], int]:
        def run(given: Any) -> int:
            loaded, storage = load(given)
            return function(given, loaded, storage, steps(loaded, storage))

        return run

    sub = command(kinds, "tag", opened(_tag), "name what a step has made; without a step, list the names")
    sub.add_argument("step", nargs="?", help="an ingest, label, consensus, people or shard step that is done")
    sub.add_argument("name", nargs="?", help="the tag, one on the whole root")
    sub.add_argument("--move", action="store_true", help="also where the name points to something else")
    sub.add_argument("--remove", metavar="NAME", help="forget a name; nothing else is removed")
    sub = command(kinds, "diff", opened(_diff), "what came, went and flipped between two versions of a step's columns")
    sub.add_argument("before", help="a tag, a step, or stage/fingerprint")
    sub.add_argument("after", nargs="?", help="the same (of a tag, by default the step as it is now)")
    sub.add_argument("--columns", nargs="+", metavar="COLUMN", default=(), help="only these")


def _tag(given: Any, loaded: Any, storage: Any, planned: Sequence[Any]) -> int:
    from dataclasses import asdict

    from hyperloom.stages.data.tags import Tag, TagBook
    from hyperloom.stages.results import Samples, Shards

    tags = TagBook(storage)
    if given.remove:
        tags.remove(given.remove)
        given.answer = {"removed": given.remove}
        print(f"removed the tag {given.remove!r}")
        return 0
    if not given.step:
        listed = tags.all()
        given.answer = [asdict(tag) for tag in listed]
        _print([{"tag": t.name, "step": t.step, "version": t.short, "rows": t.rows} for t in listed], "no tags")
        return 0
    if not given.name:
        raise RecipeError(f"a name is missing. Next: hyperloom data tag {given.recipe} {given.step} NAME")
    step = _step(given.step, planned, given.recipe)
    if not (Samples.of(step.manifest) or Shards.of(step.manifest)):
        raise RecipeError(f"{given.step!r} has no samples to come back to")
    tag = Tag(given.name, step.name, step.stage.stage, step.fingerprint, step.manifest.rows)
    before = tags.set(tag, given.move)
    given.answer = asdict(tag)
    moved = f" (was {before.short})" if before and before != tag else ""
    print(f"{tag.name} is {tag.step} {tag.short}, {tag.rows} rows{moved}")
    return 0


def _diff(given: Any, loaded: Any, storage: Any, planned: Sequence[Any]) -> int:
    from hyperloom.stages.data.difference import difference
    from hyperloom.stages.data.tags import TagBook

    tags = TagBook(storage)
    names = [s.name for s in planned]
    after = given.after or (tags.get(given.before).step if given.before not in names else "")
    if not after:
        raise RecipeError(
            f"{given.before!r} is the step as it is now; what is it compared with? Next: hyperloom data diff "
            f"{given.recipe} TAG {given.before}"
        )
    sides = [_version(name, tags, storage, planned, given.recipe) for name in (given.before, after)]
    same = sides[0].fingerprint == sides[1].fingerprint
    result = difference(storage, sides[0], sides[1], loaded.recipe.modalities, tuple(given.columns))
    versions = [f"{m.stage}/{m.fingerprint[:12]}" for m in sides]
    given.answer = {"before": versions[0], "after": versions[1], "same": same, **result.as_json()}
    print(f"{given.before} ({versions[0]}) -> {after} ({versions[1]}){': the same version' if same else ''}")
    _show(result)
    return 0


def _version(name: str, tags: Any, storage: Any, planned: Sequence[Any], recipe: str) -> Any:
    """The manifest that a tag, a step or stage/fingerprint names."""
    from hyperloom.pipeline.commits import manifest as manifests
    from hyperloom.pipeline.fingerprint import SHORT

    if any(s.name == name for s in planned):
        return _step(name, planned, recipe).manifest
    stage, slash, digest = name.partition("/")
    if slash:
        folders = [f for f in storage.names(stage) if digest and f.startswith(digest[:SHORT])]
        if len(folders) != 1:
            what = (
                f"several steps are called {name!r}: {', '.join(folders)}" if folders else f"nothing is called {name!r}"
            )
            raise RecipeError(f"under {storage} {what}. Next: hyperloom status, or a tag")
        try:
            return manifests.read(storage, f"{stage}/{folders[0]}/manifest.json")
        except FileNotFoundError:
            raise RecipeError(
                f"{name!r} under {storage} is not done. Next: hyperloom run, or another version"
            ) from None
    return tags.manifest(name)


def named(name: str, planned: Sequence[Any], recipe: str) -> Any:
    """The planned step of this name. Raises RecipeError."""
    from hyperloom.pipeline.spelling import near

    names = [s.name for s in planned]
    step = next((s for s in planned if s.name == name), None)
    if step is None:
        raise RecipeError(f"there is no step {name!r} in {recipe}{near(name, names)}; steps: {', '.join(names)}")
    return step


def _step(name: str, planned: Sequence[Any], recipe: str) -> Any:
    step = named(name, planned, recipe)
    if step.manifest is None:
        raise RecipeError(f"the step {name!r} is not done ({'; '.join(step.why)}). Next: hyperloom run {recipe}")
    return step


def _show(result: Any) -> None:
    for word, columns in (("came", result.came_columns), ("went", result.went_columns)):
        if columns:
            print(f"columns that {word}: {', '.join(columns)}")
    for word, count in (("came", result.came), ("went", result.went)):
        if count:
            print(f"{counted(count, 'sample')} {word}, such as {', '.join(result.examples[word])}")
    print(f"{counted(result.both, 'sample')} in both")
    rows = [_row(column) for column in result.columns]
    _print([row for row in rows if row], "")
    for column in result.columns:
        if column.unlike:
            print(f"{column.column} cannot be compared: {column.unlike}")
        if column.flips:
            print(f"\n{column.column}: what became of classes")
            _print([{"from": a, "to": b, "count": n} for (a, b), n in column.flips.most_common(MOST)], "")
        if column.examples:
            print(f"{column.column}: such as {', '.join(column.examples)}")


def _row(column: Any) -> dict[str, Any]:
    how = ""
    if column.moved[2]:
        how = f"by {column.moved[0] / column.moved[2]:.4g} on average, {column.moved[1]:.4g} at most"
    if column.boxes:
        how = ", ".join(f"{count} {what}" for what, count in column.boxes.most_common())
    plain = {"column": column.column, "differ": column.differ, "gained a value": column.gained, "lost it": column.lost}
    return {**plain, "how": how}


def _print(rows: list[dict[str, Any]], otherwise: str) -> None:
    from hyperloom.pipeline.output.tables import table

    if rows or otherwise:
        print(table(rows) if rows else otherwise)
