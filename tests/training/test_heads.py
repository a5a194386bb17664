"""What training asks the tokens: of the base, of tiles, and behind the last picture."""

import math

import pytest
import torch

from training.draw import FIRST_ID
from training.forward import Prefix
from training.glyphs import CHARACTERS
from training.heads import SequenceHeads, VisionHeads
from training.labels import FIRST_HALF, IGNORE, NO_SHAPE, NOTHING, SECOND_HALF
from training.language_stage import _dense
from training.scene import COLORS
from training.sequence_labels import SEEN

UNREADABLE = len(CHARACTERS)


def saying(classes: dict[tuple[int, int], int]) -> torch.Tensor:
    """Features (1, 5, 64, classes) of tokens that say some class."""
    features = torch.zeros(1, 5, 64, UNREADABLE + 1)
    for place, number in classes.items():
        features[(0, *place, number)] = 10.0
    return features


def vision_loss(classes: dict[tuple[int, int], int]) -> float:
    """The loss where half a plate is at the first token of the base and of a tile, and says "1"."""
    torch.manual_seed(0)
    heads = VisionHeads(UNREADABLE + 1)
    for head in heads.children():
        assert isinstance(head, torch.nn.Linear)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    torch.nn.init.eye_(heads.character.weight)
    nothing = torch.full((1, 5, 64), IGNORE)
    labels = {name: nothing.clone() for name in ("item", "character", "x", "y")}
    labels |= {
        "color": torch.full((1, 5, 64), NOTHING),
        "shape": torch.full((1, 5, 64), NO_SHAPE),
    }
    labels["color"][0, :2, 0] = FIRST_HALF
    labels["color"][0, 0, 1] = SECOND_HALF
    labels["character"][0, 1, 0] = CHARACTERS.index("1")
    with torch.no_grad():
        return float(heads(saying(classes), labels)[0])


def test_a_plate_is_read_in_tiles_and_like_no_character_in_the_base() -> None:
    one, two = CHARACTERS.index("1"), CHARACTERS.index("2")
    right = {(0, 0): UNREADABLE, (0, 1): UNREADABLE, (1, 0): one}
    least = vision_loss(right)
    assert vision_loss(right | {(0, 0): one}) > least + 4
    assert vision_loss(right | {(0, 1): two}) > least + 4
    assert vision_loss(right | {(1, 0): UNREADABLE}) > least + 9
    assert vision_loss(right | {(0, 2): one}) == pytest.approx(least)  # no plate


def test_the_mean_of_two_colours_is_to_say_both_and_no_third() -> None:
    red, orange, yellow = map(list(COLORS).index, ("red", "orange", "yellow"))
    features = torch.zeros(2, 5, 64, UNREADABLE + 1)
    labels = {name: torch.full((2, 5, 64), IGNORE) for name in ("item", "character", "x", "y")}
    labels |= {
        "color": torch.full((2, 5, 64), NOTHING),
        "shape": torch.full((2, 5, 64), NO_SHAPE),
    }
    for picture, color in enumerate((red, yellow)):
        labels["color"][picture, 1, 7] = color
        features[picture, 1, 7, color] = 20.0

    def told(between: float) -> tuple[float, float]:
        heads = VisionHeads(features.shape[-1])
        for weight in heads.parameters():
            torch.nn.init.zeros_(weight)
        torch.nn.init.eye_(heads.color.weight)
        heads.color.weight.data[orange, [red, yellow]] = between
        with torch.no_grad():
            loss, figures = heads(features, labels)
        assert float(figures["color_high"]) == 1
        return float(loss), float(figures["color_mixed"])

    (least, right), (most, wrong) = told(0.0), told(0.8)
    assert (right, wrong) == (1, 0)
    assert most > least + 5


def test_behind_a_clip_its_length_is_told_as_pictures_tell_the_frames_before_them() -> None:
    heads = SequenceHeads(4)
    states = torch.randn(7, 4)
    with torch.no_grad():
        loss, figures = heads.length(states, 16)
        told = heads.log_frame(states)[:, 0]
    miss = sum(abs(each - math.log(16)) for each in told.tolist()) / 7
    assert float(figures["length_miss"]) == pytest.approx(miss, rel=1e-5)
    assert float(loss) == pytest.approx(2 * miss, rel=1e-5)


def test_tokens_that_show_something_count_as_much_as_all_others_in_their_frame() -> None:
    heads = SequenceHeads(1)
    for weight in heads.parameters():
        torch.nn.init.zeros_(weight)
    torch.nn.init.ones_(heads.log_frame.weight)
    labels = {name: torch.full((8,), IGNORE) for name in (*SEEN, "num_shapes")}
    labels |= {"is_base": torch.zeros(8, dtype=torch.int64), "log_frame": torch.zeros(8)}
    labels["item"] = torch.tensor([-1, -1, IGNORE, -1, -1, IGNORE, 2, FIRST_ID])

    def losses(told: torch.Tensor) -> list[float]:
        with torch.no_grad():
            loss, figures = heads(told[:, None], labels)
        return [float(loss), *(float(figures[f"{n}_frame_miss"]) for n in ("token", "shown"))]

    least, *_ = losses(torch.zeros(8))
    assert losses(torch.eye(8)[6]) == pytest.approx([least + 2 / 2, 1 / 8, 1 / 2])
    assert losses(torch.eye(8)[2]) == pytest.approx([least + 2 / 6, 1 / 8, 0])


def test_shapes_are_counted_where_the_whole_frame_has_been_seen() -> None:
    num_frames = 2
    tokens = torch.tensor([-1, *range(64), *range(64, 70), -1, *range(70, 76)])
    prefix = Prefix(
        embeds=torch.empty(0),
        frame=torch.arange(num_frames).repeat_interleave(len(tokens)),
        token=tokens.repeat(num_frames),
    )
    probed = torch.randn(3, len(prefix.token), 8)
    batch = {name: torch.zeros(3, num_frames, 5, 64, dtype=torch.int64) for name in SEEN}
    batch["num_shapes"] = torch.tensor([[1, 2], [3, 4], [2, 1]])
    states, labels = _dense(prefix, probed, batch)
    counted = labels["num_shapes"].view(3, num_frames, 76)
    assert (counted[..., :64] == IGNORE).all()
    assert (counted[..., 64:] == batch["num_shapes"][..., None]).all()
    assert torch.equal(states[76], probed[0, len(tokens) + 1])
    last = labels["log_frame"].view(3, num_frames, 76)[:, -1]
    assert last.unique().tolist() == pytest.approx([math.log(num_frames)])
