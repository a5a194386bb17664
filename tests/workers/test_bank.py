from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from pruner import Candidates, FrameLayout, choose, prefix_sizes, stand_ins, water_fill
from pruner.coverage import cover
from tests.pruner.test_standing import slow_sizes
from workers.arrays import pack, unpack
from workers.bank import TokenBank
from workers.errors import InputError
from workers.frames import RankedFrames
from workers.visual import Allocation, KeptFrame, VisualSequence

LAYOUT = FrameLayout(num_base=16, rows=3, columns=5)
SMALL = FrameLayout(num_base=16, rows=0, columns=0)
NUM_TOKENS = LAYOUT.num_tokens


def make_ranked(
    frame_indices: Sequence[int],
    *,
    count: int = NUM_TOKENS,
    layout: FrameLayout = LAYOUT,
    dtype: torch.dtype = torch.float32,
    clip_id: str = "clip",
) -> RankedFrames:
    """Every feature spells (frame, flat index, 1); each frame has an order of its own."""
    orders = [
        np.random.default_rng(frame).permutation(layout.num_tokens)[:count]
        for frame in frame_indices
    ]
    tokens = np.array(
        [
            (frame, flat, 1)
            for frame, order in zip(frame_indices, orders, strict=True)
            for flat in order
        ]
    )
    return RankedFrames(
        clip_id=clip_id,
        frame_indices=np.array(frame_indices, np.int64),
        pts_seconds=np.array(frame_indices) * 0.5,
        layouts=(layout,) * len(frame_indices),
        counts=np.array([len(order) for order in orders], np.int64),
        order=np.concatenate(orders).astype(np.int64),
        features=pack(torch.from_numpy(tokens).to(dtype)),
        dtype=str(dtype).removeprefix("torch."),
        informativeness=np.array([(frame, 2.0 * frame) for frame in frame_indices], np.float64),
    )


def allocate(
    ranked: Sequence[RankedFrames], budget: int, **options: object
) -> tuple[VisualSequence, tuple[KeptFrame, ...]]:
    settings: dict[str, object] = {"method": "mr_pruner", "novelty": False, **options}
    return TokenBank(ranked).allocate(Allocation(budget=budget, **settings))


def shares(frames: Sequence[KeptFrame]) -> list[int]:
    return [frame.num_visual_tokens for frame in frames]


@pytest.mark.parametrize("budget", [5, 6, 23, 64, 5 * NUM_TOKENS - 1, 5 * NUM_TOKENS, 10_000])
@pytest.mark.parametrize("novelty", [True, False])
def test_the_budget_is_used_exactly(budget: int, novelty: bool) -> None:
    visual, frames = allocate(
        [make_ranked([0, 1, 2]), make_ranked([3, 4])], budget, novelty=novelty
    )
    expected = min(budget, 5 * NUM_TOKENS)
    assert sum(shares(frames)) == len(visual.features) == visual.counts.sum() == expected
    assert min(shares(frames)) >= 1


def test_without_novelty_shares_are_equal_the_first_get_the_rest() -> None:
    _, frames = allocate([make_ranked(range(4))], 30)
    assert shares(frames) == [8, 8, 7, 7]


def test_informative_shares_follow_the_norms() -> None:
    _, frames = allocate([make_ranked([1, 2, 3])], 36, shares="informative")
    assert shares(frames) == [6, 12, 18]
    _, capped = allocate([make_ranked([1000, 1, 2], count=20)], 30, shares="informative")
    assert [frame.frame_index for frame in capped] == [1, 2, 1000]
    assert shares(capped) == [3, 7, 20]


def test_shares_never_exceed_the_tokens_held() -> None:
    _, frames = allocate([make_ranked([0, 1], count=7), make_ranked([2])], 30)
    assert shares(frames) == [7, 7, 16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_feature_stands_beside_its_own_index(dtype: torch.dtype) -> None:
    ranked = [make_ranked([4, 5], dtype=dtype), make_ranked([0, 1, 2, 3], dtype=dtype)]
    visual, frames = allocate(ranked, 77)
    assert [frame.frame_index for frame in frames] == [0, 1, 2, 3, 4, 5]
    features = unpack(visual.features, visual.dtype)
    assert features.dtype == dtype
    assert features[:, 0].tolist() == np.repeat(np.arange(6), visual.counts).tolist()
    assert features[:, 1].tolist() == visual.keep_indices.tolist()
    assert np.concatenate([f.keep_indices for f in frames]).tolist() == visual.keep_indices.tolist()
    assert all(np.diff(frame.keep_indices).min() > 0 for frame in frames)


@pytest.mark.parametrize("budget", [6, 50, 130])
def test_what_is_kept_is_a_prefix_of_the_ranking(budget: int) -> None:
    ranked = make_ranked([0, 1, 2, 3])
    _, frames = allocate([ranked], budget, novelty=True)
    for place, frame in enumerate(frames):
        ranking = ranked[place : place + 1].order
        assert frame.keep_indices.tolist() == sorted(ranking[: len(frame.keep_indices)].tolist())


def test_neither_order_nor_grouping_of_the_ranked_frames_matters() -> None:
    apart = [make_ranked([i]) for i in range(6)]
    groupings = [
        apart,
        apart[::-1],
        [apart[3], make_ranked([4, 5]), *apart[:3]],
        [make_ranked(range(6))],
    ]
    for novelty in (False, True):
        chosen = [allocate(grouping, 40, novelty=novelty) for grouping in groupings]
        assert len({visual.visual_id for visual, _ in chosen}) == 1
        kept = [[frame.keep_indices.tolist() for frame in frames] for _, frames in chosen]
        assert kept == [kept[0]] * 4


def test_the_id_tells_sequences_apart_by_what_is_in_them() -> None:
    ranked = make_ranked(range(3))
    other = replace(ranked, features=ranked.features * np.float32(2))
    ids = [
        allocate([ranked], 30)[0].visual_id,
        allocate([ranked], 31)[0].visual_id,
        allocate([other], 30)[0].visual_id,
        allocate([ranked], 30, compact_positions=False)[0].visual_id,
        allocate([ranked[0:2]], 30)[0].visual_id,
        allocate([ranked], 30, method="fastv")[0].visual_id,
        *(
            allocate([ranked], 30, question_aware=True, num_entering=90, **options)[0].visual_id
            for options in ({}, {"fastv_layer": 1}, {"reserve": 0.5})
        ),
        allocate([ranked], 31, question_aware=True, num_entering=90)[0].visual_id,
    ]
    assert len(set(ids)) == len(ids)
    assert allocate([make_ranked(range(3), clip_id="another")], 30)[0].visual_id == ids[0]


@pytest.mark.parametrize("shares", ["equal", "informative"])
def test_what_a_question_chooses_among_comes_in_the_order_of_the_shares(shares: str) -> None:
    ranked = [make_ranked([1, 2, 3]), make_ranked([4], count=5)]
    visual, frames = allocate(
        ranked, 30, shares=shares, question_aware=True, num_entering=90, reserve=0.3
    )
    assert visual.priority is not None
    assert len(visual.features) == sum(len(frame.keep_indices) for frame in frames) == 90
    assert (visual.prune_layer, visual.num_keep, visual.reserve) == (2, 30, 0.3)
    by_frame = np.split(visual.priority, np.cumsum(visual.counts)[:-1])
    weights = [frame.frame_index if shares == "informative" else 1 for frame in frames]
    num_given = [0] * 4
    order = [make_ranked([frame.frame_index]).order for frame in frames]
    for place in range(90):
        waiting = [i for i in range(4) if num_given[i] < visual.counts[i]]
        frame = min(waiting, key=lambda i: ((num_given[i] + 1) / weights[i], i))
        token = int(order[frame][num_given[frame]])
        assert by_frame[frame][frames[frame].keep_indices.tolist().index(token)] == place
        num_given[frame] += 1


def test_a_question_chooses_only_where_more_enters_than_is_kept() -> None:
    ranked = [make_ranked(range(3), count=10)]
    plain = [allocate(ranked, budget)[0] for budget in (30, 1000)]
    aware = [
        allocate(ranked, budget, question_aware=True, num_entering=4 * budget, reserve=0.5)[0]
        for budget in (30, 1000)
    ]
    assert [each.visual_id for each in aware] == [each.visual_id for each in plain]
    fewer, _ = allocate(ranked, 29, question_aware=True, num_entering=116)
    assert (fewer.prune_layer, fewer.num_keep, len(fewer.features)) == (2, 29, 30)


def test_timestamps_are_paid_before_a_question_chooses() -> None:
    visual, frames = allocate(
        [make_ranked(range(3))], 30, question_aware=True, num_entering=60,
        num_timestamp_tokens=(4, 4, 5),
    )  # fmt: skip
    assert (visual.num_keep, len(visual.features)) == (17, 47)
    assert sum(shares(frames)) == 60


def test_frames_of_several_sizes_keep_their_layouts() -> None:
    ranked = [make_ranked([0]), make_ranked([1], layout=SMALL), make_ranked([2])]
    visual, frames = allocate(ranked, 60)
    assert visual.frame_lengths.tolist() == [34, 16, 34]
    assert [frame.layout for frame in frames] == [LAYOUT, SMALL, LAYOUT]
    assert shares(frames) == [22, 16, 22]


@pytest.mark.parametrize("method", ["tome", "evs", "vidcom2", "vcast", "floc", "flashvid"])
def test_methods_that_compare_places_refuse_frames_of_several_sizes(method: str) -> None:
    ranked = [make_ranked([0]), make_ranked([1], layout=SMALL)]
    with pytest.raises(InputError, match=f"^--pruner {method} compares frames place by place"):
        allocate(ranked, 30, method=method)


def test_a_frame_that_repeats_others_gets_less() -> None:
    first = make_ranked([0])
    second, third = (replace(first, frame_indices=np.array([index])) for index in (1, 2))
    repeated = [first, second, replace(third, features=-third.features)]
    _, plain = allocate(repeated, 45)
    _, novel = allocate(repeated, 45, novelty=True)
    assert shares(plain) == [15, 15, 15]
    assert [frame.novelty for frame in plain] == [1, 1, 1]
    assert [frame.novelty for frame in novel] == [1, 0, 2]
    assert shares(novel) == [15, 1, 29]


def test_novelty_looks_at_the_source_order() -> None:
    first = make_ranked([0])
    again = replace(first, frame_indices=np.array([1]))
    _, frames = allocate([again, first], 20, novelty=True)
    assert [frame.novelty for frame in frames] == [1, 0]


def test_timestamps_are_paid_from_the_budget() -> None:
    visual, frames = allocate([make_ranked(range(4))], 50, num_timestamp_tokens=(5, 5, 6, 7))
    assert sum(shares(frames)) == 50
    assert len(visual.features) == 50 - 23
    assert [frame.num_timestamp_tokens for frame in frames] == [5, 5, 6, 7]


def test_the_record_carries_what_is_known_of_a_frame() -> None:
    _, (third, seventh) = allocate([make_ranked([7, 3])], 20)
    assert (third.frame_index, third.pts_seconds, third.layout) == (3, 1.5, LAYOUT)
    assert (third.base_informativeness, third.grid_informativeness) == (3, 6)
    assert (seventh.frame_index, seventh.pts_seconds) == (7, 3.5)


def test_ranked_frames_are_read_only() -> None:
    ranked = make_ranked([0, 1])
    for array in (ranked.features, ranked.order, ranked.informativeness):
        array.flags.writeable = False
    visual, _ = allocate([ranked], 20)
    visual.features[:] = 0
    assert ranked.features[:, 1].tolist() == ranked.order.tolist()


def test_a_budget_that_does_not_pay_for_every_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="the budget does not cover the floors: budget = 2"):
        allocate([make_ranked([0, 1, 2])], 5, num_timestamp_tokens=(1, 1, 1))


@pytest.mark.parametrize(
    "ranked",
    [
        [],
        [make_ranked([0]), make_ranked([1], clip_id="another")],
        [make_ranked([0, 1]), make_ranked([1])],
    ],
    ids=["empty", "two clips", "a frame twice"],
)
def test_a_bank_holds_each_frame_of_one_clip_once(ranked: list[RankedFrames]) -> None:
    with pytest.raises(ValueError, match="a bank holds each frame of one clip once"):
        TokenBank(ranked)


def test_messages_are_sliced_without_copies() -> None:
    ranked = make_ranked([4, 5, 6], count=9)
    found = np.arange(3 * NUM_TOKENS, dtype=np.int32)
    third = replace(ranked, stand_ins=found)[2:]
    assert third.stand_ins is not None
    assert third.stand_ins.tolist() == found[2 * NUM_TOKENS :].tolist()
    assert np.shares_memory(third.stand_ins, found)
    part = ranked[1:3]
    assert part.frame_indices.tolist() == [5, 6]
    assert part.features.base is not None
    assert np.shares_memory(part.features, ranked.features)
    picked = ranked[np.array([2, 0])]
    assert picked.frame_indices.tolist() == [6, 4]
    assert picked.features[:, 0].tolist() == [6] * 9 + [4] * 9
    assert len(ranked[3:]) == 0
    assert len(ranked[3:].features) == 0


@pytest.mark.parametrize("most", [1, 7, 20])
@pytest.mark.parametrize("settings", [{}, {"novelty": True}, {"shares": "informative"}])
def test_what_is_held_for_larger_budgets_changes_nothing(
    most: int, settings: dict[str, object]
) -> None:
    frames = range(6)
    plain, expected = allocate([make_ranked(frames, count=most)], 80, **settings)
    visual, kept = allocate([make_ranked(frames)], 80, max_keep=most, **settings)
    assert visual.visual_id == plain.visual_id
    assert [each.novelty for each in kept] == [each.novelty for each in expected]
    assert max(shares(kept)) <= most


def test_weights_of_frames_multiply_what_they_weigh_otherwise() -> None:
    weights = (0.25, 1.0, 0.5, 2.0)
    _, even = allocate([make_ranked(range(1, 5))], 60, weights=weights)
    assert shares(even) == [4, 16, 8, 32]
    _, norms = allocate([make_ranked(range(1, 5))], 54, weights=weights, shares="informative")
    assert (
        shares(norms)
        == water_fill(
            [0.25 * 3, 1.0 * 6, 0.5 * 9, 2.0 * 12], 54, floors=[1] * 4, caps=[NUM_TOKENS] * 4
        ).tolist()
    )


def test_coverage_keeps_what_covers_all_candidates() -> None:
    ranked = [make_ranked([4, 5]), make_ranked([0, 1, 2, 3], count=9)]
    frames = [ranked[1][row : row + 1] for row in range(4)] + [ranked[0][:1], ranked[0][1:]]
    candidates = Candidates(
        features=torch.cat([unpack(each.features, each.dtype) for each in frames]),
        order=torch.from_numpy(np.concatenate([each.order for each in frames])),
        counts=[len(each.order) for each in frames],
        frame_indices=range(6),
        layouts=[LAYOUT] * 6,
    )
    owners = np.repeat(np.arange(6), candidates.counts)
    for budget in (1, 17, 60):
        places = cover(candidates, budget).numpy()
        visual, kept = allocate(ranked, budget, method="coverage")
        assert [each.frame_index for each in kept] == list(range(6))
        shown = [number for number, each in enumerate(kept) if len(each.keep_indices)]
        for number, each in enumerate(kept):
            chosen = places[owners[places] == number]
            assert each.keep_indices.tolist() == sorted(candidates.order[chosen].tolist())
        assert visual.counts.sum() == budget
        features = unpack(visual.features, visual.dtype)
        assert features[:, 0].tolist() == np.repeat(shown, visual.counts).tolist()
        assert features[:, 1].tolist() == visual.keep_indices.tolist()


def test_coverage_gives_a_frame_that_adds_nothing_no_token() -> None:
    first = make_ranked([0])
    again = replace(first, frame_indices=np.array([1]))
    visual, (one, other) = allocate([again, first], 2, method="coverage")
    assert visual.counts.tolist() == [2]
    assert (one.num_visual_tokens, other.num_visual_tokens) == (2, 0)
    visual, _ = allocate([again, first], 10_000, method="coverage")
    assert visual.counts.tolist() == [NUM_TOKENS, NUM_TOKENS]
    assert visual.keep_indices.tolist() == [*range(NUM_TOKENS)] * 2


def test_coverage_depends_on_neither_order_nor_grouping_nor_what_else_is_held() -> None:
    apart = [make_ranked([i], layout=SMALL if i == 2 else LAYOUT) for i in range(6)]
    arrivals = [apart, apart[::-1], [*apart[3:], *apart[:3]]]
    chosen = [allocate(each, 40, method="coverage", max_keep=12)[0] for each in arrivals]
    cut = [make_ranked([i], layout=SMALL if i == 2 else LAYOUT, count=12) for i in range(6)]
    chosen.append(allocate(cut, 40, method="coverage")[0])
    assert len({visual.visual_id for visual in chosen}) == 1


def found_out(ranked: RankedFrames) -> RankedFrames:
    """Whole frames of one layout, with the tokens that stand for each of theirs."""
    features = unpack(ranked.features, ranked.dtype).split(ranked.counts.tolist())
    return replace(ranked, stand_ins=np.concatenate([stand_ins(f).numpy() for f in features]))


PROPORTIONAL: dict[str, object] = {"proportional": True, "novelty": True}


@pytest.mark.parametrize("method", ["mr_pruner", "coverage"])
def test_kept_tokens_stand_for_all_of_the_clip(method: str) -> None:
    ranked = found_out(make_ranked(range(5)))  # all features point much the same way
    for most in (7, 20, NUM_TOKENS):
        visual, _ = allocate([ranked], 30, method=method, max_keep=most, **PROPORTIONAL)
        assert visual.sizes is not None
        assert len(visual.sizes) == len(visual.features) == 30
        assert visual.sizes.sum() == 5 * NUM_TOKENS
    assert allocate([ranked], 30, method=method)[0].sizes is None


def test_sizes_stand_beside_the_tokens_that_they_are_of() -> None:
    ranked = found_out(make_ranked([0, 1, 20]))
    visual, _ = allocate([ranked], 10, max_keep=9, proportional=True)
    found = []
    for number, frame in enumerate((ranked[:1], ranked[1:2], ranked[2:])):
        assert frame.stand_ins is not None
        held = prefix_sizes(torch.from_numpy(frame.stand_ins), 9).tolist()
        found += [(number, flat, held[rank]) for rank, flat in enumerate(frame.order[:9].tolist())]
    found.sort()  # in the order of the clip
    shown = np.repeat([0, 1, 2], visual.counts).tolist()
    pairs = set(zip(shown, visual.keep_indices.tolist(), strict=True))
    kept = [place for place, each in enumerate(found) if each[:2] in pairs]
    features = torch.tensor([(20 if n == 2 else n, flat, 1.0) for n, flat, _ in found])
    times = torch.tensor([20 if n == 2 else n for n, _, _ in found])
    expected = slow_sizes(features, times, kept, [size for *_, size in found])
    assert visual.sizes is not None
    assert visual.sizes.tolist() == expected


def test_sizes_depend_on_neither_order_nor_grouping_nor_what_else_is_held() -> None:
    whole = found_out(make_ranked(range(6)))
    apart = [whole[row : row + 1] for row in range(6)]
    cut = [each.shortened(12) for each in apart]
    arrivals = [[whole], apart, apart[::-1], [*apart[3:], *apart[:3]], cut]
    for method in ("mr_pruner", "coverage"):
        settings = {"method": method, "max_keep": 12, **PROPORTIONAL}
        chosen = [allocate(each, 40, **settings)[0] for each in arrivals]
        assert len({visual.visual_id for visual in chosen}) == 1
        assert chosen[0].visual_id != allocate([whole], 40, method=method, max_keep=12)[0].visual_id


def test_tokens_that_enter_a_model_which_prunes_have_sizes_too() -> None:
    ranked = [make_ranked(range(4))]
    entering = {"num_entering": 40, "question_aware": True, "max_keep": 12, **PROPORTIONAL}
    visual, _ = allocate(ranked, 20, **entering)
    assert visual.sizes is not None
    assert len(visual.sizes) == 40 > visual.num_keep
    visual, _ = allocate(ranked, 20, method="fastv", **PROPORTIONAL)
    assert visual.sizes is not None
    assert visual.sizes.tolist() == [1] * 4 * NUM_TOKENS


STAMPS = (5, 5, 6, 7, 6, 5, 6, 6)


def still_and_moving() -> list[RankedFrames]:
    """Eight whole frames, of which the second to fifth are like the first."""
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(NUM_TOKENS, 3, generator=generator) for _ in range(4)]
    return [
        replace(
            make_ranked([number]),
            order=np.arange(NUM_TOKENS),
            features=pack(tokens[max(0, number - 4)]),
        )
        for number in range(8)
    ]


@pytest.mark.parametrize("method", ["coverage", "evs", "floc"])
@pytest.mark.parametrize("budget", [56, 75, 130, 8 * NUM_TOKENS + 46])
def test_frames_that_keep_nothing_are_neither_shown_nor_paid_for(method: str, budget: int) -> None:
    ranked = still_and_moving()
    visual, frames = allocate(ranked, budget, method=method, num_timestamp_tokens=STAMPS)
    assert [frame.frame_index for frame in frames] == list(range(8))
    shown = [frame for frame in frames if len(frame.keep_indices)]
    assert len(visual) == len(shown)
    assert visual.counts.tolist() == [len(frame.keep_indices) for frame in shown]
    assert visual.frame_lengths.tolist() == [NUM_TOKENS] * len(shown)
    assert visual.num_timestamp_tokens.tolist() == [STAMPS[frame.frame_index] for frame in shown]
    assert [frame.num_visual_tokens for frame in frames if frame not in shown] == [0] * (
        8 - len(shown)
    )
    held = sum(len(each.order) for each in ranked)
    spent = sum(shares(frames))
    assert spent == len(visual.features) + visual.num_timestamp_tokens.sum() <= budget
    assert spent > budget - 1 - max(STAMPS) or len(visual.features) == held
    by_number = [unpack(ranked[frame.frame_index].features, "float32") for frame in shown]
    expected = [own[f.keep_indices] for own, f in zip(by_number, shown, strict=True)]
    assert torch.equal(unpack(visual.features, visual.dtype), torch.cat(expected))


def test_a_method_of_the_clip_keeps_the_most_that_fits_beside_the_timestamps_shown() -> None:
    ranked, left_out = still_and_moving(), []
    for budget in (56, 75, 100, 310):
        visual, _ = allocate(ranked, budget, method="evs", num_timestamp_tokens=STAMPS)
        plain = [allocate(ranked, len(visual.features) + n, method="evs") for n in (0, 1)]
        assert plain[0][0].keep_indices.tolist() == visual.keep_indices.tolist()
        paid = [
            sum(STAMPS[f.frame_index] for f in kept if len(f.keep_indices)) for _, kept in plain
        ]
        assert len(visual.features) + paid[0] <= budget < len(visual.features) + 1 + paid[1]
        left_out.append(8 - len(visual))
    assert min(left_out) == 0
    assert max(left_out) > 3


def test_a_method_of_the_clip_chooses_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def counted(
        name: str, base: torch.Tensor, grid: torch.Tensor, newline: torch.Tensor, own: Sequence[int]
    ) -> object:
        tried.append(len(base))
        return choose(name, base, grid, newline, own)

    monkeypatch.setattr("workers.keeping.choose", counted)
    ranked = [
        replace(each, frame_indices=np.array([number]))
        for number, each in enumerate(still_and_moving() * 3)
    ]
    visual, _ = allocate(ranked, 200, method="evs", num_timestamp_tokens=(5,) * 24)
    assert len(visual) < 24
    assert tried == [24] * len(tried)
    assert len(tried) <= 4  # halving what is between takes eight


def test_a_timestamp_may_cost_more_where_its_frame_is_the_first() -> None:
    dear = tuple(2 * stamp for stamp in STAMPS)
    longer = {
        "num_timestamp_tokens": (60, *STAMPS[1:]),
        "num_first_timestamp_tokens": (60, *dear[1:]),
    }
    for budget in (20, 40, 60):
        _, frames = allocate([make_ranked(range(8))], budget, method="coverage", **longer)
        shown = [frame for frame in frames if len(frame.keep_indices)]
        start = shown[0].frame_index
        assert start > 0
        paid = [frame.num_timestamp_tokens for frame in shown]
        assert paid == [dear[start], *(STAMPS[frame.frame_index] for frame in shown[1:])]
        assert sum(shares(frames)) <= budget


def test_a_budget_that_pays_for_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="pays for no token and its timestamp: budget = 5"):
        allocate([make_ranked([0, 1])], 5, method="coverage", num_timestamp_tokens=(5, 6))


def test_gaps_are_part_of_the_sequence_and_compact_positions_have_none() -> None:
    ids = set()
    for compact, separator in ((False, 1), (False, 2), (True, 1)):
        visual, frames = allocate(
            still_and_moving(),
            64,
            method="evs",
            num_timestamp_tokens=STAMPS,
            num_separator_tokens=separator,
            compact_positions=compact,
        )
        ids.add(visual.visual_id)
        shown = [frame.frame_index for frame in frames if len(frame.keep_indices)]
        gone = [set(range(a + 1, b)) for a, b in pairwise([-1, *shown])]
        gaps = [sum(NUM_TOKENS + STAMPS[i] + separator for i in each) for each in gone]
        assert visual.gaps.tolist() == [0 if compact else gap for gap in gaps]
        assert [frame.gap for frame in frames if len(frame.keep_indices)] == visual.gaps.tolist()
        assert max(gaps) > 0
    assert len(ids) == 3
