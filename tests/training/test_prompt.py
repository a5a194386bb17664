from dataclasses import fields
from itertools import product

import numpy as np
import pytest
import torch

from training import attention
from training.canvas import ASPECTS, geometry_of
from training.compose import Recipe
from training.forward import Passage, Prefix, embed_prefix, run_language, token_order
from training.guides import SIGN_OF_HEAD, copy_loss, sign_places, some_tokens, stamp_loss
from training.labels import IGNORE
from training.language_data import clips_batch
from training.model import build_model, to_pixel_values
from training.prompts import Prompts, near_signs, prompts_of
from training.scene import COLORS, DIRECTIONS, SHAPES
from training.words import build_processor, single_token
from workers.vision.normalize import Normalization, normalize

SIZES = {name: (2 * width, 2 * height) for name, (width, height) in ASPECTS.items()}


def test_pixel_values_are_what_the_checkpoint_is_asked_with() -> None:
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).T.reshape(1, 16, 16, 3)
    expected = normalize(levels, Normalization(), torch.float32)
    torch.testing.assert_close(to_pixel_values(levels), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("text", ["what color is the circle?", "?", "which came first?", "47?"])
def test_the_parts_of_a_prompt_are_the_processors(text: str) -> None:
    processor = build_processor()
    content = [{"type": "image"}] * 3 + [{"type": "text", "text": text}]
    whole = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    expected = processor.tokenizer(whole, add_special_tokens=False)["input_ids"]
    prompts = prompts_of(processor.tokenizer)
    assert (
        prompt_of(prompts, processor.image_token_id, 3, None) + prompts.question(text) == expected
    )


def prompt_of(
    prompts: Prompts, image: int, num_frames: int, times: list[float] | None
) -> list[int]:
    """Return the ids of a prompt up to the last picture, one for each picture."""
    rows = prompts.segments(num_frames, times)
    return [token for row in rows for token in (*row[row >= 0].tolist(), image)]


def test_timestamps_stand_before_their_pictures() -> None:
    processor = build_processor()
    prompts = prompts_of(processor.tokenizer)
    ids = prompt_of(prompts, processor.image_token_id, 2, [9.96, 120.04])
    text = processor.tokenizer.decode(ids)
    assert text == "<s>USER: [10.0s] <image>\n[120.0s] <image>"
    # All timestamps have the same number of tokens, whole seconds with the point in one.
    (stamp,) = (row[row >= 0] for row in prompts.segments(2, [9.96, 120.04])[1:])
    pieces = [processor.tokenizer.decode(piece) for piece in stamp]
    assert pieces == ["\n", "[", "120.", "0", "s] "]
    told = processor.tokenizer.batch_decode(prompts.stamps(2, [9.96, 120.04]))
    assert told == ["10.0", "120.0"]
    assert (prompts.stamps(2, None) == IGNORE).all()


@pytest.mark.parametrize(
    ("told", "near"),
    [
        ("5", "0 1 2 3 4 5 6 7 8 9"),
        ("0.", "0. 1. 2. 3. 4. 5. 6. 7. 8. 9. 10. 20. 30. 40. 50. 60. 70. 80. 90."),
        ("20.", "0. 10. 20. 21. 22. 23. 24. 25. 26. 27. 28. 29. 30. 40. 50. 60. 70. 80. 90. "
         "120. 220. 320. 420. 520. 620. 720. 820. 920."),
        ("413.", "13. 113. 213. 313. 403. 410. 411. 412. 413. 414. 415. 416. 417. 418. 419. 423. "
         "433. 443. 453. 463. 473. 483. 493. 513. 613. 713. 813. 913."),
    ],
)  # fmt: skip
def test_a_sign_s_neighbours_differ_by_one_digit_and_are_written_as_times_are(
    told: str, near: str
) -> None:
    assert near_signs(told) == set(near.split())


def test_signs_are_those_of_all_frames_and_their_neighbours() -> None:
    tokenizer = build_processor().tokenizer
    prompts = prompts_of(tokenizer)
    seconds, tenths = prompts.signs(prompts.stamps(3, [9.96, 19.5, 19.54]))
    assert tokenizer.decode(tenths[tenths != IGNORE]) == "0123456789"
    assert (np.diff(seconds) > 0).all()  # in order, and each once
    assert set(tokenizer.convert_ids_to_tokens(seconds)) == near_signs("10.") | near_signs("19.")
    assert prompts.signs(prompts.stamps(3, None)).size == 0


def passage_of(rows: torch.Tensor, **known: torch.Tensor) -> Passage:
    names = {field.name for field in fields(Passage)} - {"rows", *known}
    return Passage(rows=rows, **known, **dict.fromkeys(names, torch.empty(0)))


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("aspect", ASPECTS)
def test_questions_behind_a_shared_prefix_get_what_they_would_get_alone(
    aspect: str, timed: bool
) -> None:
    torch.manual_seed(0)
    tokenizer = build_processor().tokenizer
    model = build_model(
        tokenizer, hidden_size=64, vision_size=32, num_layers=2, num_vision_layers=2
    ).eval()
    generator = np.random.default_rng(0)
    arrays = clips_batch(tokenizer, generator, 2, 2, aspect, 4, Recipe(), timed=timed)
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    attention.register()
    model.model.language_model.set_attn_implementation(attention.NAME)
    with torch.no_grad():
        prefix = embed_prefix(model, batch["tiles"], geometry_of(aspect), batch["segments"])
        rows = some_tokens(prefix, batch["item"])
        passage = run_language(model, prefix, batch["ids"], 1, rows)
    length, seen = prefix.embeds.shape[1], passage.seen_from
    torch.testing.assert_close(seen.sum(-1), torch.ones(seen.shape[:-1]))
    assert not seen[..., torch.arange(length) > rows[:, None]].any()
    of_names = passage.names
    assert of_names.shape == (2, 2, 4, *batch["ids"].shape[-1:] * 2)
    assert not of_names[..., torch.ones(of_names.shape[-2:]).triu(1).bool()].any()
    assert (of_names.sum(-1) < 1).all()  # the rest is on the prefix
    model.set_attn_implementation("sdpa")
    width, height = SIZES[aspect]
    picture = [tokenizer.image_token_id] * geometry_of(aspect).num_tokens
    before = [token for row in arrays["segments"] for token in (*row[row >= 0].tolist(), *picture)]
    ids = batch["ids"][1, 2][batch["ids"][1, 2] != tokenizer.pad_token_id]
    with torch.no_grad():
        alone = model(
            input_ids=torch.tensor([[*before, *ids.tolist()]]),
            pixel_values=to_pixel_values(batch["tiles"][1].flatten(0, 1)).unflatten(0, (2, -1)),
            image_sizes=torch.tensor([[height, width]] * 2),
        ).logits[0, -len(ids) :]
        torch.testing.assert_close(model.lm_head(passage.hidden[1, 2, : len(ids)]), alone)


def test_a_picture_s_tokens_are_to_look_at_its_own_timestamp() -> None:
    tokenizer = build_processor().tokenizer
    arrays = clips_batch(
        tokenizer, np.random.default_rng(2), 1, 3, "square", 4, Recipe(), timed=True
    )
    order = token_order(geometry_of("square"))
    parts = [(row[row >= 0], number) for number, row in enumerate(arrays["segments"])]
    ids = np.concatenate([np.r_[row, np.full(len(order), -1)] for row, _ in parts])
    frame = np.concatenate(
        [np.r_[row * 0 - 1, np.full(len(order), number)] for row, number in parts]
    )
    token = np.concatenate([np.r_[row * 0 - 1, order.numpy()] for row, _ in parts])
    prefix = Prefix(
        embeds=torch.empty(0), frame=torch.from_numpy(frame), token=torch.from_numpy(token)
    )
    stamp = torch.from_numpy(arrays["stamp"])
    places = sign_places(prefix, stamp)
    assert (ids[places.numpy()] == arrays["stamp"]).all()
    assert all("." in tokenizer.decode(number) for number in arrays["stamp"][:, 0])

    item = torch.from_numpy(arrays["item"])
    rows = some_tokens(prefix, item)
    shown = item.flatten(2)[0, prefix.frame[rows], prefix.token[rows]]
    assert {0, 1, 2} == set(prefix.frame[rows].tolist())
    assert (prefix.token[rows] >= 0).all()
    assert 0.2 < float((shown >= 0).float().mean()) < 0.8  # of both, not by their areas
    weights = torch.zeros(1, 6, len(rows), len(ids))
    for head, sign in enumerate(SIGN_OF_HEAD):
        weights[0, head, torch.arange(len(rows)), places[prefix.frame[rows], sign]] = 1.0
    losses = [
        float(stamp_loss(prefix, passage_of(rows, seen_from=each), stamp))
        for each in (weights, weights / 2, weights.roll(1, 1))
    ]
    assert abs(losses[0]) < 1e-3
    assert 0.6 < losses[1] < 0.8
    assert losses[2] > 5


def test_a_sign_that_a_head_brings_along_is_the_one_that_would_be_said() -> None:
    torch.manual_seed(0)
    tokenizer = build_processor().tokenizer
    model = build_model(
        tokenizer, hidden_size=192, vision_size=32, num_layers=2, num_vision_layers=2
    )
    language, (_, layer) = model.model.language_model, model.model.language_model.layers
    prefix = Prefix(
        embeds=torch.empty(0), frame=torch.tensor([-1, 0, 0, 1]), token=torch.tensor([-1, 0, 1, 0])
    )
    stamp = torch.tensor([[500, 20], [1100, 25]])
    signs = torch.tensor([[500, 700, 1100], [20, 25, IGNORE]])
    labels = torch.tensor([[[IGNORE, 7, 8]]])
    sizes = torch.tensor([[[90.0, 2.0, 4.0]]])  # of what is said 3 in the mean
    states = torch.randn(2, 3, 192)
    losses = []
    with torch.no_grad():
        for clip, row, sign in product(range(2), range(3), range(2)):
            own = [d for h, s in enumerate(SIGN_OF_HEAD) if s == sign
                   for d in range(32 * h, 32 * h + 32)]  # fmt: skip
            value = layer.self_attn.v_proj(layer.input_layernorm(states[clip, row]))[own]
            brought = layer.self_attn.o_proj.weight[:, own] @ value
            heard = language.norm.weight * brought / 3  # beside what is of size 3
            for each in (heard, heard / heard.square().mean().sqrt()):
                among = signs[sign][signs[sign] >= 0]
                said = model.lm_head(each)[among].log_softmax(0)
                losses.append(-said[among == stamp[(0, 0, 1)[row], sign]])
        expected = torch.stack(losses).mean()
        passage = passage_of(torch.tensor([1, 2, 3]), looked_at=states, sizes=sizes)
        batch = {"stamp": stamp, "signs": signs, "labels": labels}
        torch.testing.assert_close(copy_loss(model, prefix, passage, batch), expected)


def test_every_answer_word_is_one_token() -> None:
    tokenizer = build_processor().tokenizer
    ids = [single_token(tokenizer, word) for word in (*COLORS, *SHAPES, *DIRECTIONS, "7", "A")]
    assert len(set(ids)) == len(ids)


def test_a_word_the_tokenizer_splits_is_refused() -> None:
    with pytest.raises(ValueError, match="not one token"):
        single_token(build_processor().tokenizer, "rhinoceros")


def test_any_text_survives_the_tokenizer() -> None:
    tokenizer = build_processor().tokenizer
    text = "Où est l'objet n° 47 ?"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
