"""A stage that says all it knows: its worker, its own code, its events and its samples in quarantine repeat every value
that the recipe gave it. For the tests that none of it comes out."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.config import placement, secret
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.stage import Stage, StepRun


class Talker:
    """Quarantines one sample and may fail, in words that hold `words`."""

    def __init__(self, words: str, fails: bool):
        self.words, self.fails = words, fails
        self.resources = Resources()

    def setup(self) -> None:
        print(f"set up with {self.words} and {os.environ.get('LEAK')}")

    def run(self, unit: Unit, out: Output) -> None:
        out.quarantine(f"{unit.id}/0", ValueError(f"no sample for {self.words} {os.environ.get('LEAK')}"))
        if self.fails:
            raise ValueError(f"cannot log in with {self.words}")
        out.write("json", hashlib.sha256(os.environ.get("LEAK", "").encode()).hexdigest().encode())
        out.rows = 9


class Leaky(Stage):
    """`salt` bears meaning, `number` too; `url` and `path` are placement, `password` is declared secret."""

    salt: str = ""
    number: int = 0
    peers: list[str] = []
    url: str = placement("")
    path: str = placement("")
    password: str = secret()
    fails: str = placement("")

    def run(self, step: StepRun) -> dict[str, Any]:
        words = " ".join(
            (self.salt, self.url, self.path, self.password, repr(self), str(self.model_dump()), str(step.storage))
        )
        step.events.emit("tag", step.name, values={"words": words, words: "1"})
        step.events.emit("table", step.name, name="words", rows=[{"word": self.salt, "two": self.url}])
        step.events.emit("a-new-kind", step.name, a_new_field=[{"deep": (words,)}])
        if self.fails == "step":
            raise StepFailed(f"no step with {words}", missing=words)
        if self.fails == "bug":
            raise RuntimeError(f"a bug with {words}")
        step.records = step.run_units([Unit(step.folder, "u0", "w", {})], {"w": Talker(words, self.fails == "worker")})
        return {}
