import json
from pathlib import Path

import av
import numpy as np
import pytest

from training.canvas import ASPECTS
from training.compose import Recipe, compose_clip
from training.draw import draw_frame
from training.make_set import PICTURES_PER_FRAME, draw_set, write_clip
from training.questions import TYPES


@pytest.mark.parametrize("aspect", ASPECTS)
def test_clips_are_h264_of_the_right_size_and_length(aspect: str, tmp_path: Path) -> None:
    clip = compose_clip(np.random.default_rng(5), aspect, 3, Recipe())
    write_clip(clip, tmp_path / "clip.mp4", scale=2)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == tuple(2 * side for side in ASPECTS[aspect])
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(clip.duration_seconds)
    assert len(pictures) == 3 * PICTURES_PER_FRAME
    drawn = draw_frame(clip, 0.5 / len(pictures), 2)
    assert np.abs(pictures[0].astype(int) - drawn).mean() < 8


def test_a_set_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw_set(tmp_path / name, 3, 1, num_frames=(1, 2))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 11
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_questions_name_clips_answers_types_and_times(tmp_path: Path) -> None:
    path = draw_set(tmp_path, 3, 1, num_frames=(2,))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["clip"] for line in lines} == {p.name for p in tmp_path.glob("*.mp4")}
    for line in lines:
        assert line["type"] in TYPES
        assert line["answers"]
        assert 0 <= line["start_seconds"] < line["end_seconds"] <= 2
