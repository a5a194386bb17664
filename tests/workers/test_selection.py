from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from workers.arrays import pack
from workers.llm.sequence import VisualSequence
from workers.messages import BudgetOptions, Candidates, FrameSelection
from workers.selection import select

NUM_BASE, ROWS, COLUMNS = 16, 3, 5
NUM_TOKENS = NUM_BASE + ROWS * (COLUMNS + 1)


def make_candidates(
    frame_indices: Sequence[int],
    *,
    count: int = NUM_TOKENS,
    informativeness: Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Candidates:
    """Every feature spells (frame, flat index, 1); each frame has an order of its own."""
    orders = [
        np.random.default_rng(frame).permutation(NUM_TOKENS)[:count] for frame in frame_indices
    ]
    tokens = np.array(
        [
            (frame, flat, 1)
            for frame, order in zip(frame_indices, orders, strict=True)
            for flat in order
        ]
    )
    weights = informativeness or [1.0] * len(frame_indices)
    return Candidates(
        frame_indices=np.array(frame_indices, np.int64),
        pts_seconds=np.array(frame_indices) * 0.5,
        counts=np.full(len(frame_indices), count, np.int64),
        order=np.concatenate(orders).astype(np.int64),
        features=pack(torch.from_numpy(tokens).to(dtype)),
        dtype=str(dtype).removeprefix("torch."),
        informativeness=np.array([(0.25 * weight, 0.75 * weight) for weight in weights]),
        num_base=NUM_BASE,
        rows=ROWS,
        columns=COLUMNS,
        thumbnails=tuple(f"picture {frame}".encode() for frame in frame_indices),
    )


def select_plain(
    candidates: Sequence[Candidates], budget: int, *, novelty: bool = False
) -> tuple[VisualSequence, tuple[FrameSelection, ...]]:
    num_frames = sum(len(each.frame_indices) for each in candidates)
    options = BudgetOptions(budget=budget, novelty=novelty, shares="informative")
    return select(candidates, options, [0] * num_frames)


def shares(selections: Sequence[FrameSelection]) -> list[int]:
    return [selection.num_visual_tokens for selection in selections]


@pytest.mark.parametrize("budget", [5, 6, 23, 64, 5 * NUM_TOKENS - 1, 5 * NUM_TOKENS, 10_000])
def test_the_budget_is_used_exactly(budget: int) -> None:
    candidates = [make_candidates([0, 1, 2], informativeness=[1, 3, 9]), make_candidates([3, 4])]
    sequence, selections = select_plain(candidates, budget)
    expected = min(budget, 5 * NUM_TOKENS)
    assert sum(shares(selections)) == expected
    assert sum(map(len, sequence.features)) == expected
    assert min(shares(selections)) >= 1


def test_equal_shares_look_at_no_feature() -> None:
    candidates = [make_candidates([0, 1, 2], informativeness=[1, 3, 9]), make_candidates([3, 4])]
    _, selections = select(candidates, BudgetOptions(budget=52), [0] * 5)
    assert shares(selections) == [11, 11, 10, 10, 10]


def test_shares_never_exceed_the_candidates() -> None:
    candidates = [make_candidates([0, 1], count=7, informativeness=[100, 1]), make_candidates([2])]
    _, selections = select_plain(candidates, 30)
    assert shares(selections)[:2] == [7, 7]
    assert sum(shares(selections)) == 30


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_feature_stands_beside_its_own_index(dtype: torch.dtype) -> None:
    candidates = [make_candidates([4, 5], dtype=dtype), make_candidates([0, 1, 2, 3], dtype=dtype)]
    sequence, selections = select_plain(candidates, 77)
    assert [selection.frame_index for selection in selections] == [0, 1, 2, 3, 4, 5]
    for frame, features in enumerate(sequence.features):
        indices = sequence.keep_indices[frame]
        assert features.dtype == dtype
        assert features[:, 0].tolist() == [frame] * len(features)
        assert features[:, 1].tolist() == indices.tolist()
        assert indices.tolist() == selections[frame].keep_indices.tolist()
        assert indices.diff().min() > 0
        assert indices.dtype == torch.int64


@pytest.mark.parametrize("budget", [6, 50, 130])
def test_what_is_kept_is_a_prefix_of_the_ranking(budget: int) -> None:
    candidates = make_candidates([0, 1, 2, 3], informativeness=[1, 2, 3, 4])
    _, selections = select_plain([candidates], budget)
    for frame, selection in enumerate(selections):
        ranking = candidates.order[frame * NUM_TOKENS : (frame + 1) * NUM_TOKENS]
        best = sorted(ranking[: len(selection.keep_indices)].tolist())
        assert selection.keep_indices.tolist() == best


def test_neither_order_nor_grouping_of_the_candidates_matters() -> None:
    weights = [5.0, 1, 3, 2, 8, 1]
    apart = [make_candidates([i], informativeness=[weights[i]]) for i in range(6)]
    groupings = [
        apart,
        apart[::-1],
        [apart[3], make_candidates([4, 5], informativeness=weights[4:]), *apart[:3]],
        [make_candidates(range(6), informativeness=weights)],
    ]
    for novelty in (False, True):
        chosen = [select_plain(grouping, 40, novelty=novelty) for grouping in groupings]
        kept = [[s.keep_indices.tolist() for s in selections] for _, selections in chosen]
        assert kept == [kept[0]] * 4
        texts = [[features.tolist() for features in sequence.features] for sequence, _ in chosen]
        assert texts == [texts[0]] * 4


def test_equal_frames_get_equal_shares_the_first_the_rest() -> None:
    _, selections = select_plain([make_candidates(range(4))], 30)
    assert shares(selections) == [8, 8, 7, 7]


def test_shares_follow_the_informativeness() -> None:
    _, selections = select_plain([make_candidates(range(3), informativeness=[1, 2, 3])], 36)
    assert shares(selections) == [6, 12, 18]


def test_an_informative_frame_is_capped_and_the_others_share_the_rest() -> None:
    candidates = make_candidates(range(3), count=20, informativeness=[1000, 1, 1])
    _, selections = select_plain([candidates], 30)
    assert shares(selections) == [20, 5, 5]


def test_a_frame_that_repeats_others_gets_less() -> None:
    first = make_candidates([0])
    second, third = (replace(first, frame_indices=np.array([index])) for index in (1, 2))
    repeated = [first, second, replace(third, features=-third.features)]
    _, plain = select_plain(repeated, 45)
    _, novel = select_plain(repeated, 45, novelty=True)
    assert shares(plain) == [15, 15, 15]
    assert [selection.novelty for selection in plain] == [1, 1, 1]
    assert [selection.novelty for selection in novel] == [1, 0, 2]
    assert shares(novel) == [15, 1, 29]


def test_novelty_looks_at_the_source_order() -> None:
    first = make_candidates([0])
    again = replace(first, frame_indices=np.array([1]))
    _, selections = select_plain([again, first], 20, novelty=True)
    assert [selection.novelty for selection in selections] == [1, 0]


def test_time_marks_are_paid_from_the_budget() -> None:
    options = BudgetOptions(budget=50, time_marks=True)
    sequence, selections = select([make_candidates(range(4))], options, [5, 5, 6, 7])
    assert sum(shares(selections)) == 50
    assert sum(map(len, sequence.features)) == 50 - 23
    assert [selection.num_marker_tokens for selection in selections] == [5, 5, 6, 7]
    assert sequence.marks == ("[0.0s] ", "[0.5s] ", "[1.0s] ", "[1.5s] ")


def test_the_record_carries_what_is_known_of_a_frame() -> None:
    candidates = make_candidates([7, 3], informativeness=[4, 8])
    sequence, (third, seventh) = select_plain([candidates], 20)
    assert (third.frame_index, third.pts_seconds, third.thumbnail_jpeg) == (3, 1.5, b"picture 3")
    assert (third.base_informativeness, third.grid_informativeness) == (2, 6)
    assert (seventh.frame_index, seventh.pts_seconds) == (7, 3.5)
    assert (third.num_base, third.rows, third.columns) == (NUM_BASE, ROWS, COLUMNS)
    assert sequence.frame_length == NUM_TOKENS
    assert sequence.marks == ("", "")


def test_without_pictures_there_are_none() -> None:
    candidates = replace(make_candidates([0, 1]), thumbnails=())
    _, selections = select_plain([candidates], 20)
    assert [selection.thumbnail_jpeg for selection in selections] == [b"", b""]


def test_candidates_are_read_only() -> None:
    candidates = make_candidates([0, 1])
    for array in (candidates.features, candidates.order, candidates.informativeness):
        array.flags.writeable = False
    sequence, _ = select_plain([candidates], 20)
    sequence.features[0].zero_()
    assert candidates.features[:, 1].tolist() == candidates.order.tolist()


def test_a_budget_that_does_not_pay_for_every_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="the budget does not cover the floors: budget = 2"):
        select([make_candidates([0, 1, 2])], BudgetOptions(budget=5), [1, 1, 1])
