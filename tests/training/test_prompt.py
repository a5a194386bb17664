import numpy as np
import pytest
import torch
from PIL import Image

from training import attention
from training.compose import Recipe
from training.forward import embed_prefix, run_language
from training.language_data import clips_batch
from training.layout import ASPECTS, layout_of
from training.model import build_model
from training.pixels import normalise, tiles_of
from training.prompts import REQUEST, between_ids, opening_ids
from training.scene import COLORS, DIRECTIONS, SHAPES
from training.words import build_processor, single_token

SIZES = {name: (2 * width, 2 * height) for name, (width, height) in ASPECTS.items()}


def noise(aspect: str) -> Image.Image:
    width, height = SIZES[aspect]
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("aspect", ASPECTS)
def test_pixels_and_prompt_are_the_processors(aspect: str) -> None:
    processor = build_processor()
    question = "what color is the circle?"
    content = [{"type": "image"}] * 3 + [{"type": "text", "text": question}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = processor(images=[noise(aspect)] * 3, text=prompt, return_tensors="pt")

    layout, tokenizer = layout_of(aspect), processor.tokenizer
    tiles = torch.from_numpy(tiles_of(np.asarray(noise(aspect)), layout))
    torch.testing.assert_close(normalise(tiles), inputs["pixel_values"][0])
    picture = [tokenizer.image_token_id] * layout.num_tokens + between_ids(tokenizer)
    asked = tokenizer.encode(question + REQUEST, add_special_tokens=False)
    assert inputs["input_ids"][0].tolist() == [*opening_ids(tokenizer), *picture * 3, *asked]


@pytest.mark.parametrize("aspect", ASPECTS)
def test_questions_behind_a_shared_prefix_get_what_they_would_get_alone(aspect: str) -> None:
    torch.manual_seed(0)
    tokenizer = build_processor().tokenizer
    model = build_model(
        tokenizer, hidden_size=64, vision_size=32, num_layers=2, num_vision_layers=2
    ).eval()
    arrays = clips_batch(tokenizer, np.random.default_rng(0), 2, 2, aspect, 4, Recipe())
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    attention.register()
    model.model.language_model.set_attn_implementation(attention.NAME)
    with torch.no_grad():
        opening, between = opening_ids(tokenizer), between_ids(tokenizer)
        prefix = embed_prefix(model, batch["tiles"], layout_of(aspect), opening, between)
        hidden, _, _ = run_language(model, prefix, batch["ids"], 1)
    model.set_attn_implementation("sdpa")
    width, height = SIZES[aspect]
    picture = [tokenizer.image_token_id] * layout_of(aspect).num_tokens + between
    ids = batch["ids"][1, 2][batch["ids"][1, 2] != tokenizer.pad_token_id]
    with torch.no_grad():
        alone = model(
            input_ids=torch.tensor([[*opening, *picture * 2, *ids.tolist()]]),
            pixel_values=normalise(batch["tiles"][1]),
            image_sizes=torch.tensor([[height, width]] * 2),
        ).logits[0, -len(ids) :]
        torch.testing.assert_close(model.lm_head(hidden[1, 2, : len(ids)]), alone)


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
