"""What the language model is shown of a clip: how much, which tokens, and why."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruner import FrameLayout
from workers.arrays import Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How a clip's budget is shared out among its frames, and how what is kept is shown.

    ``budget`` counts base, grid and newline tokens and timestamp tokens; before novelty, ``shares``
    of frames are ``equal`` or ``informative`` (by mean feature norm). ``pruning`` tells which of
    the prunings made of the clip is meant, and ``max_keep`` how many tokens of each frame's ranking
    at most, where more of it was made for other budgets. ``num_timestamp_tokens`` is what each
    frame's timestamp costs in the prompt of all frames, in source order, empty without timestamps;
    ``num_first_timestamp_tokens`` what it costs where frames before it are left out, empty where
    that is the same; the template puts ``num_separator_tokens`` between two frames. ``weights`` is
    what each frame weighs beside all else, in source order, empty where all weigh alike. If
    ``question_aware``, ``num_entering`` tokens, timestamps included, are shared out instead of the
    budget, which each question spends inside the language model, by ``reserve`` for what the clip
    shows and else for what the question looks at. If ``proportional``, what is kept has the sizes
    that it stands for. For ``compact_positions`` see :class:`VisualSequence`; ``fastv_layer`` is
    its ``prune_layer``, where there is one.
    """

    method: str
    budget: int
    pruning: int = 0
    max_keep: int | None = None
    shares: str = "equal"
    novelty: bool = True
    num_timestamp_tokens: tuple[int, ...] = ()
    num_first_timestamp_tokens: tuple[int, ...] = ()
    num_separator_tokens: int = 0
    weights: tuple[float, ...] = ()
    compact_positions: bool = True
    question_aware: bool = False
    num_entering: int = 0
    reserve: float = 0.0
    proportional: bool = False
    fastv_layer: int = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptFrame:
    """What the language model got of one frame, and why.

    ``keep_indices`` are ascending flat indices into the frame's unpruned order, which ``layout``
    describes; the grid covers the whole displayed picture. A frame of which no token enters the
    model has no text in the prompt either, but a record all the same. For ``gap`` see
    :class:`VisualSequence`.
    """

    frame_index: int
    pts_seconds: float
    layout: FrameLayout
    keep_indices: Int64Array
    num_timestamp_tokens: int
    base_informativeness: float
    grid_informativeness: float
    novelty: float
    gap: int = 0
    thumbnail_jpeg: bytes = b""

    @property
    def num_visual_tokens(self) -> int:
        """Tokens of this frame in the language model's sequence, its timestamp included."""
        return len(self.keep_indices) + self.num_timestamp_tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisualSequence:
    """The bounded visual sequence of one clip: all that the language model is shown of it.

    A frame that keeps nothing is not in it. Frame i keeps ``counts[i]`` tokens; their features (sum
    of counts, hidden) and their ascending flat indices among the frame's ``frame_lengths[i]``
    unpruned tokens stand one frame after another in ``features`` (as ``dtype``, bfloat16 as
    ``uint16``) and ``keep_indices``; ``frame_indices[i]`` is its number among the clip's sampled
    frames, ascending. ``visual_id`` is a digest of all of it: two sequences of one
    id are the same. Kept tokens are numbered without gaps if ``compact_positions``, else by their
    place in the unpruned sequence: there ``gaps[i]`` tokens of frames that keep nothing, with their
    timestamps and the separators behind them, stand right before frame i's timestamp of
    ``num_timestamp_tokens[i]``; compact positions have gaps of 0. From the language model's layer
    ``prune_layer`` on ``num_keep`` visual tokens of the whole clip (at most: all of them) go on,
    chosen anew for each question; all do if None. ``priority`` (tokens,), the place of each in the
    order in which a growing budget keeps them, and ``reserve`` are those of
    :func:`pruner.question_aware.question_aware`, which chooses; without a priority FastV does.
    ``sizes`` (tokens,) is how many tokens of the clip each stands for: it weighs so much in the
    language model's attention. Without it each weighs as one.
    """

    visual_id: str
    features: NDArray[Any]
    dtype: str
    counts: Int64Array
    keep_indices: Int64Array
    frame_indices: Int64Array
    frame_lengths: Int64Array
    gaps: Int64Array
    num_timestamp_tokens: Int64Array
    compact_positions: bool = True
    prune_layer: int | None = None
    num_keep: int = 0
    priority: Int64Array | None = None
    reserve: float = 0.0
    sizes: Int64Array | None = None

    def __post_init__(self) -> None:
        num_tokens = int(self.counts.sum())
        if not num_tokens == len(self.keep_indices) == len(self.features):
            raise ValueError(
                f"one index and one feature a token: {num_tokens = } {len(self.keep_indices) = } "
                f"{len(self.features) = }"
            )
        each = (
            self.counts,
            self.frame_indices,
            self.frame_lengths,
            self.gaps,
            self.num_timestamp_tokens,
        )
        if len(set(map(len, each))) > 1:
            raise ValueError(
                "a count, an index, a length, a gap and a timestamp for each frame: "
                f"{[len(numbers) for numbers in each]}"
            )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.counts)

    @property
    def times(self) -> Int64Array:
        """The number of each token's frame among the sampled ones (tokens,)."""
        return np.repeat(self.frame_indices, self.counts)

    @property
    def unpruned_length(self) -> int:
        """Tokens of the unpruned sequence up to the last frame, beside the text that is shown."""
        return int((self.gaps + self.frame_lengths).sum())

    def __repr__(self) -> str:
        return f"VisualSequence({self.visual_id}, frames={len(self)}, {self.features.shape})"
