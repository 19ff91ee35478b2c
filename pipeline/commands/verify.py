"""`hyperloom verify`: is every file under the root what was written there?"""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "verify", _verify, "re-read every committed file and compare checksums")
    sub.add_argument(
        "--repair", action="store_true", help="remove damaged files, so that the next run makes them again"
    )
    sub.add_argument("--gc", action="store_true", help="also remove data that no manifest names")


def _verify(given: Any) -> int:
    _, storage = opening.load(given)
    from hyperloom.pipeline import verify

    report = verify.verify(storage)
    problems = report.problems
    for problem in problems:
        print(problem)
    if problems and given.repair:
        problems = _repair(given, storage, problems)
    elif problems:
        print(f"{len(problems)} problem(s). Next: {opening.next_command(given, 'verify')} --repair, then hyperloom run")
    else:
        print(f"{len(report.manifests)} manifest(s), {report.files} file(s): all as committed")
    if given.gc:
        _collect(given, storage, any(p.path.endswith("/manifest.json") for p in report.problems))
    return 1 if problems else 0


def _repair(given: Any, storage: Any, problems: list[Any]) -> list[Any]:
    """Mend; what is left."""
    from hyperloom.pipeline import verify

    left = verify.mend(storage, problems)
    for problem in left:
        print(problem)
    print(f"removed {len(problems) - len(left)} damaged file(s). Next: {opening.next_command(given, 'run')}")
    return left


def _collect(given: Any, storage: Any, torn: bool) -> None:
    """Remove what no manifest names, under the lease: what a driver has in flight is in no manifest yet."""
    if torn:
        print(f"--gc waits for the manifests that were torn. Next: {opening.next_command(given, 'run')}")
        return
    from hyperloom.pipeline import verify
    from hyperloom.pipeline.lease import Lease

    with Lease(storage, "verify --gc", wait=0):
        rubbish = verify.garbage(storage)
        for path in rubbish:
            storage.delete(path)
    print(f"removed {len(rubbish)} file(s) that no manifest names")
