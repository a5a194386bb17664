import numpy as np
import torch

from training.compose import Recipe
from training.forward import Prefix
from training.labels import IGNORE
from training.language_data import WRITTEN, Curriculum, clips_batch, language_batch
from training.language_stage import _look_loss
from training.questions import TYPES
from training.words import build_processor

TEXT = Recipe(max_shapes=2, plate_chance=1.0, code_chance=0.0, min_scenes=2)


def batch_of_text(seed: int) -> dict[str, np.ndarray]:
    tokenizer = build_processor().tokenizer
    return clips_batch(tokenizer, np.random.default_rng(seed), 6, 5, "square", 12, TEXT)


def test_the_first_number_is_read_before_the_last() -> None:
    batch = batch_of_text(0)
    reads, types = batch["reads"], batch["types"]
    frames = np.arange(reads.shape[-1])
    for clip in range(6):
        (first,), (last,) = (reads[clip, types[clip] == TYPES.index(t)] for t in ("first", "last"))
        assert frames[first].max() < frames[last].min()
        plates = (batch["first_character"][clip] != IGNORE).any((1, 2))
        assert plates[first].all()
        assert plates[last].all()
    unwritten = ~np.isin(types, [TYPES.index(name) for name in WRITTEN])
    assert not reads[unwritten].any()


def test_looking_at_the_plate_costs_nothing_and_elsewhere_much() -> None:
    batch = {name: torch.from_numpy(value) for name, value in batch_of_text(1).items()}
    num_frames = batch["reads"].shape[-1]
    prefix = Prefix(
        embeds=torch.empty(0),
        frame=torch.cat([torch.tensor([-1]), torch.arange(num_frames).repeat_interleave(80)]),
        token=torch.cat([torch.tensor([-1]), torch.arange(80).repeat(num_frames)]),
    )
    shown = (batch["first_character"].view(6, -1) != IGNORE).float()
    read = (
        batch["reads"].repeat_interleave(80, dim=2) * shown[:, None]
    )  # (clips, questions, tokens)
    on_plate = torch.cat([torch.zeros(6, 12, 1), read], dim=2)
    on_plate = on_plate / on_plate.sum(-1, keepdim=True).clamp(min=1)
    length = batch["labels"].shape[2]

    def loss(weights: torch.Tensor) -> float:
        looks = weights[:, None, :, None].expand(-1, 4, -1, length, -1)
        return float(_look_loss(prefix, looks, batch))

    assert abs(loss(on_plate)) < 1e-3
    assert loss(torch.zeros_like(on_plate)) > 9
    assert 0.5 < loss(on_plate / 2) < 0.8


def test_questions_to_tokens_half_way_up_count_more_from_a_step_on() -> None:
    curriculum = Curriculum(
        mixtures=((0, {1: 1.0}),), dense_weights=((0, 0.25), (3, 1.0)), tokens_per_batch=300
    )
    tokenizer = build_processor().tokenizer
    batches = [language_batch(tokenizer, curriculum, 0, step) for step in (0, 2, 3)]
    assert [float(batch["dense_weight"]) for batch in batches] == [0.25, 0.25, 1.0]
