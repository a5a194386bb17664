from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from training.canvas import ASPECTS, GEOMETRY, geometry_of
from training.compose import Recipe, compose_clip
from training.draw import FIRST_ID, draw_frame, draw_map, frame_moments
from training.glyphs import CHARACTERS, glyph
from training.labels import IGNORE
from training.looks import reads_of, seen_in
from training.questions import COUNTS, Question, questions_of
from training.scene import DIRECTIONS, Clip
from training.sequence_labels import sequence_labels

KINDS = [(aspect, frames) for aspect in ASPECTS for frames in (1, 2, 5)]


@cache
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
        for question in questions_of(clip, timed=True)
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
    assert question.scene is not None
    scene = clip.scenes[question.scene]
    return [moment for moment in frame_moments(clip.num_frames, 0.5) if scene.shows(moment)]


@pytest.mark.parametrize(("aspect", "num_frames"), KINDS)
def test_the_same_seed_draws_the_same_clip(aspect: str, num_frames: int) -> None:
    one, two = (clips.__wrapped__(aspect, num_frames, 1)[0] for _ in range(2))
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
def test_shapes_are_seen_whole_and_apart(aspect: str, num_frames: int) -> None:
    width, height = ASPECTS[aspect]
    for clip in clips(aspect, num_frames):
        for moment in frame_moments(4 * num_frames, 0.5):
            _, scene = clip.scene_at(moment)
            looks = [scene.look(shape, moment) for shape in scene.shapes]
            places = [(look.x, look.y, look.size / 2) for look in looks]
            # Between the places where a path was looked at a zoom bends it a little.
            assert all(x - r >= -1 and x + r <= width + 1 for x, _, r in places)
            assert all(y - r >= -1 and y + r <= height + 1 for _, y, r in places)
            for index, (x, y, r) in enumerate(places):
                for x2, y2, r2 in places[index + 1 :]:
                    assert max(abs(x - x2), abs(y - y2)) >= r + r2 - 1


@pytest.mark.parametrize("aspect", ASPECTS)
def test_each_character_of_a_plate_lies_inside_one_patch_that_survives_unpadding(
    aspect: str,
) -> None:
    geometry, (above, left) = geometry_of(aspect), geometry_of(aspect).padding
    first = [(16 - number) // 2 for number in (geometry.rows, geometry.columns)]
    plates = [scene.plate for clip in clips(aspect, 5) for scene in clip.scenes if scene.plate]
    assert plates
    for plate in plates:
        rows = {(plate.y + above + plate.row + at) // GEOMETRY.patch_size for at in (0, 4)}
        columns = [
            {(plate.x + left + column + at) // GEOMETRY.patch_size for at in (0, 2)}
            for column in plate.columns
        ]
        assert len(rows) == len(columns[0]) == len(columns[1]) == 1
        assert columns[0] != columns[1]
        assert first[0] <= min(rows) < first[0] + geometry.rows
        assert all(first[1] <= min(c) < first[1] + geometry.columns for c in columns)
        assert plate.x >= 0
        assert plate.x + plate.width <= ASPECTS[aspect][0]
        assert 0 <= plate.y <= ASPECTS[aspect][1] - 7


def test_clips_are_drawn_as_those_that_the_checkpoint_was_measured_on() -> None:
    clip = compose_clip(np.random.default_rng([31, 3, 0, 0]), "16:9", 8, Recipe(max_shapes=3))
    # Scenery, seen by a moving camera, in scenes that are cut back and forth; and a plate.
    assert draw_frame(clip, 0.4).sum() == pytest.approx(5_846_328, rel=1e-5)
    answers = [question.answer for question in questions_of(clip, timed=True)]
    assert answers[:6] == ["white", "cross", "star", "cross", "97", "left"]
    assert answers[6:] == ["left", "up", "up", "purple", "purple", "14.1", "2.3", "2.3"]


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
        moment = moments_within(clip, question)[0]
        assert question.scene is not None
        plate = clip.scenes[question.scene].plate
        assert plate is not None
        rows, columns = np.nonzero(draw_map(clip, moment) >= FIRST_ID)
        assert (columns.min(), rows.min()) == (plate.x, plate.y)
        lit = draw_frame(clip, moment, 1)[plate.y + plate.row :, plate.x :, 0][:5] > 128
        read = "".join(
            character
            for start in plate.columns
            for character in CHARACTERS
            if np.array_equal(lit[:, start : start + 3], glyph(character))
        )
        assert read == question.answer


def test_counts_are_of_what_is_drawn() -> None:
    found = asked("count")
    assert found
    for clip, question in found:
        drawn = set(np.unique(draw_map(clip, 0.5)).tolist()) - {0, 254, 255}
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


def test_the_way_it_moves_is_looked_for_where_every_token_can_know_it() -> None:
    cut_apart = 0
    for clip, question in asked("motion"):
        moments = frame_moments(clip.num_frames, 0.5)
        shows = np.array([clip.scene_at(moment)[0] == question.scene for moment in moments])
        reads = reads_of(question, clip, moments)
        assert np.flatnonzero(reads).tolist() == np.flatnonzero(shows)[1:].tolist()
        labels = sequence_labels(clip, moments)
        known, unknown = (
            set(labels["motion"][frames][labels["item"][frames] == question.item].tolist())
            for frames in (reads, shows & ~reads)
        )
        assert known == {DIRECTIONS.index(question.answer)}
        assert unknown == {IGNORE}
        cut_apart += not (shows[1:] & shows[:-1]).any()
    assert cut_apart  # seen with another scene between alone


def colors_in(question: Question) -> list[str]:
    return [word for word in question.text.split() if word in COLOR_WORDS]


def shown_at(clip: Clip, moment: float) -> set[str]:
    return {shape.color for shape in clip.scene_at(moment)[1].shapes}


def test_order_is_that_in_which_frames_first_show_them() -> None:
    found = asked("order")
    assert found
    for clip, question in found:
        first, second = colors_in(question)
        shown = [shown_at(clip, moment) for moment in frame_moments(clip.num_frames, 0.5)]
        seen = [next(i for i, s in enumerate(shown) if color in s) for color in (first, second)]
        assert question.answer == (first if seen[0] < seen[1] else second)
        assert first < second


def test_what_came_first_is_looked_for_before_the_other_is_seen() -> None:
    seen_again = 0
    for clip, question in asked("order"):
        moments = frame_moments(clip.num_frames, 0.5)
        shown = [shown_at(clip, moment) for moment in moments]
        (other,) = {*colors_in(question)} - {question.answer}
        frames = np.flatnonzero(reads_of(question, clip, moments)).tolist()
        first = next(i for i, colors in enumerate(shown) if question.answer in colors)
        assert frames == list(range(first, frames[-1] + 1))
        assert all(question.answer in shown[i] and other not in shown[i] for i in frames)
        later = shown[frames[-1] + 1 :]
        assert not later or question.answer not in later[0]
        seen_again += any(question.answer in colors for colors in later)
    assert seen_again


def test_parts_contain_the_middle_of_what_they_name() -> None:
    found = asked("when")
    assert {question.answer for _, question in found} == {"beginning", "middle", "end"}
    for _, question in found:
        middle = (question.start + question.end) / 2
        assert question.answer == ("beginning", "middle", "end")[int(middle * 3)]


@pytest.mark.parametrize("num_frames", [1, 4, 8, 16, 32])
def test_what_is_asked_has_one_answer(num_frames: int) -> None:
    for clip in clips("16:9", num_frames, 150):
        answers = defaultdict(set)
        for question in questions_of(clip, timed=True):
            answers[question.text].add(question.answer)
        assert all(len(given) == 1 for given in answers.values())


def test_first_and_last_numbers_are_what_the_first_and_last_plates_say() -> None:
    found = [*asked("first"), *asked("last")]
    assert found
    for clip, question in found:
        scenes = [clip.scene_at(moment)[1] for moment in frame_moments(clip.num_frames, 0.5)]
        numbers = [s.plate.text for s in scenes if s.plate and s.plate.is_number]
        assert question.answer == numbers[{"first": 0, "last": -1}[question.type]]
        assert len(set(numbers)) > 1


@pytest.mark.parametrize("phase", [0.0, 0.5, 0.99])
def test_times_are_those_of_the_first_and_last_frames_that_show_it(phase: float) -> None:
    found = [*asked("appear"), *asked("leave")]
    assert {question.type for _, question in found} == {"appear", "leave"}
    for clip, question in found:
        (color,) = colors_in(question)
        moments = frame_moments(clip.num_frames, phase)
        shown = [moment for moment in moments if color in shown_at(clip, moment)]
        seconds = shown[{"appear": 0, "leave": -1}[question.type]] * clip.duration_seconds
        later = [moment * clip.duration_seconds + 90 for moment in moments]
        assert seen_in(question, clip, moments, later).answer == f"{seconds + 90:.1f}"
        assert abs(float(question.answer) - seconds) <= question.tolerance
        assert question.tolerance < 0.5 * clip.duration_seconds


def test_scenes_come_back_and_the_moving_go_on_where_they_were() -> None:
    returning = [
        (clip, scene)
        for clip in clips("4:3", 12, 40)
        for scene in clip.scenes
        if len(scene.shots) > 1
    ]
    assert len(returning) > 10
    for clip, scene in returning:
        for (_, end), (start, _) in zip(scene.shots, scene.shots[1:], strict=False):
            assert scene.progress(start) == pytest.approx(scene.progress(end))
            assert clip.scene_at((start + end) / 2)[1] is not scene
        assert scene.progress(scene.end) == pytest.approx(1.0)
    assert all(len(set(map(id, clip.shown()[i : i + 2]))) == 2 for clip, _ in returning
               for i in range(len(clip.shown()) - 1))  # fmt: skip


COLOR_WORDS = {"red", "green", "blue", "yellow", "orange", "purple", "white", "cyan"}
