"""The law: the answer at a time on a stream is the answer on the file cut at that time."""

from pathlib import Path

import numpy as np
import pytest

from streaming.pipeline import ask
from streaming.result import Answer
from streaming.watch.cut import hold_cut
from streaming.watch.held import watch_held
from streaming.watch.plan import LivePlan
from tests.clips import draw_clip
from tests.streaming.watch.conftest import Follower, PlanMaker, Recorder, Seen, check_bounds
from workers.run.engine import Engine
from workers.video.index import index_video

SAMPLES = Path(__file__).parents[4] / "shared" / "videos"


def check_law(engine: Engine, plan: LivePlan, path: str, seen: list[Seen]) -> None:
    """Compare what a stream was at each time with the file that is cut there, bit for bit."""
    index = index_video(path)
    for media_seconds, watched, held in seen:
        cut = hold_cut(engine, plan, index, media_seconds)
        assert held.num_frames == cut.num_frames
        assert list(held.frames) == list(cut.frames)
        for number, frame in held.frames.items():
            other = cut.frames[number]
            assert (frame.pts_seconds, frame.level) == (other.pts_seconds, other.level)
            assert frame.num_tokens == other.num_tokens == len(frame.tokens[0].order)
            np.testing.assert_array_equal(frame.tokens[0].features, other.tokens[0].features)
            np.testing.assert_array_equal(frame.tokens[0].order, other.tokens[0].order)
        expected = watch_held(engine, plan, cut)
        assert watched.visual.handle.visual_id == expected.visual.handle.visual_id
        assert watched.plan.num_tiles == expected.plan.num_tiles


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six seconds of numbered pictures, some of which are shown for long, from 1.4 s on."""
    chance = np.random.default_rng(1)
    times = 1400 + np.cumsum(chance.choice([40, 40, 40, 33, 700], 64))
    path = tmp_path_factory.mktemp("clip") / "numbers.mkv"
    return str(draw_clip(path, num_frames=64, times_ms=times.tolist()))


@pytest.mark.parametrize(
    "values",
    [
        {"fps": 12.5},
        {"fps": 5.0, "pruner": "random", "timestamps": True},
        {"fps": 40.0, "pruner": "gprune", "shares": "informative", "resize": "fast"},
        {"fps": 12.5, "novelty": False, "budget": 21, "high_resolution": "none"},
        {"fps": 12.5, "attention": "proportional"},
    ],
)
def test_the_stream_is_the_file_cut_there(
    engine: Engine, make_plan: PlanMaker, follow: Follower, clip: str, values: dict[str, object]
) -> None:
    plan = make_plan(clip, **values)
    seen = follow(clip, plan, every=1.3).seen
    assert len(seen) >= 5
    assert {level for each in seen for level in [f.level for f in each.held.frames.values()]} > {0}
    check_law(engine, plan, clip, seen)
    check_bounds(plan, seen)


@pytest.mark.parametrize(
    ("name", "fps", "every"),
    [
        pytest.param("flir_vfr_bframes.mp4", 2.0, 6.0, marks=pytest.mark.slow),
        ("bear_720p_hevc.mp4", 6.0, 1.4),
    ],
)
@pytest.mark.skipif(not SAMPLES.exists(), reason=f"no sample videos in {SAMPLES}")
def test_it_holds_for_videos_of_cameras(
    engine: Engine,
    make_plan: PlanMaker,
    follow: Follower,
    name: str,
    fps: float,
    every: float,
) -> None:
    path = str(SAMPLES / name)
    plan = make_plan(path, fps=fps)
    seen = follow(path, plan, every=every).seen
    assert len(seen) == 2
    check_law(engine, plan, path, seen)


def test_pace_makes_no_difference(
    engine: Engine, make_plan: PlanMaker, follow: Follower, clip: str
) -> None:
    plan = make_plan(clip, fps=5.0)
    recorder = follow(clip, plan, every=2.0, speed=8.0)
    assert recorder.gaps == []
    check_law(engine, plan, clip, recorder.seen)


def test_answers_are_equal_where_the_sequences_are(
    engine: Engine, make_plan: PlanMaker, follow: Follower, clip: str
) -> None:
    plan = make_plan(clip, fps=5.0)
    seen = follow(clip, plan, every=2.0).seen
    for media_seconds, watched, _ in seen[:3]:
        held = hold_cut(engine, plan, index_video(clip), media_seconds)
        (live,) = [a for a in ask(engine, watched, "what?") if isinstance(a, Answer)]
        pieces = ask(engine, watch_held(engine, plan, held), "what?")
        (cut,) = [a for a in pieces if isinstance(a, Answer)]
        assert live.answer == cut.answer
        assert live.num_visual_tokens == cut.num_visual_tokens <= plan.budget


def test_the_test_can_fail(
    engine: Engine, make_plan: PlanMaker, follow: Follower, clip: str
) -> None:
    plan = make_plan(clip, fps=5.0)
    recorder: Recorder = follow(clip, plan, every=2.0)
    later = [each._replace(media_seconds=each.media_seconds + 0.5) for each in recorder.seen[:1]]
    with pytest.raises(AssertionError):
        check_law(engine, plan, clip, later)
