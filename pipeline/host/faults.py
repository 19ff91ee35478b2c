"""Named fault points: places where a test can kill or break the process that passes.

`HYPERLOOM_FAULT="unit.written=kill"` kills with SIGKILL the first process that reaches the point; `=raise` raises
instead; several are parted by commas. `HYPERLOOM_FAULT_ONCE=/path` makes each happen once over all processes and reruns
(whoever fires creates the file `/path.unit.written`). With the variable unset a point costs one dict lookup.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "driver.entered",  # the driver's card written, nothing planned yet
    "step.started",  # before a step does anything
    "unit.started",  # in the worker, attempt recorded, before the work
    "unit.written",  # in the worker, data file in place, record not
    "unit.recorded",  # in the worker, record in place, driver not told
    "train.step",  # in a training worker, after an optimizer step
    "train.checkpoint",  # in a training worker, checkpoint written, not yet reported
    "manifest.before",  # driver, all units done, manifest not written
    "manifest.after",  # driver, manifest written, step not yet announced
    "slot.decided",  # a tick, the decision on a slot in the journal
    "slot.claimed",  # a tick, the schedule's claim held, the start not in the journal
    "slot.started",  # a tick, the start in the journal, nothing run
    "slot.ran",  # a tick, the run ended, the journal not told
    "slot.ended",  # a tick, the end in the journal, the claim held
    "run.finished",  # driver, all steps done, claims still held
)


class FaultInjected(RuntimeError):
    """What a point raises under `=raise`."""


def point(name: str) -> None:
    """Pass the named point. Raises FaultInjected or kills this process when the environment says so."""
    setting = os.environ.get("HYPERLOOM_FAULT")
    if not setting:
        return
    action = dict(each.partition("=")[::2] for each in setting.split(",")).get(name)
    if action is None:
        return
    once = os.environ.get("HYPERLOOM_FAULT_ONCE")
    if once:
        try:
            os.close(os.open(f"{once}.{name}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    if action == "raise":
        raise FaultInjected(f"fault point {name}")
    os.kill(os.getpid(), signal.SIGKILL)
