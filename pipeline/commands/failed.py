"""`hyperloom failed`: what is in quarantine or failed, and taking it back."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.counting import counted

SHOWN = 5


def add(commands: Any) -> None:
    help_ = "list samples in quarantine and units that failed, with their errors"
    sub = opening.add(commands, "failed", _failed, help_)
    sub.add_argument("--traces", action="store_true", help="with tracebacks")
    sub.add_argument("--by", choices=("error", "step"), help="how many of each error, or of each step, in a table")
    sub.add_argument("--all", action="store_true", help="of all recipes of the root, not of this one alone")
    sub.add_argument(
        "--replay", action="store_true", help="take the quarantined samples back, so that the next run tries them again"
    )
    opening.add_wait(sub, 0.0)


def _failed(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline.inspection import quarantine

    if given.replay:
        from hyperloom.pipeline.root.claims import alone

        with alone(storage, "failed --replay", given.wait) as claims:
            steps = opening.steps(loaded, storage)
            reopened = quarantine.replay(storage, steps, claims.check)
            left = quarantine.left(storage, [s.fingerprint for s in steps if s.name in reopened])
        given.answer = {"reopened": reopened, "left": left}
        print(
            f"taken back: {', '.join(reopened)}. Next: {opening.next_command(given, 'run')}"
            if reopened
            else "nothing is in quarantine"
        )
        if left:
            shown = ", ".join(left[:SHOWN]) + (f" and {len(left) - SHOWN} more" if len(left) > SHOWN else "")
            print(f"{counted(len(left), 'step')} made from these by other recipes, or before, kept as before: {shown}")
        return 0
    steps = opening.steps(loaded, storage)
    kept = list(quarantine.troubles(storage, steps))
    own = kept if given.all else quarantine.of_recipe(storage, steps, loaded.recipe.modalities, kept)
    _show(given, own)
    if len(own) < len(kept):
        print(f"{len(kept) - len(own)} more of other recipes on this root: --all shows them")
    return 1 if own else 0


def _show(given: Any, kept: list[Any]) -> None:
    from dataclasses import asdict

    from hyperloom.pipeline.inspection import quarantine
    from hyperloom.pipeline.output.tables import table

    given.answer = {"count": len(kept), "troubles": [asdict(trouble) for trouble in kept]}
    if given.by and kept:
        groups = quarantine.grouped(kept, given.by)
        given.answer = {"count": len(kept), "groups": groups}
        print(table(groups))
    else:
        for trouble in kept:
            what = f"quarantined {trouble.key}" if trouble.key else "failed"
            print(f"{trouble.step or '-'}  {trouble.unit}  {what}: {trouble.error}")
            if given.traces and trouble.trace:
                print("    " + trouble.trace.replace("\n", "\n    "))
    print(f"{len(kept)} in all" if kept else "nothing failed and nothing is in quarantine")
