"""Whatever is asked for: the cap holds, and kept tokens stand in source order, each once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pruner import METHODS
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import WatchedClip, watch
from streaming.plan import plan_clip
from streaming.sample import sample_source
from workers.run.engine import Engine
from workers.video.images import open_images

SIZES = st.tuples(st.integers(8, 150), st.integers(8, 150))


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[Engine]:
    options = change(Options(), {"model": str(checkpoint), "num_decoders": 1}, source="the test")
    with open_engine(options) as engine:
        yield engine


@pytest.mark.parametrize("method", METHODS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_the_cap_holds_and_kept_tokens_stand_in_order(
    engine: Engine, checkpoint: Path, method: str, data: st.DataObject
) -> None:
    num_frames = data.draw(st.integers(1, 9), "frames")
    if METHODS[method].scope in ("frame", "bank", "none", "model"):
        sizes = data.draw(st.lists(SIZES, min_size=num_frames, max_size=num_frames), "sizes")
    else:
        sizes = [data.draw(SIZES, "size")] * num_frames
    timestamps = data.draw(st.booleans(), "timestamps")
    cap = {"none": {}}.get(method, {"budget": data.draw(st.integers(30, 700), "budget")})
    options = change(
        Options(),
        {
            "model": str(checkpoint),
            "num_frames": num_frames,
            "pruner": method,
            "timestamps": timestamps,
            "novelty": data.draw(st.booleans(), "novelty"),
            "attention": data.draw(st.sampled_from(["auto", "plain", "proportional"]), "attention"),
            "newlines": data.draw(st.sampled_from(["row", "last"]), "newlines"),
            "high_resolution": data.draw(
                st.sampled_from(["all", "gated", "none"]), "high_resolution"
            ),
            "frames_per_chunk": data.draw(st.integers(1, 5), "chunk"),
            "position_ids": data.draw(st.sampled_from(["auto", "compact"]), "positions"),
            "resize": data.draw(st.sampled_from(["exact", "fast"]), "resize"),
            **cap,
        },
        source="the test",
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20), "seed"))
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    plan = plan_clip(sample_source(open_images(pictures), options), options, ["what is it?"])
    check(watch(engine, plan), method)


def check(watched: WatchedClip, method: str) -> None:
    plan, frames = watched.plan, watched.visual.frames
    assert [frame.frame_index for frame in frames] == list(range(plan.clip.num_frames))
    for frame in frames:
        kept = frame.keep_indices
        assert kept.dtype == np.int64
        assert np.all(np.diff(kept) > 0)
        assert len(kept) == 0 or 0 <= kept[0] <= kept[-1] < frame.layout.num_tokens
        stamped = plan.options.budget.timestamps and len(kept) > 0
        assert (frame.num_timestamp_tokens > 0) == stamped
    spent = sum(frame.num_visual_tokens for frame in frames)
    whole = sum(frame.layout.num_tokens + frame.num_timestamp_tokens for frame in frames)
    assert plan.num_unpruned_tokens == sum(frame.layout.num_tokens for frame in frames)
    check_shown(watched)
    if METHODS[method].enters_unpruned:
        assert spent == whole
    else:
        assert spent <= plan.budget
    if METHODS[method].scope in ("clip", "share"):
        stamps = watched.visual.allocation.num_timestamp_tokens
        unpaid = [n for n, f in zip(stamps, frames, strict=False) if not len(f.keep_indices)]
        assert min(plan.budget, whole) - max(unpaid, default=0) <= spent
        assert unpaid or spent == min(plan.budget, whole)
    if METHODS[method].scope not in ("bank", "clip"):
        assert min(len(frame.keep_indices) for frame in frames) >= 1


def check_shown(watched: WatchedClip) -> None:
    """The prompt and the sequence have the frames that keep something, and no text of others."""
    plan, frames, visual = watched.plan, watched.visual.frames, watched.visual.handle
    shown = [frame for frame in frames if len(frame.keep_indices)]
    prompt = plan.prompt("what is it?", frames)
    assert len(prompt.frame_segments) == len(visual) == len(shown) >= 1
    assert visual.counts.tolist() == [len(frame.keep_indices) for frame in shown]
    assert (visual.sizes is not None) == plan.options.is_proportional
    if visual.sizes is not None:
        assert visual.sizes.min() >= 1
        assert len(visual.features) <= visual.sizes.sum() <= plan.num_unpruned_tokens
    plain = plan.template.build("what is it?", [""] * len(shown))
    stamps = sum(frame.num_timestamp_tokens for frame in frames)
    assert prompt.num_text_tokens == plain.num_text_tokens + stamps
