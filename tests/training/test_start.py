"""Where the language stage starts from, and where training stops."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_train import TINY
from training import start
from training.guides import SIGN_OF_HEAD
from training.model import build_model
from training.runner import LearningRate, Pace, run_stage
from training.train import prepare, vision_stage
from training.vision_data import vision_batch
from training.words import build_processor, number_tokens


def test_a_word_that_no_picture_shows_has_a_vector_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    precision = torch.get_float32_matmul_precision()
    tokenizer = build_processor().tokenizer
    model = prepare(TINY, tokenizer)
    torch.set_float32_matmul_precision(precision)
    monkeypatch.setattr(
        start, "vision_batch", lambda seed, number, _: vision_batch(seed, number, 2)
    )
    start.match_words(model, vision_stage(TINY, model).heads, tokenizer, TINY.seed)
    words = model.model.language_model.embed_tokens.weight
    assert words.isfinite().all()
    assert words.norm(dim=1).min() > 0.5
    assert model.lm_head.weight.isfinite().all()


def test_a_time_copied_twice_is_read_out_as_itself_before_anything_is_learnt() -> None:
    torch.manual_seed(0)
    tokenizer = build_processor().tokenizer
    model = build_model(tokenizer, vision_size=32, num_vision_layers=2)
    start.copy_attended(model)
    language, numbers = model.model.language_model, number_tokens(tokenizer)
    layers = language.layers
    with torch.no_grad():
        start.match_numbers(model, tokenizer)
        carried = language.embed_tokens.weight[numbers]
        for layer in (layers[len(layers) // 2 - 1], layers[-1]):
            own = [d for head, sign in enumerate(SIGN_OF_HEAD) if sign == 0
                   for d in range(32 * head, 32 * head + 32)]  # fmt: skip
            value = layer.self_attn.v_proj(layer.input_layernorm(carried))[:, own]
            carried = value @ layer.self_attn.o_proj.weight[:, own].T
        said = model.lm_head(carried)[:, numbers].argmax(1)
    assert len(numbers) == 1110
    assert (said == torch.arange(len(numbers))).all()


class Broken:
    """A stage whose second step has no finite gradient."""

    name = "broken"
    learning_rate = LearningRate(peak=0.1, warmup=1, steps=3, decay_from=2)

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1)

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "scale": 1.0}]

    def make_batch(self) -> Any:
        return lambda number: {"x": torch.full((1, 1), torch.nan if number else 1.0).numpy()}

    def loss(self, batch: Any) -> Any:
        return self.module(batch["x"]).sum(), {}

    def after_step(self) -> None:
        pass

    def check(self) -> dict[str, float]:
        return {}


def test_training_stops_where_a_gradient_is_not_finite(tmp_path: Path) -> None:
    pace = Pace(log_every=1, num_workers=0, save_seconds=0.0)
    with pytest.raises(FloatingPointError, match="broken: the gradient is nan at step 1"):
        run_stage(Broken(), tmp_path, pace)
    state = torch.load(tmp_path / "broken.pt", weights_only=True)
    assert state["step"] == 1
    assert all(weight.isfinite().all() for weight in state["module"].values())
