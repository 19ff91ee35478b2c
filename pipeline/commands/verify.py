"""`hyperloom verify`: is every file under the root what was written there?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.counting import counted


def add(commands: Any) -> None:
    sub = opening.add(commands, "verify", _verify, "re-read every committed file and compare checksums")
    sub.add_argument(
        "--repair", action="store_true", help="remove damaged files, so that the next run makes them again"
    )
    sub.add_argument("--gc", action="store_true", help="also remove data that no manifest names")
    opening.add_wait(sub, 0.0)


def _verify(given: Any) -> int:
    _, storage = opening.load(given)
    if not (given.gc or given.repair):
        return _report(given, storage, lambda: None)
    from hyperloom.pipeline.root.claims import alone

    with alone(storage, "verify", given.wait) as claims:  # what a driver has in flight is in no manifest yet
        return _report(given, storage, claims.check)


def _report(given: Any, storage: Any, check: Callable[[], None]) -> int:
    """`check` raises where nothing may be removed any more."""
    from hyperloom.pipeline.inspection import verify

    report = verify.verify(storage)
    problems = report.problems
    given.answer = {"manifests": len(report.manifests), "files": report.files, "removed": []}
    for problem in problems:
        print(problem)
    if problems and given.repair:
        problems = _repair(given, storage, problems, check)
    elif problems:
        repair = f"{opening.next_command(given, 'verify')} --repair, then hyperloom run"
        print(f"{counted(len(problems), 'problem')}. Next: {repair}")
    else:
        print(f"{counted(len(report.manifests), 'manifest')}, {counted(report.files, 'file')}: all as committed")
    if given.gc:
        _collect(given, storage, any(p.path.endswith("/manifest.json") for p in report.problems), check)
    given.answer["problems"] = [vars(problem) for problem in problems]
    return 1 if problems else 0


def _repair(given: Any, storage: Any, problems: list[Any], check: Callable[[], None]) -> list[Any]:
    """Mend; what is left."""
    from hyperloom.pipeline.inspection import verify

    check()
    left = verify.mend(storage, problems)
    for problem in left:
        print(problem)
    print(f"removed {counted(len(problems) - len(left), 'damaged file')}. Next: {opening.next_command(given, 'run')}")
    return left


def _collect(given: Any, storage: Any, torn: bool, check: Callable[[], None]) -> None:
    """Remove what no manifest names."""
    if torn:
        print(f"--gc waits for the manifests that were torn. Next: {opening.next_command(given, 'run')}")
        return
    from hyperloom.pipeline.inspection import verify

    rubbish = verify.garbage(storage)
    for path in rubbish:
        check()
        storage.delete(path)
        given.answer["removed"].append(path)
    print(f"removed {counted(len(rubbish), 'file')} that no manifest names")
