"""How text and visual tokens take turns before the language model, and how they are numbered."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Int64Array
from workers.llm.prompt import Prompt
from workers.visual import VisualSequence


def visual_mask(segments: Sequence[Sequence[int]], counts: Int64Array) -> NDArray[np.bool_]:
    """Return where visual tokens stand when frame i's follow segment i.

    Args:
        segments: token ids before each frame, and behind the last one if there is one more.
        counts: (n,) visual tokens of each frame.

    Returns:
        (length,) bool.
    """
    lengths = np.zeros(2 * len(segments), np.int64)
    lengths[::2] = [len(segment) for segment in segments]
    lengths[1 : 2 * len(counts) : 2] = counts
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def join_positions(prompt: Prompt, visual: VisualSequence) -> Int64Array:
    """Return the position ids of segments and kept visual tokens, up to the last frame's.

    They are 0, 1, 2, ... if the sequence is to be numbered without gaps; otherwise each token keeps
    the position it has in the unpruned sequence, as in MR-Pruner's published code. Of frames that
    keep nothing the text is gone too: what is between two frames then follows the former, and a
    timestamp stands before the frame that it is of.

    Args:
        prompt: of the n frames.
        visual: what is kept of each of them.

    Returns:
        (length,) int64, ascending.
    """
    lengths = np.array([len(segment) for segment in prompt.frame_segments], np.int64)
    is_visual = visual_mask(prompt.frame_segments, visual.counts)
    if visual.compact_positions:
        return np.arange(len(is_visual))
    ends = np.cumsum(lengths + visual.gaps + visual.frame_lengths)
    first_visual = ends - visual.frame_lengths
    positions = np.empty(len(is_visual), np.int64)
    positions[is_visual] = np.repeat(first_visual, visual.counts) + visual.keep_indices
    places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    is_before = places < np.repeat(lengths - visual.num_timestamp_tokens, lengths)
    beside = np.repeat(first_visual - lengths, lengths) + places
    positions[~is_visual] = beside - is_before * np.repeat(visual.gaps, lengths)
    return positions
