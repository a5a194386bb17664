"""Where the language stage starts from, and where training stops."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_train import TINY
from training import start
from training.runner import LearningRate, Pace, run_stage
from training.train import prepare, vision_stage
from training.vision_data import vision_batch
from training.words import build_processor


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
