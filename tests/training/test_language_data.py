import re
from dataclasses import fields

import numpy as np
import torch

from training.canvas import ASPECTS, geometry_of
from training.compose import Recipe
from training.curriculum import Curriculum
from training.draw import FIRST_ID, SECOND_ID
from training.forward import Passage, Prefix
from training.glyphs import CHARACTERS
from training.guides import SIGN_OF_HEAD, look_loss, name_loss, time_loss
from training.labels import IGNORE, NUM_BINS
from training.language_data import aspects_of, clips_batch, language_batch
from training.looks import NAMED, WRITTEN
from training.questions import TIMED, TYPES
from training.scene import COLORS, SHAPES
from training.words import build_processor

TEXT = Recipe(max_shapes=2, plate_chance=1.0, code_chance=0.0, min_scenes=2, back_and_forth=0.0)
TOKENIZER = build_processor().tokenizer
NOTHING = torch.empty(0)


def batch_of_text(seed: int, *, timed: bool = False) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return clips_batch(TOKENIZER, generator, 6, 5, "square", 12, TEXT, timed=timed)


def test_the_first_number_is_read_before_the_last() -> None:
    batch = batch_of_text(0)
    reads, types = batch["reads"], batch["types"]
    frames = np.arange(reads.shape[-1])
    for clip in range(6):
        (first,), (last,) = (reads[clip, types[clip] == TYPES.index(t)] for t in ("first", "last"))
        assert frames[first].max() < frames[last].min()
        plates = (batch["character"][clip] != IGNORE).any((1, 2))
        assert plates[first].all()
        assert plates[last].all()
    looked_up = np.isin(types, [TYPES.index(name) for name in (*WRITTEN, *NAMED)])
    assert reads[looked_up].any(-1).all()
    assert not reads[~looked_up].any()


def test_answers_that_are_looked_up_are_where_they_are_sought() -> None:
    batch = batch_of_text(2, timed=True)
    asked = np.argwhere(np.isin(batch["types"], [TYPES.index(t) for t in (*WRITTEN, *TIMED)]))
    assert {TYPES[batch["types"][tuple(place)]] for place in asked} >= {"appear", "leave", "first"}
    for clip, row in asked.tolist():
        at = np.flatnonzero(batch["labels"][clip, row] != IGNORE)
        said = TOKENIZER.decode(batch["labels"][clip, row, at[:-1]])
        is_text = TYPES[batch["types"][clip, row]] in WRITTEN
        signs = said.strip() if is_text else re.findall(r"\d+\.|\d", said)
        for place, sign in zip(at[1:-1], signs, strict=True):
            found = batch["item"][clip] == batch["sought"][clip, row, place]
            found &= batch["reads"][clip, row][:, None, None]
            assert found.any()
            if is_text:
                read = batch["character"][clip][found]
                assert set(read.tolist()) == {CHARACTERS.index(sign)}
            else:
                (frame,) = np.flatnonzero(batch["reads"][clip, row])
                assert TOKENIZER.decode(batch["stamp"][frame]) == said.strip()
        assert batch["sought"][clip, row, at[-1]] == IGNORE


def test_a_shape_that_is_asked_about_is_sought_where_it_is_seen() -> None:
    batch = batch_of_text(2)
    for type_, axis, halves in (
        ("side", "x", ("left", "right")),
        ("height", "y", ("top", "bottom")),
    ):
        asked = np.argwhere(batch["types"] == TYPES.index(type_)).tolist()
        assert asked
        for clip, row in asked:
            at = np.flatnonzero(batch["labels"][clip, row] != IGNORE)
            said = TOKENIZER.decode(batch["labels"][clip, row, at[:-1]]).strip()
            (item,) = set(batch["sought"][clip, row, at[:-1]].tolist())
            found = (batch["item"][clip] == item) & batch["reads"][clip, row][:, None, None]
            places = set(batch[axis][clip][found].tolist())
            assert places
            assert {place >= NUM_BINS // 2 for place in places} == {said == halves[1]}


def test_looking_where_it_is_costs_nothing_and_elsewhere_much() -> None:
    arrays = batch_of_text(1, timed=True)
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    num_frames = batch["reads"].shape[-1]
    prefix = Prefix(
        embeds=torch.empty(0),
        frame=torch.cat([torch.tensor([-1]), torch.arange(num_frames).repeat_interleave(320)]),
        token=torch.cat([torch.tensor([-1]), torch.arange(320).repeat(num_frames)]),
    )
    sought = batch["sought"][..., None] == batch["item"].flatten(1)[:, None, None]
    sought &= batch["reads"].repeat_interleave(320, dim=2)[:, :, None]
    right = torch.cat([torch.zeros(*sought.shape[:-1], 1), sought.float()], dim=-1)
    right = right / right.sum(-1, keepdim=True).clamp(min=1)
    number = (batch["labels"] != IGNORE).cumsum(-1) - 1
    signs = torch.tensor([*SIGN_OF_HEAD, -1, -1, -1])  # of six heads
    own_head = (signs[:, None, None] == number[:, None] - 1)[..., None]
    of_times = right[:, None] * own_head

    def losses(looks: torch.Tensor, times: torch.Tensor) -> list[float]:
        passage = Passage(
            hidden=NOTHING, probed=NOTHING, asked=NOTHING,
            looks=looks[:, None].expand(-1, 6, -1, -1, -1), time_looks=times,
            rows=NOTHING, looked_at=NOTHING, sizes=NOTHING, names=NOTHING, seen_from=NOTHING,
        )  # fmt: skip
        return [float(loss) for loss in look_loss(prefix, passage, batch)]

    assert {FIRST_ID, SECOND_ID} <= set(batch["sought"].unique().tolist())
    assert np.isin(arrays["types"], [TYPES.index(name) for name in TIMED]).any()
    nothing, none_of_times = torch.zeros_like(right), torch.zeros_like(of_times)
    assert max(map(abs, losses(right, of_times))) < 1e-3
    assert losses(nothing, of_times)[0] > 9
    assert abs(losses(nothing, of_times)[1]) < 1e-3
    assert abs(losses(right, none_of_times)[0]) < 1e-3
    assert losses(right, none_of_times)[1] > 9
    assert 0.5 < losses(right / 2, of_times)[0] < 0.8


def test_the_words_that_name_things_are_marked_and_looked_at_while_the_answer_is_said() -> None:
    arrays = batch_of_text(1, timed=True)
    ids, named = arrays["ids"], arrays["named"]
    words, both = set(), False
    for clip, row in np.argwhere(arrays["types"] >= 0).tolist():
        end = np.flatnonzero(arrays["labels"][clip, row] != IGNORE)[0]
        asked = re.findall(r"\w+", TOKENIZER.decode(ids[clip, row, :end]))
        names = [word for word in (*COLORS, *SHAPES) if word in asked]
        marked = TOKENIZER.decode(ids[clip, row, named[clip, row]]).split()
        assert sorted(marked) == sorted(names)
        words |= {*marked}
        both |= len(marked) == 2
    assert words & {*COLORS}
    assert words & {*SHAPES}
    assert both

    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    mean = batch["named"] / batch["named"].sum(-1, keepdim=True).clamp(min=1)
    right = mean[:, None, :, None].expand(-1, 6, -1, ids.shape[-1], -1)
    last = batch["named"] & (batch["named"].flip(-1).cumsum(-1).flip(-1) == 1)
    one_only = last[:, None, :, None].expand(-1, 6, -1, ids.shape[-1], -1).float()

    def loss(names: torch.Tensor) -> float:
        known = {field.name: NOTHING for field in fields(Passage)}
        return float(name_loss(Passage(**known | {"names": names}), batch))

    assert abs(loss(right)) < 1e-3
    assert 0.6 < loss(right / 2) < 0.8
    assert loss(right.roll(1, -1)) > 9
    assert loss(one_only) > 0.3


def test_each_sign_of_a_time_is_told_by_heads_of_its_own() -> None:
    prefix = Prefix(
        embeds=torch.empty(0), frame=torch.tensor([-1, 0, 0, 1]), token=torch.tensor([-1, 0, -1, 0])
    )
    found = torch.tensor([[False, False, False, True]] * 3)
    number = torch.tensor([0, 1, 2])
    right = torch.zeros(3, 6, 4)
    right[1, [0, 2], 3] = right[2, 1, 3] = 1.0
    assert abs(float(time_loss(right, found, number, prefix))) < 1e-3
    right[0] = torch.rand(6, 4)  # of the space before the first sign: it is no head's
    assert abs(float(time_loss(right, found, number, prefix))) < 1e-3
    other, early, swapped = right.clone(), right.clone(), right.clone()
    other[1, 3, 1] = 0.5
    early[2, 1] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    swapped[1:] = right[1:].flip(0)
    assert 0.05 < float(time_loss(other, found, number, prefix)) < 0.1
    assert float(time_loss(early, found, number, prefix)) > 3
    assert float(time_loss(swapped, found, number, prefix)) > 9


def test_prompts_with_timestamps_have_times_to_tell() -> None:
    for timed in (False, True):
        batch = batch_of_text(3, timed=timed)
        types = {TYPES[number] for number in np.unique(batch["types"]) if number >= 0}
        assert bool(types & set(TIMED)) == timed
        assert batch["stamp"].shape == (5, 2)
        assert (batch["stamp"] == IGNORE).all() == (not timed)
        texts = [TOKENIZER.decode(row[row >= 0]) for row in batch["segments"]]
        assert all(("s]" in text) == timed for text in texts)


def test_questions_to_tokens_half_way_up_count_more_from_a_step_on() -> None:
    curriculum = Curriculum(
        mixtures=((0, {1: 1.0}),), dense_weights=((0, 0.25), (3, 1.0)), tokens_per_batch=300
    )
    batches = [language_batch(TOKENIZER, curriculum, 0, step) for step in (0, 2, 3)]
    assert [float(batch["dense_weight"]) for batch in batches] == [0.25, 0.25, 1.0]


def test_long_clips_are_wide_or_tall_since_those_have_the_fewest_tokens() -> None:
    fewest = sorted(ASPECTS, key=lambda aspect: geometry_of(aspect).num_tokens)[:2]
    assert set(aspects_of(32)) == set(fewest)
    assert aspects_of(16) == tuple(ASPECTS)
