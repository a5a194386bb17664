import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pruner import METHODS, FrameLayout, Settings
from streaming.budget import count_first_timestamps
from streaming.clip_plan import ClipPlan
from streaming.flags import change
from streaming.options import Options
from streaming.plan import Variant, plan_clip, plan_clips
from streaming.sample import Checkpoint, SampledClip, sample_clip, sample_source
from tests.clips import draw_clip, paint_frame
from workers.checkpoint import locate
from workers.errors import ContextError, InputError, ModelError, VideoOpenError
from workers.frames import Pruning
from workers.llm.chat_template import ChatTemplate
from workers.llm.choices import Choice
from workers.llm.prompt import Prompt
from workers.video.images import open_images
from workers.video.source import open_source
from workers.video.video_index import VideoIndex
from workers.vision.geometry import TileGeometry
from workers.visual import KeptFrame

TILES = TileGeometry(tile_size=56, patch_size=14, pinpoints=((56, 112), (112, 56), (112, 112)))
LENGTH = 16 + 4 * (8 + 1)
TEXT, ANSWER, CONTEXT = 40, 128, 8192
OPENING, ENDING = 20, 17
QUESTIONS = ["Why?", "Who is it?", "Where?"]


class Words:
    """Stands in for the chat template: a timestamp takes ``mark`` tokens, one more after 10 s."""

    def __init__(self, *, context: int = CONTEXT, separator: int = 1, mark: int = 5) -> None:
        self.context_length = context
        self._separator, self._mark = separator, mark
        self.asked: list[tuple[str, Sequence[str]]] = []

    def build(
        self, question: str, timestamps: Sequence[str], choices: Sequence[str] = ()
    ) -> Prompt:
        """Return a prompt in which every word of a question or a choice is a token."""
        self.asked.append((question, timestamps))
        lengths = [
            OPENING * (i == 0) + self._separator + self.cost(stamp)
            for i, stamp in enumerate(timestamps)
        ]
        return Prompt(
            frame_segments=tuple((1,) * length for length in lengths),
            question=(2,) * (ENDING + len(" ".join([question, *choices]).split())),
            choices=tuple(
                Choice(text=text, token_ids=(3,) * len(text.split())) for text in choices
            ),
        )

    def cost(self, stamp: str) -> int:
        return self._mark + (float(stamp[1:-3]) >= 10) if stamp else 0


def make_sampled(
    num_frames: int, words: Words | None = None, *, height: int = 96, width: int = 160
) -> SampledClip:
    """Every second of 2 n pictures; a frame has LENGTH tokens."""
    index = VideoIndex(
        path="clip.mp4",
        codec="h264",
        width=width,
        height=height,
        rotation_degrees=0,
        time_base_seconds=0.001,
        pts=np.arange(2 * num_frames) * 40,
        seekable=True,
        keyframe_pts=np.arange(0, 2 * num_frames, 12) * 40,
    )
    return SampledClip(
        source=index,
        frame_indices=np.arange(1, 2 * num_frames, 2),
        lengths=np.full(num_frames, TILES.frame(height, width).layout.num_tokens),
        checkpoint=Checkpoint(
            geometry=TILES, template=cast(ChatTemplate, words or Words()), num_layers=6
        ),
        tiles=TILES,
    )


def changed(**options: Any) -> Options:
    return change(Options(), options, source="the test")


def plan(num_frames: int, words: Words | None = None, **options: Any) -> ClipPlan:
    return plan_clip(make_sampled(num_frames, words), changed(**options), QUESTIONS)


def pruning_of(planned: ClipPlan) -> Pruning:
    return planned.clip.prunings[planned.pruning]


def keeps(planned: ClipPlan) -> tuple[int, int]:
    pruning = pruning_of(planned)
    return pruning.num_keep, pruning.max_keep


def planned_pts(planned: ClipPlan) -> list[int]:
    return [int(pts) for segment in planned.clip.segments for pts in segment.pts]


def kept_frames(planned: ClipPlan, num_kept: int) -> list[KeptFrame]:
    """Return frames of LENGTH tokens that keep so many of them each."""
    return [
        KeptFrame(
            frame_index=number,
            pts_seconds=pts / 1000,
            layout=FrameLayout(num_base=16, rows=4, columns=8),
            keep_indices=np.arange(num_kept),
            num_timestamp_tokens=0,
            base_informativeness=1.0,
            grid_informativeness=1.0,
            novelty=1.0,
        )
        for number, pts in enumerate(planned_pts(planned))
    ]


def test_a_frame_has_the_length_used_here() -> None:
    assert make_sampled(1).lengths.tolist() == [LENGTH]


def test_the_default_budget_is_4096() -> None:
    planned = plan(100)
    assert (planned.budget, planned.clip.num_frames) == (4096, 100)
    assert planned.num_unpruned_tokens == 100 * LENGTH
    assert keeps(planned) == (40, LENGTH)
    assert planned_pts(planned) == list(range(40, 8000, 80))


def test_the_default_budget_is_what_the_context_leaves() -> None:
    assert plan(10, Words(context=1000)).budget == 1000 - TEXT - ANSWER - 10
    assert plan(10, Words(context=1000), max_new_tokens=8).budget == 1000 - TEXT - 8 - 10


def test_choices_are_counted_as_they_are_asked_and_said() -> None:
    choices = ["one", "two words", "and three words " * 50]
    sampled = make_sampled(10, Words(context=1000))
    free = plan_clip(sampled, changed(), QUESTIONS)
    planned = plan_clip(sampled, changed(), QUESTIONS, choices=choices)
    assert free.budget - planned.budget == 153 + 150 - ANSWER
    prompt = planned.prompt(QUESTIONS[1], kept_frames(planned, planned.budget // 10), choices)
    assert prompt.num_text_tokens + planned.budget + 150 == 1000
    with pytest.raises(ContextError, match=r"\+ 300 of the answer make"):
        planned.prompt("Why?", kept_frames(planned, 30), ["one", "six words " * 150])


def test_a_budget_that_leaves_no_room_for_the_choices_is_an_error() -> None:
    choices = ["one", "two words", "and three words " * 50]
    sampled = make_sampled(20, Words(context=1000))
    fits = plan_clip(sampled, changed(), QUESTIONS, choices=choices).budget
    over = changed(budget=fits + 1)
    assert plan_clip(sampled, over, QUESTIONS).budget == fits + 1
    with pytest.raises(ContextError, match=rf"lower --budget to {fits} visual tokens"):
        plan_clip(sampled, over, QUESTIONS, choices=choices)


def test_a_full_context_leaves_room_for_fewer_frames() -> None:
    planned = plan(500, Words(context=368, mark=7), timestamps=True)
    # 200 tokens are left, and a frame needs at least one, its separator and the longest timestamp.
    assert planned.clip.num_frames == 200 // (1 + 1 + 8)
    assert planned.budget == 200 - planned.clip.num_frames


@pytest.mark.parametrize("budget", [10, 11, 100, 519, 520, 5000])
def test_a_budget_is_taken_as_it_is(budget: int) -> None:
    planned = plan(10, budget=budget)
    assert (planned.budget, planned.clip.num_frames) == (budget, 10)
    assert pruning_of(planned).num_keep == min(LENGTH, budget // 10)


@pytest.mark.parametrize(
    ("keep_ratio", "budget"), [(1.0, 520), (0.5, 260), (0.1, 52), (0.29, 150), (0.02, 10)]
)
def test_a_ratio_is_of_all_tokens(keep_ratio: float, budget: int) -> None:
    planned = plan(10, keep_ratio=keep_ratio)
    assert (planned.budget, planned.clip.num_frames) == (budget, 10)
    assert pruning_of(planned).num_keep == budget // 10


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_ratio_of_one_keeps_everything(timestamps: bool) -> None:
    planned = plan(10, keep_ratio=1.0, timestamps=timestamps)
    assert planned.budget == 10 * (LENGTH + 5 * timestamps)
    assert keeps(planned) == (LENGTH, LENGTH)


def test_a_ratio_rounds_down_but_for_the_error_of_floats() -> None:
    assert plan(25, keep_ratio=0.35).budget == 455  # 0.35 * 1300 is 454.99999999999994


def test_a_tiny_ratio_still_keeps_one_token() -> None:
    planned = plan(10, keep_ratio=1e-6)
    assert (planned.budget, planned.clip.num_frames) == (1, 1)


def test_fewer_tokens_than_frames_are_spent_on_fewer_frames() -> None:
    planned = plan(20, budget=4)
    assert planned.clip.num_frames == 4
    assert planned_pts(planned) == [(2 * frame + 1) * 40 for frame in (2, 7, 12, 17)]
    assert planned.num_unpruned_tokens == 4 * LENGTH
    assert keeps(planned) == (1, 4)


def test_timestamps_are_paid_from_the_budget() -> None:
    planned = plan(20, budget=150, timestamps=True)
    assert planned.clip.num_frames == 20
    assert pruning_of(planned).num_keep == (150 - 20 * 5) // 20
    times = [0.04 + 0.08 * frame for frame in range(20)]
    assert planned.allocation(times).num_timestamp_tokens == (5,) * 20
    assert planned.timestamps(times)[:3] == ["[0.0s] ", "[0.1s] ", "[0.2s] "]
    prompt = planned.prompt("Why?", kept_frames(planned, 2))
    assert [len(segment) for segment in prompt.frame_segments] == [26, *[6] * 19]


def test_without_timestamps_nothing_is_paid_for_them() -> None:
    planned = plan(20, budget=150)
    assert planned.allocation([0.04, 0.12]).num_timestamp_tokens == ()
    assert planned.timestamps([0.04, 0.12]) == ["", ""]


def test_later_timestamps_may_cost_more() -> None:
    planned = plan(200, budget=1000, timestamps=True)
    times = [frame.pts_seconds for frame in kept_frames(planned, 1)]
    paid = planned.allocation(times).num_timestamp_tokens
    assert set(paid) == {5, 6}
    assert sum(paid) + planned.clip.num_frames <= 1000


def test_a_budget_that_does_not_pay_for_every_timestamp_is_spent_on_fewer_frames() -> None:
    planned = plan(20, budget=61, timestamps=True)
    assert planned.clip.num_frames == 61 // 6
    assert pruning_of(planned).num_keep == 1


def test_a_budget_below_one_frame_and_its_timestamp_is_an_error() -> None:
    assert plan(1, timestamps=True, budget=6).clip.num_frames == 1
    message = r"^--budget 5 does not pay for one frame and its timestamp of 9 tokens: raise it$"
    with pytest.raises(InputError, match=message):
        plan(1, Words(mark=9), timestamps=True, budget=5)


@pytest.mark.parametrize("context", [1, TEXT + ANSWER, TEXT + ANSWER + 1])
def test_a_question_that_fills_the_context_is_an_error(context: int) -> None:
    message = (
        f"the question takes {TEXT} tokens and the answer up to {ANSWER}, which leaves no room for "
        f"a frame in the model's context of {context}: shorten the question or lower"
    )
    with pytest.raises(ContextError, match=f"^{re.escape(message)}"):
        plan(3, Words(context=context))
    assert plan(3, Words(context=TEXT + ANSWER + 2)).clip.num_frames == 1


def test_a_long_answer_and_a_long_question_that_leave_no_room_are_named() -> None:
    with pytest.raises(ContextError, match=r"the answer up to 100000, .* lower --max-new-tokens$"):
        plan(3, max_new_tokens=100_000)
    with pytest.raises(ContextError, match=rf"takes {ENDING + OPENING + 9000} tokens and"):
        plan_clip(make_sampled(3), Options(), ["why " * 9000])


@pytest.mark.parametrize("settings", [{"budget": 9}, {"keep_ratio": 0.1}, {"pruner": "none"}])
def test_a_long_answer_does_not_fit_beside_any_budget(settings: dict[str, Any]) -> None:
    with pytest.raises(ContextError, match=r"context holds 8192: lower --max-new-tokens"):
        plan(3, max_new_tokens=100_000, **settings)


@pytest.mark.parametrize("budget", [100_000, 7825])
def test_a_budget_beyond_the_context_is_an_error_that_names_what_fits(budget: int) -> None:
    kept = min(budget, 200 * LENGTH)
    message = (
        f"20 tokens of the question and what follows it + 220 of text before it + {kept} visual + "
        f"128 of the answer make {kept + 368}, but the model's context holds {CONTEXT}: "
    )
    with pytest.raises(ContextError, match=f"^{re.escape(message)}.*lower --budget to 7824 visual"):
        plan(200, budget=budget)
    assert plan(200, budget=7824).budget == 7824


def test_timestamps_count_as_text_that_the_budget_has_paid_for() -> None:
    # Each of the first 124 costs five tokens of the budget, the others six.
    assert plan(200, budget=7824, timestamps=True).budget == 7824
    with pytest.raises(ContextError, match="make 8193, but the model's context holds 8192"):
        plan(200, budget=7825, timestamps=True)


def test_a_ratio_beyond_the_context_is_an_error_that_names_the_ratio() -> None:
    with pytest.raises(ContextError, match="lower --keep-ratio to 7824 visual tokens"):
        plan(200, keep_ratio=1.0)
    assert plan(200, keep_ratio=7824 / (200 * LENGTH)).budget == 7824


@pytest.mark.parametrize("pruner", ["none", "fastv"])
def test_what_enters_unpruned_must_fit_unpruned(pruner: str) -> None:
    settings = {"fastv": {"budget": 200}}.get(pruner, {})
    with pytest.raises(ContextError, match=r"10400 visual .* lower --num-frames to 7824 visual"):
        plan(200, pruner=pruner, **settings)
    assert plan(150, pruner=pruner, **settings).num_unpruned_tokens == 150 * LENGTH


def test_what_a_question_chooses_among_counts_as_entering() -> None:
    assert plan(100, budget=500).num_entering == 500
    aware = plan(100, budget=500, headroom=3.5, question_aware=True)
    assert (aware.budget, aware.num_entering, pruning_of(aware).max_keep) == (500, 1750, 18)
    allocation = aware.allocation([0.0] * 100)
    assert (allocation.question_aware, allocation.num_entering) == (True, 1750)
    settings = {"novelty": False, "question_aware": True}
    assert pruning_of(plan(10, budget=100, **settings)).max_keep == 40


def test_what_enters_without_gaps_is_no_more_than_the_context_holds() -> None:
    settings = {"budget": 4000, "question_aware": True}
    assert not plan(100, **settings).compact_positions
    assert plan(100, **settings).num_entering == 16_000  # of which 5,200 are there
    assert plan(200, **settings).num_entering == 7824
    marked = plan(200, **settings, timestamps=True)
    assert marked.num_entering == 7824
    assert plan(200, budget=7824, question_aware=True).num_entering == 7824
    with pytest.raises(ContextError, match="lower --budget to 7824 visual"):
        plan(200, budget=7825, question_aware=True)
    frames = kept_frames(plan(200, **settings), 39)
    assert len(plan(200, **settings).prompt("Why?", frames).frame_segments) == 200


@pytest.mark.parametrize("pruner", [name for name in METHODS if not METHODS[name].ranks])
def test_a_question_cannot_choose_where_nothing_is_ranked(pruner: str) -> None:
    with pytest.raises(InputError, match=f"--question-aware .* --pruner {pruner} ranks nothing"):
        changed(pruner=pruner, question_aware=True)


def test_a_question_cannot_choose_where_coverage_does() -> None:
    does = "--pruner coverage chooses among rankings itself: choose one of uniform, random"
    with pytest.raises(InputError, match=f"--question-aware chooses among .* {does}"):
        changed(pruner="coverage", question_aware=True)


def test_a_budget_that_few_frames_cannot_use_is_no_error() -> None:
    planned = plan(2, budget=10**7)
    assert planned.budget == 10**7
    assert keeps(planned) == (LENGTH, LENGTH)


def test_a_later_question_is_checked_like_the_first() -> None:
    planned = plan(200, budget=7824)
    frames = kept_frames(planned, 39)  # 7,800 in all
    assert len(planned.prompt("Who is it?", frames).frame_segments) == 200
    longer = "why " * 27  # three of these have been planned for, and 24 tokens were left over
    assert planned.prompt(longer, frames).num_text_tokens == 200 + OPENING + ENDING + 27
    with pytest.raises(ContextError, match=r"ask a question shorter by 1 tokens$"):
        planned.prompt(longer + "why", frames)
    with pytest.raises(ContextError, match=r"make 8817, but .* shorter by 625 tokens$"):
        planned.prompt("why " * 652, frames)


def test_a_later_question_is_checked_by_the_positions_it_would_leave() -> None:
    planned = plan(150, budget=400)
    assert not planned.compact_positions
    frames = kept_frames(planned, 2)
    room = CONTEXT - ANSWER - 150 * (LENGTH + 1) - OPENING - ENDING
    planned.prompt("why " * room, frames)
    with pytest.raises(ContextError, match=r"7800 visual .* lower --num-frames to 7799 visual"):
        planned.prompt("why " * (room + 1), frames)
    compact = plan(150, budget=400, position_ids="compact")
    compact.prompt("why " * (room + 1), frames)


def test_frames_that_keep_nothing_are_not_in_the_prompt() -> None:
    words = Words(separator=2)
    planned = plan(20, words, pruner="coverage", budget=200, timestamps=True)
    frames = kept_frames(planned, 3)
    thinned = [
        replace(frame, keep_indices=np.array([], np.int64)) if number % 4 else frame
        for number, frame in enumerate(frames)
    ]
    prompt = planned.prompt("Who is it?", thinned)
    assert words.asked[-1][1] == planned.timestamps([frame.pts_seconds for frame in frames[::4]])
    assert prompt == planned.prompt("Who is it?", frames[::4])
    assert len(prompt.frame_segments) == 5


def test_what_is_left_out_counts_where_positions_are_original() -> None:
    planned = plan(20, pruner="coverage", budget=200)
    one = replace(kept_frames(planned, 3)[0], gap=7000)
    room = CONTEXT - ANSWER - 7000 - LENGTH - 1 - OPENING - ENDING
    planned.prompt("why " * room, [one])
    with pytest.raises(ContextError, match=r"7052 visual"):
        planned.prompt("why " * (room + 1), [one])


@pytest.mark.parametrize("pruner", ["mr_pruner", "coverage", "evs"])
def test_an_allocation_knows_what_the_text_of_frames_costs(pruner: str) -> None:
    planned = plan(20, Words(separator=3), pruner=pruner, budget=200, timestamps=True)
    allocation = planned.allocation([0.0, 5.0, 10.0])
    assert allocation.num_timestamp_tokens == (5, 5, 6)
    assert allocation.num_separator_tokens == 3
    first = {"mr_pruner": ()}.get(pruner, (5, 5, 6))
    assert allocation.num_first_timestamp_tokens == first


def test_where_frames_are_left_out_candidates_are_not_fewer_for_timestamps() -> None:
    settings: dict[str, Any] = {"budget": 240, "headroom": 2.0}
    kept = [plan(20, pruner="coverage", timestamps=t, **settings).max_keep for t in (False, True)]
    assert kept == [24, 24]
    assert plan(20, pruner="mr_pruner", timestamps=True, **settings).max_keep == 14


@pytest.mark.parametrize("separator", [0, 1, 7])
def test_original_positions_must_fit_the_context(separator: int) -> None:
    words = Words(separator=separator)
    settings: dict[str, Any] = {"position_ids": "original", "budget": 400}
    message = r"numbers the unpruned sequence up to \d+, .* --num-frames to at most (\d+)$"
    with pytest.raises(ContextError, match=message) as caught:
        plan(200, words, **settings)
    fitting = int(str(caught.value).rsplit(" ", 1)[1])
    assert plan(fitting, words, **settings).clip.num_frames == fitting
    with pytest.raises(ContextError, match=f"at most {fitting}$"):
        plan(fitting + 1, words, **settings)
    assert plan(200, words, position_ids="compact", budget=400).compact_positions
    auto = [plan(n, words, budget=400).compact_positions for n in (fitting, fitting + 1)]
    assert auto == [False, True]
    assert plan(2, words, position_ids="compact").compact_positions
    assert not plan(2, words, position_ids="original").compact_positions


def test_original_positions_count_the_timestamps() -> None:
    settings: dict[str, Any] = {"position_ids": "original", "budget": 1500}
    assert plan(150, **settings).clip.num_frames == 150
    # 190 text, 150 * 52 visual and 128 answer tokens fit; 150 timestamps of 5 more do not.
    with pytest.raises(ContextError, match="numbers the unpruned sequence up to"):
        plan(150, timestamps=True, **settings)


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        ((96, 160), None, 8),
        ((96, 160), 8, 8),
        ((1080, 1920), 8, 8),
        ((1080, 1920), 64, 10),
        ((6000, 8000), 8, 1),
    ],
)
def test_chunks_are_small_in_bytes(
    size: tuple[int, int], wanted: int | None, expected: int
) -> None:
    sampled = make_sampled(20, height=size[0], width=size[1])
    planned = plan_clip(sampled, changed(frames_per_chunk=wanted, budget=99), ["Why?"])
    assert {segment.frames_per_chunk for segment in planned.clip.segments} == {expected}


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        ((96, 160), None, 16), ((96, 160), 3, 2), ((96, 160), 15, 8), ((96, 160), 100, 16),
        ((1080, 1920), None, 8), ((6000, 8000), None, 1),
    ],
)  # fmt: skip
def test_chunks_of_a_gated_clip_never_cross_a_group(
    size: tuple[int, int], wanted: int | None, expected: int
) -> None:
    sampled = make_sampled(50, height=size[0], width=size[1])
    options = changed(frames_per_chunk=wanted, budget=99, high_resolution="gated")
    segments = plan_clip(sampled, options, ["Why?"]).clip.segments
    chunks = [chunk for segment in segments for chunk in segment.chunks()]
    assert {len(chunk) for chunk in chunks[:-1]} == {expected}
    for chunk in chunks:
        assert chunk.first_frame // 16 == (chunk.first_frame + len(chunk) - 1) // 16


def test_a_chunk_is_small_also_if_the_largest_picture_filled_it() -> None:
    pictures = [np.zeros(size, np.uint8) for size in ((3000, 20, 3), (20, 4000, 3), (9, 9, 3))]
    source = open_images(pictures)
    sampled = replace(
        make_sampled(3), source=source, frame_indices=np.arange(3), lengths=np.full(3, LENGTH)
    )
    (segment,) = plan_clip(sampled, Options(), ["Why?"]).clip.segments
    assert segment.frames_per_chunk == 64 * 2**20 // (3000 * 4000 * 3)


@pytest.mark.parametrize("per_chunk", [1, 2, 8])
def test_segments_let_decoders_take_turns(per_chunk: int) -> None:
    planned = plan(50, frames_per_chunk=per_chunk, decoder="decord")
    clip = planned.clip
    assert all(len(list(segment.chunks())) <= 8 for segment in clip.segments)
    assert len(clip.segments) >= -(-50 // (8 * per_chunk))
    assert all(len(segment) >= 2 * per_chunk for segment in clip.segments)
    assert [segment.first_frame for segment in clip.segments] == [
        sum(map(len, clip.segments[:number])) for number in range(len(clip.segments))
    ]
    assert planned_pts(planned) == list(range(40, 4000, 80))
    assert {segment.decoder for segment in clip.segments} == {"decord"}
    assert {segment.clip_id for segment in clip.segments} == {clip.clip_id}
    assert sum(map(len, clip.segments)) == clip.num_frames == 50


def test_settings_of_the_pruner_are_handed_on() -> None:
    graph = {
        "pruner_similarity": 0.1,
        "pruner_cross_similarity": 0.2,
        "pruner_temperature": 0.3,
        "pruner_beta": 0.4,
    }
    options = changed(**graph, pruner_steps=7, newlines="last", novelty=False, resize="fast")
    planned = plan_clip(make_sampled(2), options, ["Why?"], thumbnail_width=448)
    pruning = pruning_of(planned)
    assert (pruning.method, pruning.newlines_last) == ("mr_pruner", True)
    assert pruning.settings == Settings(
        similarity=0.1, cross_similarity=0.2, temperature=0.3, beta=0.4, num_steps=7
    )
    assert (planned.clip.thumbnail_width, planned.clip.resize) == (448, "fast")
    assert not planned.allocation([0.0]).novelty


@pytest.mark.parametrize(("pruner", "num_steps"), [("mr_pruner", 1), ("gprune", 5)])
def test_steps_that_are_not_given_are_the_method_s(pruner: str, num_steps: int) -> None:
    assert pruning_of(plan(2, pruner=pruner)).settings.num_steps == num_steps
    assert pruning_of(plan(2, pruner=pruner, pruner_steps=0)).settings.num_steps == 0


def test_an_allocation_names_method_positions_and_layer() -> None:
    planned = plan(3, pruner="fastv", budget=99, fastv_layer=4, position_ids="compact")
    allocation = planned.allocation([0.0, 1.0, 2.0])
    assert (allocation.method, allocation.budget, allocation.fastv_layer) == ("fastv", 99, 4)
    assert allocation.compact_positions
    assert not plan(3).allocation([0.0]).compact_positions


@pytest.mark.parametrize(
    ("options", "max_keep"),
    [
        ({}, 40),
        ({"headroom": 2.0}, 20),
        ({"headroom": 1.0}, 10),
        ({"headroom": 100.0}, LENGTH),
        ({"novelty": False}, 10),  # equal shares are settled before a frame is seen
        ({"novelty": False, "timestamps": True}, 20),
        ({"novelty": False, "shares": "informative"}, 40),
        ({"pruner": "tome"}, LENGTH),
        ({"pruner": "evs"}, LENGTH),
        ({"pruner": "vidcom2"}, LENGTH),
        ({"pruner": "fastv"}, LENGTH),
    ],
)
def test_a_frame_sends_what_it_may_be_handed(options: dict[str, Any], max_keep: int) -> None:
    assert pruning_of(plan(10, budget=100, **options)).max_keep == max_keep


def merged(*variants: dict[str, Any], num_frames: int = 10) -> list[ClipPlan]:
    asked = [Variant(options=changed(**each), questions=tuple(QUESTIONS)) for each in variants]
    return plan_clips(make_sampled(num_frames), asked)


@pytest.mark.parametrize("pruner", ["uniform", "random", "gprune"])
def test_rankings_that_ask_for_no_share_are_shipped_once_with_the_most_wanted(pruner: str) -> None:
    plans = merged(*({"pruner": pruner, "keep_ratio": ratio} for ratio in (0.02, 0.1, 0.05)))
    (pruning,) = plans[0].clip.prunings
    assert (pruning.method, pruning.num_keep, pruning.max_keep) == (pruner, 0, 21)
    assert [each.pruning for each in plans] == [0, 0, 0]
    assert all(each.clip is plans[0].clip for each in plans)


def test_a_ranking_that_asks_for_its_share_is_made_for_each() -> None:
    plans = merged(*({"keep_ratio": ratio} for ratio in (0.1, 0.2, 0.1)))
    assert [each.pruning for each in plans] == [0, 1, 0]
    assert [pruning.num_keep for pruning in plans[0].clip.prunings] == [5, 10]


def test_methods_that_see_the_whole_clip_share_its_tokens() -> None:
    names = ["none", "tome", "evs", "vidcom2", "vcast", "floc", "flashvid", "fastv"]
    settings = {"none": {}}
    plans = merged(*({"pruner": name, **settings.get(name, {"keep_ratio": 0.2})} for name in names))
    (pruning,) = plans[0].clip.prunings
    assert (pruning.method, pruning.max_keep) == ("none", LENGTH)
    assert [each.allocation([0.0]).method for each in plans] == names


RATIOS, SEEDS = (1.0, 0.5, 0.3, 0.1, 0.05), (0, 1, 2)


def evaluated() -> list[dict[str, Any]]:
    """All methods at five ratios, random with three seeds."""
    return [
        {"pruner": name, "seed": seed, **({} if name == "none" else {"keep_ratio": ratio})}
        for name in METHODS
        for ratio in RATIOS
        for seed in (SEEDS if METHODS[name].is_random else SEEDS[:1])
    ]


def test_no_ranking_of_a_whole_frame_is_shipped_twice() -> None:
    plans = merged(*evaluated())
    (clip,) = {id(each.clip): each.clip for each in plans}.values()
    whole = [(p.method, p.seed, p.num_keep) for p in clip.prunings if p.max_keep == LENGTH]
    assert len(whole) == len(set(whole))
    names = [pruning.method for pruning in clip.prunings]
    counts = {name: names.count(name) for name in names}
    ranked = {"uniform": 1, "random": 3, "gprune": 1, "mr_pruner": 5, "coverage": 1}
    assert counts == {"none": 1} | ranked
    # The ranking of mr_pruner follows its share: at 0.1 and 0.05 a frame sends four shares.
    shipped = sum(pruning.max_keep for pruning in clip.prunings)
    assert shipped == 7 * LENGTH + 3 * LENGTH + 21 + 11
    for each, variant in zip(plans, evaluated(), strict=True):
        method = METHODS[variant["pruner"]]
        ranking = pruning_of(each)
        assert ranking.method == (method.name if method.ranks else "none")
        assert ranking.seed == (variant["seed"] if method.is_random else 0)
        alone = plan_clip(make_sampled(10), changed(**variant), QUESTIONS)
        assert ranking.max_keep >= pruning_of(alone).max_keep
        assert replace_most(ranking) == replace_most(pruning_of(alone))
        assert (each.budget, each.compact_positions) == (alone.budget, alone.compact_positions)
        times = [0.0] * 10
        assert each.allocation(times).max_keep == alone.allocation(times).max_keep


def test_a_ranking_is_shared_with_what_asks_which_tokens_stand_for_others() -> None:
    plans = merged({"keep_ratio": 0.1}, {"keep_ratio": 0.1, "attention": "proportional"})
    (pruning,) = plans[0].clip.prunings
    assert pruning.stand_ins
    assert [each.allocation([0.0]).proportional for each in plans] == [False, True]
    alone = plan_clip(make_sampled(10), changed(keep_ratio=0.1), QUESTIONS)
    assert not pruning_of(alone).stand_ins
    whole = plan_clip(make_sampled(10), changed(pruner="evs", attention="proportional"), ["?"])
    assert not pruning_of(whole).stand_ins  # sends every token


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"pruner": "coverage"}, True),
        ({"question_aware": True}, True),
        ({"question_aware": True, "attention": "plain"}, False),
        ({"pruner": "coverage", "attention": "plain"}, False),
        ({"pruner": "uniform", "attention": "proportional"}, True),
        ({"pruner": "coverage", "llm_server": "http://localhost:1"}, False),
    ],
)
def test_what_is_chosen_to_stand_for_the_rest_weighs_as_much(
    values: dict[str, Any], expected: bool
) -> None:
    plan = plan_clip(make_sampled(10), changed(budget=60, **values), QUESTIONS)
    assert plan.allocation([0.0] * 10).proportional is expected
    assert pruning_of(plan).stand_ins is expected
    assert pruning_of(plan).max_keep == 24


def replace_most(pruning: Pruning) -> Pruning:
    return replace(pruning, max_keep=0)


def test_variants_on_other_frames_are_clips_of_their_own() -> None:
    first, fewer, again, fast = merged(
        {"budget": 50}, {"budget": 4}, {"budget": 90}, {"budget": 50, "resize": "fast"}
    )
    assert first.clip is again.clip
    assert len({first.clip.clip_id, fewer.clip.clip_id, fast.clip.clip_id}) == 3
    assert [each.clip.num_frames for each in (first, fewer, fast)] == [10, 4, 10]


def test_one_variant_that_does_not_fit_is_told_before_any_work() -> None:
    with pytest.raises(ContextError, match="lower --budget"):
        merged({"budget": 50}, {"budget": 9000}, num_frames=300)


def clip_id(sampled: SampledClip | None = None, **options: Any) -> str:
    return plan_clip(sampled or make_sampled(10), changed(**options), ["Why?"]).clip.clip_id


def test_a_clip_has_one_id_whoever_plans_it() -> None:
    assert clip_id() == clip_id(timestamps=False)
    assert clip_id(pruner="uniform") == clip_id(pruner="uniform", seed=5)
    assert clip_id(num_decoders=7, max_new_tokens=9, pruner="evs") == clip_id(pruner="vidcom2")


def test_what_makes_other_tokens_makes_another_id() -> None:
    sampled = make_sampled(10)
    index = cast(VideoIndex, sampled.source)
    ids = [
        clip_id(),
        clip_id(make_sampled(11)),
        clip_id(replace(sampled, frame_indices=np.arange(10))),
        clip_id(replace(sampled, source=replace(index, path="other.mp4"))),
        clip_id(replace(sampled, source=replace(index, size_bytes=1))),
        clip_id(replace(sampled, source=replace(index, mtime_ns=1))),
        clip_id(replace(sampled, tiles=TILES.without_grid())),
        clip_id(resize="fast"),
        clip_id(decoder="decord"),
        clip_id(high_resolution="gated"),
        clip_id(budget=100),
        clip_id(pruner="random"),
        clip_id(pruner="random", seed=1),
        clip_id(newlines="last"),
        clip_id(pruner_beta=0.4),
    ]
    assert len(set(ids)) == len(ids)


def test_looking_at_the_base_only_is_another_clip_at_any_budget() -> None:
    # At three tokens a frame what is sent on is the same with and without the grid.
    ids = {
        clip_id(replace(make_sampled(10), tiles=tiles), budget=30)
        for tiles in (TILES, TILES.without_grid())
    }
    assert len(ids) == 2


def test_pictures_are_known_by_their_pixels_and_files_by_their_version(tmp_path: Path) -> None:
    def pictures_id(*pictures: Any) -> str:
        count = len(pictures)
        return clip_id(
            replace(
                make_sampled(count), source=open_images(pictures), frame_indices=np.arange(count)
            )
        )

    black = np.zeros((20, 40, 3), np.uint8)
    file = str(tmp_path / "picture.ppm")

    def write(pixels: bytes) -> str:
        Path(file).write_bytes(b"P6 2 2 255\n" + pixels)
        return file

    ids = [
        pictures_id(black),
        pictures_id(black + 1),
        pictures_id(black.reshape(40, 20, 3)),
        pictures_id(black, black + 1),
        pictures_id(black + 1, black),
        pictures_id(write(bytes(12))),
        pictures_id(write(bytes(13))),
    ]
    assert len(set(ids)) == len(ids)
    assert pictures_id(black.copy()) == ids[0]
    assert pictures_id(black[:, ::-1]) == ids[0]


@pytest.mark.parametrize("seed", range(100))
def test_plans_keep_within_budget_context_and_headroom(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_frames, budget = int(rng.integers(1, 300)), int(rng.integers(10, 3000))
    headroom, marked = float(rng.uniform(1, 8)), bool(rng.integers(2))
    words = Words(mark=int(rng.integers(1, 8)), separator=int(rng.integers(3)))
    planned = plan(num_frames, words, budget=budget, headroom=headroom, timestamps=marked)
    n = planned.clip.num_frames
    # Planned for as if each were as long as the longest of all the frames that were sampled.
    last = make_sampled(num_frames).frame_indices[-1] * 0.04
    stamps = n * words.cost(f"[{last:.1f}s] ") * marked
    visual = budget - stamps
    num_keep, max_keep = keeps(planned)
    assert 1 <= n <= num_frames
    assert len(planned_pts(planned)) == n
    assert n * num_keep <= visual
    assert num_keep <= max_keep <= LENGTH
    assert n * (max_keep - 1) < headroom * visual
    assert n * max_keep >= min(visual, n * LENGTH)
    assert sum(planned.allocation(np.array(planned_pts(planned)) / 1000).num_timestamp_tokens) <= (
        stamps
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", num_frames=60))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 32),
        ({"num_frames": 7}, 7),
        ({"num_frames": 100}, 60),
        ({"fps": 5.0}, 12),
        ({"fps": 5.0, "start": 1.0, "end": 2.0}, 5),
    ],
)
def test_a_clip_has_32_frames_unless_told_otherwise(
    clip: str, checkpoint: Path, options: dict[str, Any], count: int
) -> None:
    assert len(sample_clip(clip, changed(model=str(checkpoint), **options)).frame_indices) == count


def test_a_sampled_clip_knows_its_frames_and_tokens(clip: str, checkpoint: Path) -> None:
    sampled = sample_clip(clip, changed(model=str(checkpoint), num_frames=3))
    assert sampled.frame_indices.tolist() == [10, 30, 50]
    times = sampled.source.pts_seconds(sampled.frame_indices)
    assert times == pytest.approx([0.4, 1.2, 2.0])
    assert sampled.lengths.tolist() == [LENGTH] * 3
    base = sample_clip(clip, changed(model=str(checkpoint), num_frames=3, high_resolution="none"))
    assert base.lengths.tolist() == [16] * 3
    assert plan_clip(base, changed(high_resolution="none"), ["?"]).clip.tiles.pinpoints == ()


def test_pictures_have_lengths_of_their_own(checkpoint: Path) -> None:
    sizes = [(96, 160), (160, 96), (40, 40), (3, 200)]
    source = open_images([np.zeros((*size, 3), np.uint8) for size in sizes])
    options = changed(model=str(checkpoint), num_frames=4)
    sampled = sample_source(source, options)
    tiles = sampled.checkpoint.geometry
    assert sampled.lengths.tolist() == [tiles.frame(*size).num_tokens for size in sizes]
    assert len(set(sampled.lengths.tolist())) > 2
    planned = plan_clip(sampled, options, ["?"])
    assert planned.num_unpruned_tokens == sampled.lengths.sum()
    assert pruning_of(planned).max_keep == sampled.lengths.max()


def test_a_clip_that_cannot_be_sampled(clip: str, checkpoint: Path) -> None:
    with pytest.raises(VideoOpenError, match="No such file"):
        sample_clip("missing.mp4", changed(model=str(checkpoint)))
    with pytest.raises(ModelError, match="unknown model 'nothing'"):
        sample_clip(clip, changed(model="nothing"))
    with pytest.raises(InputError, match=r"^--start 99 s is outside the clip, which is shown"):
        sample_clip(clip, changed(model=str(checkpoint), start=99.0))
    for chosen in ({"pruner": "fastv"}, {"question_aware": True}):
        with pytest.raises(InputError, match=r"^--fastv-layer 3 is out of range: .* has 3 layers"):
            sample_clip(clip, changed(model=str(checkpoint), fastv_layer=3, **chosen))


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("model", ["embedded", "checkpoint"])
def test_a_prompt_takes_no_more_than_was_planned(
    clip: str, checkpoint: Path, model: str, timestamps: bool
) -> None:
    name = {"checkpoint": str(checkpoint)}.get(model, model)
    questions = ["Why?", "What is the long name of the animal beside the tree in the picture?"]
    options = changed(model=name, num_frames=5, timestamps=timestamps, budget=90)
    sampled = sample_source(open_source(clip), options)
    planned = plan_clip(sampled, options, questions)
    times = sampled.source.pts_seconds(sampled.frame_indices).tolist()
    frames = [
        replace(frame, pts_seconds=time)
        for frame, time in zip(kept_frames(planned, 1), times, strict=True)
    ]
    plain = planned.template.build("?", [""] * 5).num_text_tokens
    stamped = planned.template.build("?", planned.timestamps(times)).num_text_tokens
    assert sum(planned.allocation(times).num_timestamp_tokens) == stamped - plain
    assert (stamped > plain) == timestamps
    used = [planned.prompt(question, frames).num_text_tokens for question in questions]
    # With exactly that much room the plan is made, with one token less it is refused.
    room = 90 + max(used) - (stamped - plain) + 128
    tight = replace(sampled, checkpoint=replace(sampled.checkpoint, template=roomy(name, room)))
    assert plan_clip(tight, options, questions).clip.num_frames == 5
    less = replace(sampled, checkpoint=replace(sampled.checkpoint, template=roomy(name, room - 1)))
    with pytest.raises(
        ContextError, match=f"make {room}, but the model's context holds {room - 1}"
    ):
        plan_clip(less, options, questions)


def roomy(model: str, context_length: int) -> ChatTemplate:
    template = ChatTemplate.load(locate(model))
    template.context_length = context_length
    return template


def test_a_painted_picture_can_be_planned(checkpoint: Path) -> None:
    options = changed(model=str(checkpoint), num_frames=1)
    sampled = sample_source(open_images([paint_frame(5)]), options)
    planned = plan_clip(sampled, options, ["Why?"])
    assert (planned.clip.name, planned.clip.num_frames) == ("an image", 1)


def test_a_timestamp_is_counted_once_whatever_is_asked_of_a_clip() -> None:
    words = Words()
    template, stamps = cast(ChatTemplate, words), ["[1.0s] ", "[11.0s] "]
    assert count_first_timestamps(template, stamps) == (5, 6)
    assert count_first_timestamps(template, [*stamps, "[2.0s] "]) == (5, 6, 5)
    assert len(words.asked) == 4
