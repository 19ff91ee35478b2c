"""Label Studio's brush: masks as packed bits of a run-length code, as its editor and its converter write them.

The code is of a flat list of bytes, four a pixel (RGBA), row by row: 32 bits say how many bytes there are, 5 bits the
width of a word less one, four times 4 bits the widths of lengths less one; then runs, each a bit (1: one value for
all), two bits (which width), the length less one, and the value or values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperloom.stages.modality.runs import MaskRuns, run_lengths

SIZES = (3, 4, 8, 16)
"""Widths of lengths, in bits, that are written."""
CHANNELS = 4


def parsed(code: Sequence[int], size: tuple[int, int]) -> MaskRuns:
    """The mask of a picture of `size`. Raises ValueError for a code of another size, or one that was cut."""
    bits = "".join(map("{:08b}".format, np.asarray(code, np.uint8).tolist()))
    number = int(bits[:32] or "0", 2)
    height, width = size
    if number != height * width * CHANNELS:
        raise ValueError(
            f"its brush covers {number // CHANNELS} pixels, its picture {width}x{height} has {height * width}"
        )
    word = int(bits[32:37], 2) + 1
    sizes = [int(bits[37 + 4 * i : 41 + 4 * i], 2) + 1 for i in range(4)]
    values, at, place = np.zeros(number, np.uint8), 53, 0
    while place < number:
        try:
            one_value, wide = bits[at] == "1", sizes[int(bits[at + 1 : at + 3], 2)]
            length = int(bits[at + 3 : at + 3 + wide], 2) + 1
            at += 3 + wide
            if one_value:
                values[place : place + length] = int(bits[at : at + word], 2)
                at += word
            else:
                run = bits[at : at + word * length]
                values[place : place + length] = [int(run[i : i + word], 2) for i in range(0, len(run), word)]
                at += word * length
        except (IndexError, ValueError) as error:
            raise ValueError("the code of its brush is cut off") from error
        place += length
    return MaskRuns.of(values.reshape(height, width, CHANNELS)[..., 3] > 0)


def written(runs: MaskRuns) -> list[int]:
    """The code of a mask: what is covered is 255 in all four channels."""
    height, width = runs.size
    header = f"{height * width * CHANNELS:032b}{7:05b}" + "".join(f"{s - 1:04b}" for s in SIZES)
    parts, value = [header], 0
    for count in run_lengths(runs.mask().ravel()).tolist():
        left = count * CHANNELS
        while left:
            length = min(left, 1 << SIZES[3])
            choice = next(i for i, s in enumerate(SIZES) if length <= 1 << s)
            parts.append(f"1{choice:02b}{length - 1:0{SIZES[choice]}b}{value:08b}")
            left -= length
        value = 255 - value
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0")).tolist()
