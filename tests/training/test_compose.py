import numpy as np
import pytest

from training.canvas import ASPECTS, GEOMETRY, first_patch, geometry_of
from training.compose import Recipe, compose_clip
from training.draw import PLATE_ID, draw_frame, draw_map, frame_moments
from training.glyphs import CHARACTERS, glyph
from training.questions import COUNTS, Question, questions_of
from training.scene import Clip, Scene

KINDS = [(aspect, frames) for aspect in ASPECTS for frames in (1, 2, 5)]


def clips(aspect: str, num_frames: int, count: int = 12) -> list[Clip]:
    return [
        compose_clip(np.random.default_rng([11, number]), aspect, num_frames, Recipe())
        for number in range(count)
    ]


def asked(type_: str) -> list[tuple[Clip, Question]]:
    return [
        (clip, question)
        for aspect, frames in KINDS
        for clip in clips(aspect, frames)
        for question in questions_of(clip)
        if question.type == type_
    ]


def center(clip: Clip, moment: float, color: str) -> tuple[float, float]:
    """Return the middle of the pixels of the shape of one colour, as shares of the frame."""
    _, scene = clip.scene_at(moment)
    index = [shape.color for shape in scene.shapes].index(color)
    rows, columns = np.nonzero(draw_map(clip, moment) == index + 1)
    width, height = ASPECTS[clip.aspect]
    return float(columns.mean() / width), float(rows.mean() / height)


def moments_within(clip: Clip, question: Question) -> list[float]:
    return [
        moment
        for moment in frame_moments(clip.num_frames, 0.5)
        if question.start <= moment < question.end
    ]


@pytest.mark.parametrize(("aspect", "num_frames"), KINDS)
def test_the_same_seed_draws_the_same_clip(aspect: str, num_frames: int) -> None:
    one, two = clips(aspect, num_frames, 1)[0], clips(aspect, num_frames, 1)[0]
    assert one == two
    np.testing.assert_array_equal(draw_frame(one, 0.5), draw_frame(two, 0.5))


def test_another_seed_draws_another_clip() -> None:
    one, two = clips("square", 2, 2)
    assert one != two


@pytest.mark.parametrize(("aspect", "num_frames"), KINDS)
def test_every_scene_meets_a_sampled_frame(aspect: str, num_frames: int) -> None:
    for clip in clips(aspect, num_frames):
        for phase in (0.0, 0.5, 0.99):
            seen = {clip.scene_at(m)[0] for m in frame_moments(num_frames, phase)}
            assert seen == set(range(len(clip.scenes)))


@pytest.mark.parametrize(("aspect", "num_frames"), KINDS)
def test_shapes_stay_whole_and_apart(aspect: str, num_frames: int) -> None:
    width, height = ASPECTS[aspect]
    for clip in clips(aspect, num_frames):
        for scene in clip.scenes:
            for progress in (0.0, 0.5, 1.0):
                places = [(*shape.center(progress), shape.size / 2) for shape in scene.shapes]
                assert all(r <= x <= width - r and r <= y <= height - r for x, y, r in places)
                for index, (x, y, r) in enumerate(places):
                    for x2, y2, r2 in places[index + 1 :]:
                        assert max(abs(x - x2), abs(y - y2)) >= r + r2


def plates(aspect: str) -> list[Scene]:
    return [scene for clip in clips(aspect, 5) for scene in clip.scenes if scene.plate]


@pytest.mark.parametrize("aspect", ASPECTS)
def test_plates_lie_inside_one_patch_that_survives_unpadding(aspect: str) -> None:
    geometry, patch_size = geometry_of(aspect), GEOMETRY.patch_size
    (first_row, first_column), (above, left) = first_patch(geometry), geometry.padding
    for scene in plates(aspect):
        plate = scene.plate
        assert plate is not None
        column = (plate.x + left) // patch_size
        row = (plate.y + above) // patch_size
        assert (plate.x + left + 8) // patch_size == column
        assert (plate.y + above + 6) // patch_size == row
        assert first_column <= column < first_column + geometry.columns
        assert first_row <= row < first_row + geometry.rows


@pytest.mark.parametrize("aspect", ASPECTS)
def test_pictures_are_cut_alike_at_every_scale(aspect: str) -> None:
    width, height = ASPECTS[aspect]
    geometry = geometry_of(aspect)
    assert [GEOMETRY.frame(scale * height, scale * width) for scale in (2, 4)] == [geometry] * 2
    assert (geometry.num_tiles, geometry.resized) == (5, (height, width))


def test_numbers_can_be_read_off_the_picture() -> None:
    found = asked("number")
    assert found
    for clip, question in found:
        moment = (question.start + question.end) / 2
        places = draw_map(clip, moment) == PLATE_ID
        rows, columns = np.nonzero(places)
        top, left = int(rows.min()), int(columns.min())
        lit = draw_frame(clip, moment, 1)[top : top + 7, left : left + 9, 0] > 128
        read = "".join(
            character
            for start in (1, 5)
            for character in CHARACTERS
            if np.array_equal(lit[1:6, start : start + 3], glyph(character))
        )
        assert read == question.answer


def test_counts_are_of_what_is_drawn() -> None:
    found = asked("count")
    assert found
    for clip, question in found:
        drawn = set(np.unique(draw_map(clip, 0.5)).tolist()) - {0, PLATE_ID}
        assert question.answer == COUNTS[len(drawn)]


@pytest.mark.parametrize(
    ("type_", "axis", "answers"), [("side", 0, ("left", "right")), ("height", 1, ("top", "bottom"))]
)
def test_places_hold_in_every_frame(type_: str, axis: int, answers: tuple[str, str]) -> None:
    found = asked(type_)
    assert {question.answer for _, question in found} == set(answers)
    for clip, question in found:
        color = next(word for word in question.text.split() if word in COLOR_WORDS)
        for moment in moments_within(clip, question):
            place = center(clip, moment, color)[axis]
            assert question.answer == answers[int(place > 0.5)]


def test_motion_is_seen_between_the_first_and_the_last_frame() -> None:
    found = asked("motion")
    assert {question.answer for _, question in found} == {"left", "right", "up", "down"}
    for clip, question in found:
        color = next(word for word in question.text.split() if word in COLOR_WORDS)
        moments = moments_within(clip, question)
        (x0, y0), (x1, y1) = (center(clip, moments[i], color) for i in (0, -1))
        dx, dy = x1 - x0, y1 - y0
        across, down = ("left", "right")[int(dx > 0)], ("up", "down")[int(dy > 0)]
        assert question.answer == (across if abs(dx) > abs(dy) else down)
        assert max(abs(dx), abs(dy)) > 0.12


def test_order_is_the_order_of_the_scenes() -> None:
    found = asked("order")
    assert found
    for clip, question in found:
        shown = [shape.color for scene in clip.scenes for shape in scene.shapes]
        first, second = [word for word in question.text.split() if word in COLOR_WORDS]
        earlier = first if shown.index(first) < shown.index(second) else second
        assert question.answer == earlier
        assert first < second


def test_parts_contain_the_middle_of_what_they_name() -> None:
    found = asked("when")
    assert {question.answer for _, question in found} == {"beginning", "middle", "end"}
    for _, question in found:
        middle = (question.start + question.end) / 2
        assert question.answer == ("beginning", "middle", "end")[int(middle * 3)]


def test_first_and_last_numbers_are_the_ends_of_the_list() -> None:
    for clip, question in [*asked("first"), *asked("last")]:
        numbers = [s.plate.text for s in clip.scenes if s.plate and s.plate.is_number]
        assert question.answer == numbers[{"first": 0, "last": -1}[question.type]]
        assert len(numbers) > 1


COLOR_WORDS = {"red", "green", "blue", "yellow", "orange", "purple", "white", "cyan"}
