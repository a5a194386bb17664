import numpy as np
import pytest

from training.canvas import ASPECTS, geometry_of
from training.compose import Recipe, compose_clip
from training.draw import FIRST_ID, SECOND_ID, draw_frame, frame_moments
from training.glyphs import CHARACTERS
from training.labels import (
    FIRST_HALF,
    IGNORE,
    NO_SHAPE,
    NOTHING,
    NUM_BINS,
    SECOND_HALF,
    STILL,
    label_tokens,
)
from training.scene import COLORS, DIRECTIONS, Clip
from training.sequence_labels import sequence_labels
from workers.vision.tiles import cut_tiles


def clip(aspect: str, num_frames: int, seed: int = 0) -> Clip:
    return compose_clip(np.random.default_rng(seed), aspect, num_frames, Recipe())


@pytest.mark.parametrize("aspect", ASPECTS)
def test_every_shape_and_plate_has_tokens(aspect: str) -> None:
    for seed in range(10):
        drawn = clip(aspect, 1, seed)
        scene, labels = drawn.scenes[0], label_tokens(drawn, 0.5)
        # In the base a ring may cover too little of each of four patches.
        assert set(range(len(scene.shapes))) <= set(labels.item[1:].ravel().tolist())
        for half, place in ((FIRST_ID, 0), (SECOND_ID, 1)):
            read = labels.character[labels.item == half]
            written = {CHARACTERS.index(scene.plate.text[place])} if scene.plate else set()
            assert set(read[read != IGNORE].tolist()) == written
        assert (labels.character[0] == IGNORE).all()


@pytest.mark.parametrize("aspect", ASPECTS)
def test_labelled_colors_are_in_the_pixels(aspect: str) -> None:
    for seed in range(10):
        drawn = clip(aspect, 1, seed)
        labels = label_tokens(drawn, 0.5)
        tiles = cut_tiles(draw_frame(drawn, 0.5), geometry_of(aspect)).astype(float)
        patches = tiles.reshape(5, 8, 7, 8, 7, 3).swapaxes(2, 3).reshape(5, 64, 49, 3)
        for index, shape in enumerate(drawn.scenes[0].shapes):
            here = labels.item == index
            assert set(labels.color[here].tolist()) == {list(COLORS).index(shape.color)}
            nearest = np.abs(patches[here] - np.array(shape.rgb)).max(-1).min(-1)
            assert (nearest < 60).all()


def test_what_is_not_a_shape_has_no_place_and_no_motion() -> None:
    drawn = clip("4:3", 1)
    labels = label_tokens(drawn, 0.5)
    off = np.isin(labels.color, [NOTHING, FIRST_HALF, SECOND_HALF])
    for values in (labels.x, labels.y, labels.motion):
        assert (values[off] == IGNORE).all()
    assert set(labels.shape[labels.item == -1].tolist()) == {NO_SHAPE}


@pytest.mark.parametrize("seed", range(8))
def test_a_moving_shape_changes_its_place_the_way_it_is_labelled(seed: int) -> None:
    drawn = clip("square", 6, seed)
    moments = frame_moments(6, 0.5)
    labels = sequence_labels(drawn, moments)
    for frame in range(1, 6):
        _, scene = drawn.scene_at(moments[frame])
        motion = labels["motion"][frame]
        directions = {s.direction for s in scene.shapes}
        known = {(*DIRECTIONS, None)[value] for value in motion[motion != IGNORE].tolist()}
        assert known <= directions
    assert (labels["motion"][0] == IGNORE).all()
    assert labels["x"].max() < NUM_BINS
    assert labels["motion"].max() <= STILL


def test_numbers_are_ranked_in_the_order_they_come() -> None:
    seen: set[int] = set()
    for seed in range(20):
        drawn, moments = clip("square", 6, seed), frame_moments(6, 0.5)
        labels = sequence_labels(drawn, moments)["number_rank"]
        numbers: list[str] = []
        for moment, row in zip(moments, labels, strict=True):
            plate = drawn.scene_at(moment)[1].plate
            values = set(row[row != IGNORE].tolist())
            shown = [plate.text] if plate and plate.is_number else []
            numbers += [text for text in shown if text not in numbers]
            assert values == {numbers.index(text) for text in shown}
            seen |= values
    assert {0, 1, 2} <= seen


def test_a_shape_is_new_where_no_earlier_frame_shows_it() -> None:
    again = 0
    for seed in range(20):
        drawn, moments = clip("square", 6, seed), frame_moments(6, 0.5)
        labels = sequence_labels(drawn, moments)
        shown: list[int] = []
        for frame, moment in enumerate(moments):
            scene, _ = drawn.scene_at(moment)
            new, item = labels["is_new"][frame], labels["item"][frame]
            on_shape = (item >= 0) & (item < FIRST_ID)
            assert set(new[on_shape].tolist()) <= {int(scene not in shown)}
            assert (new[~on_shape] == IGNORE).all()
            again += scene in shown[:-1] and shown[-1] != scene
            shown.append(scene)
    assert again  # a scene that comes back shows nothing new
