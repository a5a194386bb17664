"""The text around a clip's frames in the prompt, of which some frames may keep nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Int64Array
from workers.visual import Allocation

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameText:
    """How many tokens the template and timestamps add to each of a clip's frames.

    A frame that keeps nothing leaves nothing in the prompt, neither its timestamp nor the separator
    behind it. ``timestamps`` (frames,) are as long as in the prompt of all frames, ``first``
    (frames,) as each is where its frame is the first that is shown: what stands before it can make
    a token of difference.
    """

    timestamps: Int64Array
    first: Int64Array
    separator: int

    @classmethod
    def of(cls, allocation: Allocation, num_frames: int) -> "FrameText":
        """Return the text of a clip's frames, none where an allocation knows of none."""
        timestamps = allocation.num_timestamp_tokens or (0,) * num_frames
        return cls(
            timestamps=np.array(timestamps, np.int64),
            first=np.array(allocation.num_first_timestamp_tokens or timestamps, np.int64),
            separator=allocation.num_separator_tokens,
        )

    @property
    def total(self) -> int:
        """What the timestamps of all frames cost."""
        return int(self.timestamps.sum())

    @property
    def most(self) -> Int64Array:
        """What each frame's timestamp costs at most (frames,)."""
        return np.maximum(self.timestamps, self.first)

    def paid(self, shown: BoolArray) -> Int64Array:
        """Return what each frame's timestamp costs (frames,) where these frames are shown."""
        paid = np.where(shown, self.timestamps, 0)
        start = np.flatnonzero(shown)[:1]
        paid[start] = self.first[start]
        return paid

    def gaps(self, lengths: Int64Array, shown: BoolArray) -> Int64Array:
        """Return what is left out of the unpruned sequence with frames that are not shown.

        Args:
            lengths: (frames,) of their tokens, unpruned.
            shown: (frames,).

        Returns:
            (frames,) tokens right before the timestamp of each that is, 0 elsewhere.
        """
        gaps = np.zeros_like(lengths)
        places = _starts(self.timestamps, lengths, self.separator)[shown]
        left = places - _starts(self.paid(shown)[shown], lengths[shown], self.separator)
        gaps[shown] = np.diff(left, prepend=0)
        return gaps


def _starts(timestamps: Int64Array, lengths: Int64Array, separator: int) -> Int64Array:
    """Return where the tokens of each frame begin, counted from the first frame's timestamp."""
    ends: Int64Array = np.cumsum(timestamps + lengths + separator)
    return ends - separator - lengths
