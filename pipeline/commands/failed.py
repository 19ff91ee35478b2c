"""`hyperloom failed`: what is in quarantine or failed, and taking it back."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    help_ = "list samples in quarantine and units that failed, with their errors"
    sub = opening.add(commands, "failed", _failed, help_)
    sub.add_argument("--traces", action="store_true", help="with tracebacks")
    sub.add_argument(
        "--replay", action="store_true", help="take the quarantined samples back, so that the next run tries them again"
    )
    opening.add_wait(sub, 0.0)


def _failed(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline import quarantine

    if given.replay:
        from hyperloom.pipeline.claims import alone

        with alone(storage, "failed --replay", given.wait) as claims:
            reopened = quarantine.replay(storage, opening.steps(loaded, storage), claims.check)
        print(
            f"taken back: {', '.join(reopened)}. Next: {opening.next_command(given, 'run')}"
            if reopened
            else "nothing is in quarantine"
        )
        return 0
    count = 0
    for trouble in quarantine.troubles(storage, opening.steps(loaded, storage)):
        count += 1
        what = f"quarantined {trouble.key}" if trouble.key else "failed"
        print(f"{trouble.step or '-'}  {trouble.unit}  {what}: {trouble.error}")
        if given.traces and trouble.trace:
            print("    " + trouble.trace.replace("\n", "\n    "))
    print(f"{count} in all" if count else "nothing failed and nothing is in quarantine")
    return 1 if count else 0
