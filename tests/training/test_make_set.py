import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from streaming.evaluate.questions import is_right, read_questions
from tests.clips import draw_clip
from training.canvas import ASPECTS
from training.compose import Recipe, compose_clip
from training.draw import draw_frame, draw_map
from training.make_set import PICTURES_PER_FRAME, draw_set, write_clip
from training.photographs import find_photographs
from training.questions import TIMED, TYPES
from workers.errors import InputError


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
        with av.open(str(tmp_path / line["clip"])) as container:
            seconds = container.duration / av.time_base
        assert 0 <= line["start_seconds"] < line["end_seconds"] <= seconds + 0.001


def test_times_are_asked_for_and_say_their_tolerance(tmp_path: Path) -> None:
    path = draw_set(tmp_path, 3, 1, num_frames=(8,))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    timed = [line for line in lines if line["type"] in TIMED]
    assert timed
    assert all(("tolerance" in line) == (line in timed) for line in lines)
    for group in read_questions(path):
        for question in group:
            accepted = float(question.answers[0]) if question.type in TIMED else None
            if accepted is not None and question.tolerance is not None:
                late = f"{accepted + question.tolerance:.2f} s"
                assert is_right(late, question.answers, question.tolerance)


def test_pictures_and_videos_of_a_folder_become_backgrounds(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "notes.txt").write_text("no picture")
    gradient = np.linspace(0, 255, 96 * 160 * 3).reshape(96, 160, 3).astype(np.uint8)
    Image.fromarray(gradient).save(folder / "one.png")
    draw_clip(folder / "two.mp4", num_frames=3)
    found = find_photographs(folder)
    assert [Path(path).name for path in found] == ["one.png", "two.mp4"]
    recipe = Recipe(backgrounds=found[:1], plate_chance=0.0, camera_chance=0.0)
    clip = compose_clip(np.random.default_rng(0), "16:9", 1, recipe)
    picture, places = draw_frame(clip, 0.5, 1), draw_map(clip, 0.5)
    greys = picture[places == 0]
    assert greys.max() <= 180
    # The picture gets lighter downwards.
    below = np.nonzero(places == 0)[0] > 31
    assert greys[below].mean() > greys[~below].mean() + 10


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match=r"--backgrounds .*: no video or picture in it"):
        find_photographs(tmp_path)
