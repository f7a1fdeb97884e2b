"""How often a region must have been there to count."""

from __future__ import annotations

from typing import NamedTuple

MOST_FRAMES = 60
"""Frames that a history may span: its bits are those of one number."""


class Persistence(NamedTuple):
    """In how many of the last frames a region must have been there to count.

    Attributes:
        needed: At least that often, this frame included.
        frames: Of so many frames, at most `MOST_FRAMES`.
    """

    needed: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> Persistence:
        """Reads a text such as '3/5'.

        Raises:
            ValueError: No two whole numbers, or they make no sense.

        >>> Persistence.parse('3/5')
        Persistence(needed=3, frames=5)
        """
        needed, _, frames = text.partition('/')
        if not (needed.strip().isdecimal() and frames.strip().isdecimal()):
            raise ValueError(
                f'persistence is {text!r}; write it as 3/5: in 3 of the last 5 frames'
            )
        result = cls(int(needed), int(frames))
        if not 1 <= result.needed <= result.frames <= MOST_FRAMES:
            raise ValueError(
                f'persistence is {text!r}; the first number must lie in 1..{result.frames}, the '
                f'second in 1..{MOST_FRAMES}'
            )
        return result


ALWAYS = Persistence(1, 1)
"""Every region counts, in the frame where it is first seen."""
