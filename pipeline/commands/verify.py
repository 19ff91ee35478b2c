"""`hyperloom verify`: are the committed files what was committed?"""

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

    manifests = list(verify.manifests(storage))
    problems = verify.verify(storage, manifests)
    for problem in problems:
        print(problem)
    if given.gc:
        from hyperloom.pipeline.lease import Lease

        with Lease(storage, "verify --gc", wait=0):  # what a driver has in flight is in no manifest yet
            rubbish = verify.garbage(storage)
            for path in rubbish:
                storage.delete(path)
        print(f"removed {len(rubbish)} file(s) that no manifest names")
    if problems and given.repair:
        verify.discard(storage, problems)
        print(f"removed {len(problems)} damaged file(s). Next: {opening.next_command(given, 'run')}")
    elif problems:
        print(f"{len(problems)} problem(s). Next: hyperloom verify --repair, then hyperloom run")
    else:
        count = sum(1 for m in manifests for _ in m.all_files())
        print(f"{len(manifests)} manifest(s), {count} file(s): all as committed")
    return 1 if problems else 0
