"""What a recipe of a paper says of the paper: shown in its table, and of no meaning for any step."""

from __future__ import annotations

from pydantic import Field

from hyperloom.pipeline.config import Config


class Paper(Config):
    """`paper: {id: 5, cite: "Yu et al., NeurIPS 2020", claim: .., departs: [smaller networks]}`."""

    id: int = Field(ge=0)
    """Its number in the list of papers."""
    cite: str
    claim: str
    """What is tested, in one sentence."""
    departs: tuple[str, ...] = Field(min_length=1)
    """What is other than in the paper: smaller data, a smaller network, no pre-trained trunk."""
    mechanism: bool = False
    """Is only the mechanism tested, not the paper's scale?"""
