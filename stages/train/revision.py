"""Revision: what of a training's meaning has changed with the code for some trainings alone, by their modalities.

A number for each such change, from 2 on, enters the identity of those whom it concerns (`Stage.revised_for`); others
keep what they made. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hyperloom.stages.augment.blends import MixUp, OneOf
from hyperloom.stages.augment.views import Crop, Flip, Rotate
from hyperloom.stages.base import defined
from hyperloom.stages.modality import sides
from hyperloom.stages.train.learners import MeanTeacher

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train


def revised(stage: Train, modalities: Mapping[str, Any]) -> dict[str, int]:
    """What changed for this training, whose recipe has these modalities."""
    used = [modalities[name] for name in stage.uses() if name in modalities]
    passed = stage.targets if stage.model.residual is True else stage.model.residual or ()
    moves = any(isinstance(one, Crop | Rotate) for one in stage.augment)
    changed = {
        # probabilities were added to logits as if they were such, in whatever order their classes had
        "residual of probabilities": any(modalities[t].soft for t in passed if t in modalities),
        # a crowd whose middle was not shown became ground on which nothing may be found
        "crowds": moves and any(one.markup == "boxes" for one in used),
        # the letters L and R became each other
        "letters": any(isinstance(a, Flip) for a in stage.augment) and any(sides.lettered(_names(m)) for m in used),
        # numbers that are called by their sides kept their places
        "sided numbers": any(isinstance(a, Flip) for a in stage.augment)
        and any(getattr(one, "mirror", None) is not None and getattr(one, "exchanged", ()) for one in used),
        # a mixture of two series ended where the shorter one does; pictures and films have no end in them
        "mixtures": any(map(_mixes, stage.augment))
        and any(not one.rgb and one.times == 1 for one in defined(modalities, stage.inputs)),
        # it was shown what its student never is
        "hidden from the mean teacher": isinstance(stage.learner, MeanTeacher)
        and any(stage.mask.hidden_inputs(stage.inputs)),
    }
    return {name: 2 for name, concerned in changed.items() if concerned}


def _mixes(one: Any) -> bool:
    return isinstance(one, MixUp) or (isinstance(one, OneOf) and any(map(_mixes, one.of)))


def _names(modality: Any) -> tuple[str, ...]:
    named = (getattr(modality, field, ()) for field in ("classes", "levels", "points", "labels"))
    return next((tuple(names) for names in named if isinstance(names, tuple | list) and names), ())
