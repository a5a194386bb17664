import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming.config import Options
from streaming.plan import ClipPlan, Source, open_source, plan_clip
from tests.clips import draw_clip
from workers.errors import ContextError, InputError, ModelError, VideoOpenError
from workers.messages import PromptCost, VideoIndex
from workers.vision.geometry import TileGeometry

TILES = TileGeometry(tile_size=56, patch_size=14, pinpoints=((56, 112), (112, 56), (112, 112)))
LENGTH = 16 + 4 * (8 + 1)
TEXT, ANSWER, CONTEXT = 40, 128, 8192


def make_source(num_frames: int, *, height: int = 96, width: int = 160) -> Source:
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
    return Source(
        index=index,
        frame_indices=np.arange(1, 2 * num_frames, 2),
        geometry=TILES.frame(height, width),
    )


class Measure:
    """Stands in for the language model: a mark costs ``mark`` tokens, one more after 10 s."""

    def __init__(self, *, context: int = CONTEXT, separator: int = 1, mark: int = 5) -> None:
        self._context, self._separator, self._mark = context, separator, mark
        self.asked: list[Sequence[str]] = []
        self.times: list[float] = []

    def __call__(self, questions: Sequence[str], pts_seconds: Sequence[float]) -> PromptCost:
        self.asked.append(questions)
        self.times = list(pts_seconds)
        return PromptCost(
            context_length=self._context,
            num_text_tokens=TEXT,
            num_separator_tokens=self._separator,
            num_marker_tokens=tuple(self._mark + (pts >= 10) for pts in pts_seconds),
        )


def plan(
    num_frames: int, measure: Measure | None = None, *, num_segments: int = 1, **options: Any
) -> ClipPlan:
    return plan_clip(
        make_source(num_frames),
        Options(**options),
        ["Why?", "Who?"],
        measure or Measure(),
        num_segments=num_segments,
        thumbnail_width=0,
    )


def planned_pts(planned: ClipPlan) -> list[int]:
    return [int(pts) for segment in planned.segments for pts in segment.pts]


def test_a_frame_has_the_length_used_here() -> None:
    assert make_source(1).geometry.num_tokens == LENGTH


def test_the_default_budget_is_4096() -> None:
    planned = plan(100)
    assert (planned.budget.budget, planned.num_frames) == (4096, 100)
    assert planned.num_unpruned_tokens == 100 * LENGTH
    assert (planned.prune.num_keep, planned.prune.max_keep) == (40, LENGTH)
    assert planned_pts(planned) == list(range(40, 8000, 80))


def test_the_default_budget_is_what_the_context_leaves() -> None:
    planned = plan(10, Measure(context=1000))
    assert planned.budget.budget == 1000 - TEXT - ANSWER - 10
    planned = plan(10, Measure(context=1000), max_new_tokens=8)
    assert planned.budget.budget == 1000 - TEXT - 8 - 10


def test_a_full_context_leaves_room_for_fewer_frames() -> None:
    planned = plan(500, Measure(context=368, mark=7), time_marks=True)
    # 200 tokens are left, and a frame needs at least one, its separator and the dearest mark.
    assert planned.num_frames == 200 // (1 + 1 + 8)
    assert planned.budget.budget == 200 - planned.num_frames


@pytest.mark.parametrize("budget", [10, 11, 100, 519, 520, 5000])
def test_a_budget_is_taken_as_it_is(budget: int) -> None:
    planned = plan(10, budget=budget)
    assert (planned.budget.budget, planned.num_frames) == (budget, 10)
    assert planned.prune.num_keep == min(LENGTH, budget // 10)


@pytest.mark.parametrize(
    ("keep_ratio", "budget"), [(1.0, 520), (0.5, 260), (0.1, 52), (0.29, 150), (0.02, 10)]
)
def test_a_ratio_is_of_all_tokens(keep_ratio: float, budget: int) -> None:
    planned = plan(10, keep_ratio=keep_ratio)
    assert (planned.budget.budget, planned.num_frames) == (budget, 10)
    assert planned.prune.num_keep == budget // 10


def test_a_ratio_of_one_keeps_everything() -> None:
    for time_marks in (False, True):
        planned = plan(10, keep_ratio=1.0, time_marks=time_marks)
        assert planned.budget.budget == 10 * (LENGTH + 5 * time_marks)
        assert (planned.prune.num_keep, planned.prune.max_keep) == (LENGTH, LENGTH)


def test_a_ratio_rounds_down_but_for_the_error_of_floats() -> None:
    assert plan(25, keep_ratio=0.35).budget.budget == 455  # 0.35 * 1300 is 454.99999999999994


def test_a_tiny_ratio_still_buys_one_token() -> None:
    planned = plan(10, keep_ratio=1e-6)
    assert (planned.budget.budget, planned.num_frames) == (1, 1)


def test_fewer_tokens_than_frames_are_spent_on_fewer_frames() -> None:
    planned = plan(20, budget=4)
    assert planned.num_frames == 4
    assert planned_pts(planned) == [(2 * frame + 1) * 40 for frame in (2, 7, 12, 17)]
    assert planned.num_unpruned_tokens == 4 * LENGTH
    assert (planned.prune.num_keep, planned.prune.max_keep) == (1, 4)


def test_marks_are_paid_from_the_budget() -> None:
    measure = Measure()
    planned = plan(20, measure, budget=150, time_marks=True)
    assert planned.budget.time_marks
    assert planned.num_frames == 20
    assert planned.prune.num_keep == (150 - 20 * 5) // 20
    assert measure.times == pytest.approx([0.04 + 0.08 * frame for frame in range(20)])


def test_a_budget_that_does_not_pay_for_every_mark_is_spent_on_fewer_frames() -> None:
    planned = plan(20, budget=61, time_marks=True)
    assert planned.num_frames == 61 // 6
    assert planned.prune.num_keep == 1


def test_the_longest_question_is_measured() -> None:
    measure = Measure()
    plan(3, measure)
    assert measure.asked == [["Why?", "Who?"]]
    assert measure.times == []


@pytest.mark.parametrize("options", [{"budget": 5}, {"keep_ratio": 1e-6}])
def test_a_budget_below_one_frame_and_its_mark_is_an_error(options: dict[str, Any]) -> None:
    plan(1, time_marks=True, budget=6)
    with pytest.raises(ContextError, match=r"^\d tokens do not pay for one frame and its marks"):
        plan(1, Measure(mark=9), time_marks=True, budget=5)


@pytest.mark.parametrize("context", [1, TEXT + ANSWER, TEXT + ANSWER + 1])
def test_a_question_that_fills_the_context_is_an_error(context: int) -> None:
    message = rf"^{context - TEXT - ANSWER} tokens do not pay .* lower --max-new-tokens or shorten"
    with pytest.raises(ContextError, match=message):
        plan(3, Measure(context=context))


def test_a_budget_beyond_the_context_is_an_error_that_names_what_fits() -> None:
    available = 200 * LENGTH
    message = (
        f"240 text + {available} visual + 128 answer tokens make {available + 368}, but the "
        f"model's context holds {CONTEXT}: lower --budget so that at most 7824 visual tokens"
    )
    with pytest.raises(ContextError, match=f"^{re.escape(message)}"):
        plan(200, budget=100_000)
    with pytest.raises(ContextError, match="at most 7824 visual tokens"):
        plan(200, budget=7825)
    assert plan(200, budget=7824).budget.budget == 7824


def test_a_ratio_beyond_the_context_is_an_error_that_names_the_ratio() -> None:
    with pytest.raises(ContextError, match="lower --keep-ratio so that at most 7824 visual tokens"):
        plan(200, keep_ratio=1.0)
    assert plan(200, keep_ratio=7824 / (200 * LENGTH)).budget.budget == 7824


def test_a_budget_that_few_frames_cannot_use_is_no_error() -> None:
    planned = plan(2, budget=10**9)
    assert planned.budget.budget == 10**9
    assert (planned.prune.num_keep, planned.prune.max_keep) == (LENGTH, LENGTH)


@pytest.mark.parametrize("separator", [0, 1, 7])
def test_original_positions_must_fit_the_context(separator: int) -> None:
    measure = Measure(separator=separator)
    settings: dict[str, Any] = {"position_ids": "original", "budget": 400}
    message = r"numbers the unpruned sequence up to \d+, .* --num-frames to at most (\d+)$"
    with pytest.raises(ContextError, match=message) as caught:
        plan(200, measure, **settings)
    fitting = int(str(caught.value).rsplit(" ", 1)[1])
    assert plan(fitting, measure, **settings).num_frames == fitting
    with pytest.raises(ContextError, match=f"at most {fitting}$"):
        plan(fitting + 1, measure, **settings)
    assert plan(200, measure, position_ids="compact", budget=400).num_frames == 200
    compact = [
        plan(num_frames, measure, budget=400).budget.compact_positions
        for num_frames in (fitting, fitting + 1)
    ]
    assert compact == [False, True]


def test_original_positions_count_the_time_marks() -> None:
    settings: dict[str, Any] = {"position_ids": "original", "budget": 1500}
    assert plan(150, **settings).num_frames == 150
    # 190 text, 150 * 52 visual and 128 answer tokens fit; 150 marks of 5 more do not.
    with pytest.raises(ContextError, match="numbers the unpruned sequence up to"):
        plan(150, time_marks=True, **settings)


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [((96, 160), 8, 8), ((1080, 1920), 8, 8), ((1080, 1920), 64, 10), ((6000, 8000), 8, 1)],
)
def test_chunks_are_small_in_bytes(size: tuple[int, int], wanted: int, expected: int) -> None:
    source = make_source(20, height=size[0], width=size[1])
    planned = plan_clip(
        source,
        Options(frames_per_chunk=wanted),
        ["Why?"],
        Measure(),
        num_segments=1,
        thumbnail_width=0,
    )
    assert [segment.frames_per_chunk for segment in planned.segments] == [expected]


@pytest.mark.parametrize("num_segments", [1, 2, 3])
def test_segments_share_the_frames_among_the_decoders(num_segments: int) -> None:
    planned = plan(50, num_segments=num_segments, decoder="decord")
    assert len(planned.segments) == num_segments
    assert planned_pts(planned) == list(range(40, 4000, 80))
    assert {segment.decoder for segment in planned.segments} == {"decord"}


def test_settings_of_the_pruner_are_handed_on() -> None:
    options = Options(
        pruner_similarity=0.1,
        pruner_cross_similarity=0.2,
        pruner_temperature=0.3,
        pruner_beta=0.4,
        pruner_steps=5,
        novelty=True,
    )
    planned = plan_clip(
        make_source(2), options, ["Why?"], Measure(), num_segments=1, thumbnail_width=448
    )
    prune = planned.prune
    assert (prune.similarity, prune.cross_similarity, prune.temperature) == (0.1, 0.2, 0.3)
    assert (prune.beta, prune.num_steps, prune.thumbnail_width) == (0.4, 5, 448)
    assert planned.budget.novelty


@pytest.mark.parametrize("seed", range(100))
def test_plans_keep_within_budget_context_and_headroom(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_frames, budget = int(rng.integers(1, 300)), int(rng.integers(10, 3000))
    headroom, marked = float(rng.uniform(1, 8)), bool(rng.integers(2))
    measure = Measure(mark=int(rng.integers(1, 8)), separator=int(rng.integers(3)))
    planned = plan(num_frames, measure, budget=budget, headroom=headroom, time_marks=marked)
    n = planned.num_frames
    marks = n * max(measure(["Why?"], measure.times).num_marker_tokens, default=0)
    visual = budget - marks
    assert 1 <= n <= num_frames
    assert len(planned_pts(planned)) == n
    assert n * planned.prune.num_keep <= visual
    assert planned.prune.num_keep <= planned.prune.max_keep <= LENGTH
    assert n * (planned.prune.max_keep - 1) < headroom * visual
    assert n * planned.prune.max_keep >= min(visual, n * LENGTH)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(draw_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", num_frames=60))


def test_a_source_has_32_frames_unless_told_otherwise(clip: str, checkpoint: Path) -> None:
    def count(**options: Any) -> int:
        return len(open_source(clip, Options(model=str(checkpoint), **options)).frame_indices)

    assert count() == 32
    assert count(num_frames=7) == 7
    assert count(num_frames=100) == 60
    assert count(fps=5.0) == 12
    assert count(fps=5.0, start=1.0, end=2.0) == 5


def test_a_source_knows_its_times_and_tokens(clip: str, checkpoint: Path) -> None:
    source = open_source(clip, Options(model=str(checkpoint), num_frames=3))
    assert source.frame_indices.tolist() == [10, 30, 50]
    assert source.pts_seconds(source.frame_indices) == pytest.approx([0.4, 1.2, 2.0])
    assert source.geometry.num_tokens == LENGTH


def test_a_source_that_cannot_be_opened(clip: str, checkpoint: Path) -> None:
    with pytest.raises(VideoOpenError, match="No such file"):
        open_source("missing.mp4", Options(model=str(checkpoint)))
    with pytest.raises(ModelError, match="unknown model 'nothing'"):
        open_source(clip, Options(model="nothing"))
    with pytest.raises(InputError, match="--start 99 s is outside the clip"):
        open_source(clip, Options(model=str(checkpoint), start=99.0))
