import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.plan import Plan, load_plan
from training.runner import LearningRate, MakeBatch, Pace, Tensors, multiplies_bfloat16, run_stage
from training.train import train

TINY = Plan(
    seed=3, hidden_size=64, vision_size=32, num_layers=2, num_vision_layers=2, vision_steps=4,
    vision_decay=2, vision_batch=4, language_steps=4, language_decay=2, tokens_per_batch=500,
    mixtures=((0, {1: 0.5, 2: 0.5}),),
)  # fmt: skip
PACE = Pace(log_every=1, check_every=1000, save_seconds=0.0, num_workers=0)


@pytest.fixture(autouse=True)
def _exact_products() -> None:
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


def figures(folder: Path) -> list[dict[str, float]]:
    lines = [
        json.loads(line)
        for stage in ("vision", "language")
        for line in (folder / f"{stage}.jsonl").read_text().splitlines()
    ]
    return [{name: v for name, v in line.items() if name != "seconds"} for line in lines]


@pytest.mark.slow
def test_a_run_killed_in_either_stage_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    train(TINY, whole, PACE)
    assert train(TINY, broken, dataclasses.replace(PACE, stop_after=2)) is None
    # As after a kill: a log line of a step whose state was never saved, and half a line.
    with (broken / "vision.jsonl").open("a") as log:
        log.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    train(dataclasses.replace(TINY, language_steps=4), broken, dataclasses.replace(PACE))

    for stage in ("vision", "language"):
        one, two = (torch.load(f / f"{stage}.pt", weights_only=True) for f in (whole, broken))
        assert one["step"] == two["step"] == 4
        assert one["module"].keys() == two["module"].keys()
        for name, weight in one["module"].items():
            assert torch.equal(weight, two["module"][name]), name
    assert figures(whole) == figures(broken)


@pytest.mark.slow
def test_the_language_stage_resumes_too(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    plan = dataclasses.replace(TINY, vision_steps=2)
    for folder in (whole, broken):
        folder.mkdir()
    train(plan, whole, PACE)
    assert train(plan, broken, dataclasses.replace(PACE, stop_after=3)) is None
    train(plan, broken, PACE)
    one, two = (torch.load(f / "language.pt", weights_only=True) for f in (whole, broken))
    for name, weight in one["module"].items():
        assert torch.equal(weight, two["module"][name]), name
    assert figures(whole) == figures(broken)


@pytest.mark.slow
def test_the_vision_tower_is_not_touched_by_the_language_stage(tmp_path: Path) -> None:
    train(TINY, tmp_path, PACE)
    seen = torch.load(tmp_path / "vision.pt", weights_only=True)["module"]
    final = torch.load(tmp_path / "language.pt", weights_only=True)["module"]
    towers = [name for name in seen if name.startswith("tower.")]
    assert towers
    for name in towers:
        same = final[name.replace("tower.", "model.model.vision_tower.", 1)]
        assert torch.equal(seen[name], same), name


def test_the_learning_rate_rises_stays_and_falls() -> None:
    learning_rate = LearningRate(peak=1.0, warmup=10, steps=100, decay_from=50)
    assert learning_rate.factor(0) == pytest.approx(0.1)
    assert learning_rate.factor(20) == learning_rate.factor(50) == 1.0
    assert learning_rate.factor(75) == pytest.approx(0.5)
    assert learning_rate.factor(100) == 0.0


class Products:
    """A stage of one layer and one step that notes in which dtype its products are taken."""

    name = "products"
    learning_rate = LearningRate(peak=0.1, warmup=1, steps=1, decay_from=1)

    def __init__(self) -> None:
        self.module = torch.nn.Linear(2, 2)
        self.dtypes: list[torch.dtype] = []

    def groups(self) -> list[dict[str, object]]:
        return [{"params": list(self.module.parameters()), "scale": 1.0}]

    def make_batch(self) -> MakeBatch:
        return lambda step: {"x": np.ones((1, 2), np.float32)}

    def loss(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        product = self.module(batch["x"])
        self.dtypes.append(product.dtype)
        return product.float().sum(), {}

    def after_step(self) -> None:
        pass

    def check(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True, "avx2": True}, torch.float32),
        ({"neon": True}, torch.float32),
    ],
)
def test_a_cpu_multiplies_in_bfloat16_only_where_that_is_faster(
    capabilities: dict[str, bool],
    dtype: torch.dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    stage = Products()
    assert run_stage(stage, tmp_path, PACE)
    assert stage.dtypes == [dtype]


def test_a_gpu_multiplies_in_bfloat16() -> None:
    assert multiplies_bfloat16(torch.device("cuda"))


def test_bringing_the_decline_forward_leaves_the_steps_before_alone() -> None:
    late = LearningRate(peak=1.0, warmup=10, steps=1000, decay_from=900)
    early = LearningRate(peak=1.0, warmup=10, steps=80, decay_from=50)
    assert [late.factor(step) for step in range(51)] == [early.factor(step) for step in range(51)]


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(dataclasses.asdict(TINY)))
    assert dataclasses.replace(load_plan(path), mixtures=TINY.mixtures) == TINY
    assert dict(load_plan(path).mixtures[0][1]) == {1: 0.5, 2: 0.5}


def test_a_plan_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"steps": 3}')
    with pytest.raises(ValueError, match="no such field in a plan"):
        load_plan(path)
