import torch

from tests.training.test_train import TINY
from training.model import build_model
from training.numbers import NUM_PARTS, Numbers
from training.train import language_stage
from training.words import build_processor, single_token

TOKENIZER = build_processor().tokenizer
IDS = TOKENIZER.get_vocab()


def test_a_number_is_made_of_a_digit_in_each_place() -> None:
    numbers = Numbers(TOKENIZER)
    row = {
        text: number for number, text in enumerate(TOKENIZER.convert_ids_to_tokens(numbers.tokens))
    }
    assert len(row) == 1110
    assert numbers.parts.shape == (1110, NUM_PARTS)
    assert (numbers.parts.sum(1) == 3).all()
    for one, other, common in (("413.", "413.", 3), ("413.", "483.", 2), ("413.", "13.", 2),
                               ("3.", "13.", 2), ("7.", "120.", 0), ("30.", "3.", 1)):  # fmt: skip
        assert numbers.parts[row[one]] @ numbers.parts[row[other]] == common


def test_sums_are_what_a_loop_over_places_adds_up() -> None:
    numbers, places = Numbers(TOKENIZER), torch.randn(3, 11, 8)
    rows = torch.randn(len(IDS), 8)
    made = rows.clone()
    for text, number in IDS.items():
        if number in numbers.tokens:
            digits = text.removesuffix(".").rjust(3)
            made[number] = sum(places[n, "0123456789 ".index(d)] for n, d in enumerate(digits))
    # They are sums already, as far as float32 goes.
    torch.testing.assert_close(numbers.as_sums(made), made, atol=2e-4, rtol=0)
    before = rows.clone()
    sums = numbers.as_sums(rows)
    assert torch.equal(rows, before)
    is_other = torch.ones(len(rows), dtype=torch.bool)
    is_other[numbers.tokens] = False
    assert torch.equal(sums[is_other], rows[is_other])
    # What is taken off is at right angles to every sum: they are the nearest.
    torch.testing.assert_close(
        numbers.parts.T @ (rows - sums)[numbers.tokens],
        torch.zeros(NUM_PARTS, 8),
        atol=2e-3,
        rtol=0,
    )


def test_what_is_learnt_of_one_number_is_known_of_those_with_a_digit_in_common() -> None:
    model = build_model(
        TOKENIZER, hidden_size=64, vision_size=32, num_layers=2, num_vision_layers=2
    )
    stage = language_stage(TINY, model, TOKENIZER)
    tables = (model.model.language_model.embed_tokens.weight, model.lm_head.weight)
    stage.after_step()
    before = [table.detach().clone() for table in tables]
    optimizer = torch.optim.AdamW(stage.groups(), lr=0.01, weight_decay=0.0)
    wanted = torch.randn(64)
    sum((table[IDS["413."]] * wanted).sum() for table in tables).backward()
    optimizer.step()
    stage.after_step()
    averages = stage.average.module
    followers = (averages.model.language_model.embed_tokens.weight, averages.lm_head.weight)
    for table, earlier, average in zip(tables, before, followers, strict=True):
        moved = (table - earlier) @ wanted
        assert moved[IDS["413."]] < moved[IDS["483."]] < moved[IDS["488."]] < -0.01
        assert moved[single_token(TOKENIZER, "red")].abs() < 1e-3
        for rows in (table, average):
            torch.testing.assert_close(Numbers(TOKENIZER).as_sums(rows), rows, atol=2e-4, rtol=0)
