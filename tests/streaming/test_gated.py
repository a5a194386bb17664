"""``--high-resolution gated`` from a clip to its tokens: the same however the work is cut."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pruner import METHODS
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import WatchedClip, answer_clip, watch
from streaming.plan import plan_clip
from streaming.sample import sample_clip, sample_source
from tests.clips import paint_frame
from tests.workers.vision.pictures import draw_picture
from workers.arrays import UInt8Array
from workers.disk.store import open_store
from workers.run.engine import Engine
from workers.video.images import open_images

QUESTION = "what number is shown first?"


@pytest.fixture(scope="module")
def options(checkpoint: Path) -> Options:
    settings = {"model": str(checkpoint), "num_frames": 40, "budget": 300, "max_new_tokens": 6,
                "executor": "local", "high_resolution": "gated"}  # fmt: skip
    return change(Options(), settings, source="the test")


@pytest.fixture(scope="module")
def engine(options: Options) -> Iterator[Engine]:
    with open_engine(options) as engine:
        yield engine


def watch_clip(engine: Engine, clip: str, options: Options, **changes: Any) -> WatchedClip:
    chosen = change(options, changes, source="the test")
    return watch(engine, plan_clip(sample_clip(clip, chosen), chosen, [QUESTION]))


def watch_pictures(
    engine: Engine, pictures: Sequence[UInt8Array], options: Options, **changes: Any
) -> WatchedClip:
    chosen = change(options, {"num_frames": len(pictures), **changes}, source="the test")
    source = open_images(pictures)
    return watch(engine, plan_clip(sample_source(source, chosen), chosen, [QUESTION]))


def visual_id(watched: WatchedClip) -> Any:
    """Return a digest of all that the language model is handed."""
    return watched.visual.handle.visual_id


def num_encoded(watched: WatchedClip) -> int:
    return watched.visual.encoded.num_encoded_tiles


@pytest.mark.parametrize("method", METHODS)
def test_chunks_make_no_difference(
    engine: Engine, clip: str, options: Options, method: str
) -> None:
    own: dict[str, Any] = {"pruner": method, **({"budget": None} if method == "none" else {})}
    expected = watch_clip(engine, clip, options, **own)
    assert num_encoded(expected) < 200
    for size in (1, 3, 8):
        other = watch_clip(engine, clip, options, frames_per_chunk=size, **own)
        assert visual_id(other) == visual_id(expected)


def test_of_a_clip_that_stands_still_one_fifth_is_encoded(engine: Engine, options: Options) -> None:
    still = watch_pictures(engine, [paint_frame(5)] * 40, options)
    assert still.plan.num_tiles == 200
    assert num_encoded(still) == 3 * 5 + 37 * 1


def test_a_clip_that_changes_everywhere_gives_what_all_does(
    engine: Engine, options: Options
) -> None:
    pictures = [draw_picture(96, 160, seed=seed) for seed in range(20)]
    gated, full = (
        watch_pictures(engine, pictures, options, high_resolution=value)
        for value in ("gated", "all")
    )
    assert visual_id(gated) == visual_id(full)
    assert num_encoded(gated) == num_encoded(full) == 100


def test_one_picture_gives_what_all_does(engine: Engine, options: Options) -> None:
    gated, full = (
        watch_pictures(engine, [paint_frame(9)], options, high_resolution=value)
        for value in ("gated", "all")
    )
    assert visual_id(gated) == visual_id(full)


def test_pictures_of_another_size_than_their_anchor_give_what_all_does(
    engine: Engine, options: Options
) -> None:
    sizes = [(96, 160), *((40 + 8 * number, 90) for number in range(10))]
    pictures = [draw_picture(*size) for size in sizes]
    gated, full = (
        watch_pictures(engine, pictures, options, high_resolution=value)
        for value in ("gated", "all")
    )
    assert visual_id(gated) == visual_id(full)


def test_the_fast_resize_is_gated_too(engine: Engine, options: Options) -> None:
    still = watch_pictures(engine, [paint_frame(5)] * 20, options, resize="fast")
    assert num_encoded(still) == 2 * 5 + 18 * 1


def test_an_answer_tells_how_many_tiles_were_encoded(
    engine: Engine, clip: str, options: Options, tmp_path: Path
) -> None:
    plan = plan_clip(sample_clip(clip, options), options, [QUESTION])
    store = open_store(str(tmp_path), 1.0)
    made, served = (answer_clip(engine, plan, [QUESTION], store=store)[0] for _ in range(2))
    assert made.to_json()["num_tiles"] == 200
    assert 40 < made.to_json()["num_encoded_tiles"] < 200
    assert served.to_json()["num_encoded_tiles"] == 0
    assert served.answer == made.answer
    other = change(options, {"high_resolution": "all"}, source="the test")
    plan = plan_clip(sample_clip(clip, other), other, [QUESTION])
    (full,) = answer_clip(engine, plan, [QUESTION], store=store)
    assert full.bank is not None
    assert not full.bank.hit
    assert full.num_encoded_tiles == full.num_tiles == 200
