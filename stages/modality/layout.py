"""Layout: what the form of a value tells those who build, teach and ask a network, so that none of them asks its type.

A type of one's own inherits the plainest answers (one whole of numbers, with no height and width) and overrides those
that are otherwise. Nothing here is of torch: how a column becomes planes or tokens is its stem's affair
(`stages.network`), and the sites that its stem makes must be those of `grid`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

MOST_TOKENS = 64
"""Of a sound or a series."""


def steps_a_token(steps: int) -> int:
    """Steps of a series that a network reads as one token."""
    return max(1, -(-steps // MOST_TOKENS))


class Layout:
    """The part of a modality that says how its values are laid out."""

    processor: ClassVar[str] = ""
    """What becomes of its tensors in a network: a plug-in of kind `processor`, or "module:Class" (see
    `stages.network.processors`); by default that of its class, or of a class it derives from."""
    rgb: ClassVar[bool] = False
    """Is a value one picture, (H, W, 3) uint8 RGB?"""
    categorical: ClassVar[bool] = False
    """Does each pixel, sample or token have exactly one class? Then values are ids in the order of `counted`, and
    predictions are probabilities that sum to one over their last axis. (A text's bytes are not counted among them.)"""
    soft: ClassVar[bool] = False
    """Are values themselves probabilities of classes, which teach and weigh but are no answer?"""

    plain_numbers: ClassVar[bool] = False
    """Does a cell of a table hold numbers and nothing else?"""
    readable_numbers: ClassVar[bool] = False
    """Do the numbers of a value, as they are, say all of it to whoever reads them?"""
    textual: ClassVar[bool] = False
    """Is a value a text, which `words` gives back whole?"""
    ended: ClassVar[bool] = False
    """Does a value end where its padding begins? Then it is one whole, and what others say behind its end is no part of
    it."""
    voted: ClassVar[bool] = False
    """May several sources vote on each pixel or sample, as ids of one class with unknown ones among them?"""

    @property
    def averaged(self) -> bool:
        """Is the mean of several values, number by number, a value too?"""
        return self.dtype.kind == "f"

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def dtype(self) -> np.dtype[Any]: ...
        @property
        def stored(self) -> np.dtype[Any]: ...
        @property
        def channels(self) -> int: ...

    @property
    def height_width(self) -> tuple[int, int] | None:
        """Height and width in pixels of what lies in a picture pixel by pixel; None for everything else. Raises
        ValueError while the size is unknown (see `completed`)."""
        return None

    @property
    def times(self) -> int:
        """Pictures that one value is made of, one after the other; 1 for all but clips."""
        return 1

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the numbers along the last axis of a value are called, of which statistics are kept one by one; nothing
        where they have no names."""
        return ()

    @property
    def planes(self) -> int:
        """Channels of a value as planes of a picture, numbers of whole samples being one plane each."""
        return self.channels

    def grid(self, patch: int) -> tuple[int, ...]:
        """The sites that can be shown, hidden or be a token on their own, along each axis: squares of `patch` pixels of
        a raster, windows of a sound; (1,) where a value is a whole."""
        return (1,)

    @property
    def places(self) -> int:
        """Ids of a sequence of ids, as a network reads and predicts it."""
        return self.shape[0]

    @property
    def regression(self) -> bool:
        """Is it predicted as numbers, rather than as chances of classes, bytes, pairs or boxes?"""
        return self.dtype.kind == "f"

    @property
    def standardised(self) -> bool:
        """Does a network read and predict its values with the mean and the deviation of the training data taken out?
        Channels are then the last axis of a value (or a value has one channel)."""
        return False

    @property
    def unit_vectors(self) -> bool:
        """Are values directions of length one along the last axis, whose distance is an angle?"""
        return False

    @property
    def holes(self) -> bool:
        """May a number inside a value be unknown, NaN, which a network reads as the mean?"""
        return False

    @property
    def read_as_stored(self) -> bool:
        """May a network get the numbers of the disk, since they differ from those in memory in their width alone or its
        encoder knows their scale?"""
        return self.stored.kind == self.dtype.kind
