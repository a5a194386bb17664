from dataclasses import replace

import numpy as np
import pytest

from workers.llm.positions import join_positions, visual_mask
from workers.llm.prompt import Prompt
from workers.visual import VisualSequence

PROMPT = Prompt(frame_segments=((1, 2, 3), (4,), ()), question=(5, 6))


def visual(kept: list[list[int]], lengths: list[int], *, compact: bool) -> VisualSequence:
    indices = np.array([index for each in kept for index in each], np.int64)
    return VisualSequence(
        visual_id="x",
        features=np.zeros((len(indices), 2), np.float32),
        dtype="float32",
        counts=np.array([len(each) for each in kept], np.int64),
        keep_indices=indices,
        frame_indices=np.arange(len(kept)),
        frame_lengths=np.array(lengths, np.int64),
        gaps=np.zeros(len(kept), np.int64),
        num_timestamp_tokens=np.zeros(len(kept), np.int64),
        compact_positions=compact,
    )


KEPT = [[0, 2, 9], [4], [1, 8]]


def test_compact_positions_have_no_gaps() -> None:
    positions = join_positions(PROMPT, visual(KEPT, [10] * 3, compact=True))
    assert positions.dtype == np.int64
    assert positions.tolist() == list(range(10))


def test_original_positions_are_those_of_the_unpruned_sequence() -> None:
    positions = join_positions(PROMPT, visual(KEPT, [10] * 3, compact=False))
    first, second, third = [3, 5, 12], [14 + 4], [24 + 1, 24 + 8]
    assert positions.tolist() == [0, 1, 2, *first, 13, *second, *third]


def test_frames_may_differ_in_length() -> None:
    positions = join_positions(PROMPT, visual(KEPT, [10, 7, 20], compact=False))
    first, second, third = [3, 5, 12], [14 + 4], [21 + 1, 21 + 8]
    assert positions.tolist() == [0, 1, 2, *first, 13, *second, *third]


def test_what_is_left_out_leaves_its_place_before_a_timestamp() -> None:
    whole = visual(KEPT, [10, 7, 20], compact=False)
    cut = replace(whole, gaps=np.array([30, 0, 5]), num_timestamp_tokens=np.array([1, 1, 0]))
    positions = join_positions(PROMPT, cut)
    first, second, third = [33, 35, 42], [44 + 4], [56 + 1, 56 + 8]
    assert positions.tolist() == [0, 1, 32, *first, 43, *second, *third]
    assert cut.unpruned_length == 10 + 7 + 20 + 35
    with pytest.raises(ValueError, match=r"for each frame: \[3, 3, 3, 2, 3\]"):
        replace(whole, gaps=np.array([0, 0]))


def test_positions_agree_where_nothing_is_pruned() -> None:
    kept, lengths = [list(range(10)), list(range(4)), [0]], [10, 4, 1]
    compact = join_positions(PROMPT, visual(kept, lengths, compact=True))
    original = join_positions(PROMPT, visual(kept, lengths, compact=False))
    assert compact.tolist() == original.tolist() == list(range(19))


@pytest.mark.parametrize(
    ("segments", "counts", "expected"),
    [
        (((1, 2), (3,)), [1, 2], "..#.##"),
        (((1, 2), (3,), (4, 5)), [1, 2], "..#.##.."),
        (((), (), ()), [2, 0], "##"),
    ],
)
def test_visual_tokens_follow_their_segment(
    segments: tuple[tuple[int, ...], ...], counts: list[int], expected: str
) -> None:
    mask = visual_mask(segments, np.array(counts))
    assert "".join(".#"[place] for place in mask.tolist()) == expected
