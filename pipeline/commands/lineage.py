"""`hyperloom lineage`: what a step, a model or a release was made of, back to the raw files."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    help_ = "show what a step or a released model was made of, back to the raw files"
    sub = opening.add(commands, "lineage", _lineage, help_)
    sub.add_argument("step", nargs="?", help="a step, the name of a registered model, or a fingerprint (the champion)")


def _lineage(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline.inspection import lineage

    steps = opening.steps(loaded, storage)
    names = {step.fingerprint: step.name for step in steps}
    one = lineage.origin(storage, *_place(given, loaded, storage, steps), names)
    given.answer = one.as_json()
    print("\n".join(lineage.lines(one)))
    return 0


def _place(given: Any, loaded: Any, storage: Any, steps: list[Any]) -> tuple[str, str]:
    """Stage and fingerprint of what is asked for."""
    from hyperloom.pipeline.commits import manifest
    from hyperloom.pipeline.spelling import near
    from hyperloom.stages import champion

    by_name, released = {step.name: step for step in steps}, champion.names(storage)
    name = given.step or (released[0] if len(released) == 1 else next(reversed(by_name)))
    if name in by_name:
        step = by_name[name]
        if step.manifest is None:
            raise loaded.error(("steps", name), f"the step {name!r} is not done. Next: hyperloom run {given.recipe}")
        return step.stage.stage, step.fingerprint
    if name in released and (present := champion.current(storage, name)):
        return "release", present.release
    if place := manifest.starting(storage, name):
        return place
    known = [*by_name, *released]
    what = f"there is no step, registered model or fingerprint {name!r}{near(name, known)}"
    raise loaded.error((), f"{what}; known: {', '.join(known)}")
