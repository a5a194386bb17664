"""How much of every past moment is held, as a stream goes on for ever."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """A frame has become older: it is of another ``level`` now, or forgotten (None)."""

    frame: int
    level: int | None


class Ageing:
    """Levels of frames by age: each is half as dense in time as the one before, and holds as many.

    An exponential histogram (Datar, Gionis, Indyk and Motwani, 2002): with ``window`` frames on a
    level, the oldest two become one on the next, the first of the two, and what leaves the last
    level is forgotten. So level j holds consecutive multiples of 2^j, all levels together at most
    ``window * num_levels`` frames, and reach back by some ``window * 2^num_levels`` of them.

    It depends on the number of frames alone: whoever counts as many holds the same.

    Args:
        window: frames on a level, at least 2.
        num_levels: at least 1.

    Raises:
        ValueError: one of them is less.
    """

    def __init__(self, window: int, num_levels: int) -> None:
        if window < 2 or num_levels < 1:
            raise ValueError(f"two frames on a level, one level: {window = } {num_levels = }")
        self._window = window
        self._levels: list[deque[int]] = [deque() for _ in range(num_levels)]
        self.num_frames = 0
        """Frames that were added."""

    def add(self) -> list[Move]:
        """Take one more frame, the one of number ``num_frames``; it is of level 0.

        Returns:
            What becomes of older frames, each at most once. Cost: O(1) on average.
        """
        moves: list[Move] = []
        arriving: int | None = self.num_frames
        self.num_frames += 1
        for level, held in enumerate(self._levels):
            if arriving is None:
                break
            held.append(arriving)
            if level:
                moves.append(Move(arriving, level))
            arriving = None
            if len(held) > self._window:
                arriving = held.popleft()
                moves.append(Move(held.popleft(), None))
        if arriving is not None:
            moves.append(Move(arriving, None))
        return moves

    @property
    def levels(self) -> dict[int, int]:
        """The level of every frame that is held, oldest first."""
        pairs = [(frame, level) for level, held in enumerate(self._levels) for frame in held]
        return dict(sorted(pairs))
