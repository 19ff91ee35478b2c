"""Errors that a user can act on: what happened, to which object, and what to do next.

Anything derived from `HyperloomError` is printed by the command as its message alone, without secrets; any other
exception is a bug or a plug-in's own failure, and is shown with its traceback.
"""

from __future__ import annotations

from hyperloom.pipeline.exits import Exit


class HyperloomError(Exception):
    """Base of every error meant for a user. `exit_code` is what the command returns."""

    exit_code: int = Exit.FAILED

    def __str__(self) -> str:
        from hyperloom.pipeline.secrets import blot

        return blot(super().__str__())


class RecipeError(HyperloomError):
    """The recipe is wrong: an unknown or mistyped field, a missing step, a cycle. Names file and line."""

    exit_code = Exit.WRONG


class PluginError(RecipeError):
    """A `type:` that nobody registered, or a module that cannot be imported."""


class SourceError(HyperloomError):
    """The raw data is not there, is empty, or cannot be read at all."""

    exit_code = Exit.STEP


class StorageError(HyperloomError):
    """The root refuses: read-only, full, unreachable. `transient` says whether waiting may help."""

    def __init__(self, message: str, transient: bool = True):
        super().__init__(message)
        self.transient = transient
        self.exit_code = Exit.STORE if transient else Exit.WRONG

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.transient)


class ClaimError(HyperloomError):
    """Another driver holds what this one needs, or this driver was taken for dead and replaced."""

    exit_code = Exit.BUSY


class Superseded(ClaimError):
    """Somebody else changed it since it was read; nothing was written."""


class IntegrityError(HyperloomError):
    """What a manifest promises is missing, cut short, or was changed."""


class Torn(IntegrityError, ValueError):
    """A file under the root is not what was written there: empty, cut, changed, or another one in its place."""


class StepFailed(HyperloomError):
    """A step ended without its manifest: units failed for good, or too many samples are in quarantine. `missing` says
    in a few words how much of it is not there."""

    exit_code = Exit.STEP

    def __init__(self, message: str, missing: str = ""):
        super().__init__(message)
        self.missing = missing

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.missing)


class Ended(HyperloomError):
    """The run was to end (SIGTERM), and did."""

    exit_code = Exit.ENDED
    text = "ended, as SIGTERM asked; what was committed is kept. Next: the same command goes on from there"

    def __init__(self) -> None:
        super().__init__(self.text)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()


class Interrupted(Ended):
    """Ctrl-C, heeded once what was in flight had been put away."""

    exit_code = Exit.INTERRUPTED
    text = "interrupted; what was committed is kept. Next: the same command goes on from there"


class HungUp(Ended):
    """The terminal is gone (SIGHUP): a window was closed, a line was lost."""

    text = "ended, since its terminal is gone; what was committed is kept. Next: the same command goes on from there"


class Cancelled(Ended):
    """Somebody has cancelled the run."""

    exit_code = Exit.CANCELLED
    text = "cancelled; what was committed is kept. Next: the same command would go on from there"


class BadSample(Exception):
    """A worker's word that one sample is at fault: `key` names it, the message says why. Leads to quarantine."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.key, str(self))
