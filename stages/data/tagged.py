"""The stage of a tag: what a step had made when it was tagged, as a step that others read.

    monday: {stage: tagged, tag: monday}
    votes:  {stage: consensus, ..., expect: {semantic@votes: {drift: {step: monday, most: 0.1}}}}

It does nothing and copies nothing: its manifest names the records of that other one. Its identity is what the tag
points to, so a tag that moves is another step. Whoever reads it is checked when it starts.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages.data.tags import TagBook


class Tagged(Stage):
    """`tag`: its name, of any recipe on this root."""

    tag: str = Field(min_length=1)

    def facts(self, digests: Digests) -> dict[str, Any]:
        try:
            tag = TagBook(digests.storage).get(self.tag)
        except RecipeError as error:
            raise SourceError(str(error)) from error
        return {"version": f"{tag.stage}/{tag.fingerprint}"}

    def run(self, step: StepRun) -> dict[str, Any]:
        manifest = TagBook(step.storage).manifest(self.tag)
        step.records = manifest.records
        for file in manifest.files:
            step.adopt(file)
        step.events.emit("note", step.name, text=f"{step.name}: {manifest.rows} rows of {manifest.stage} as tagged")
        return dict(manifest.body)
