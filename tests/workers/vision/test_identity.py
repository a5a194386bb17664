"""The identity of a vision half follows its content, and nothing else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import Tensors, new_name, old_name, rewrite_checkpoint
from workers.digests import DigestMemory
from workers.errors import ModelError
from workers.vision.identity import vision_identity

NOTHING = DigestMemory(folder=None)


@pytest.fixture(scope="module")
def identity(checkpoint: Path) -> str:
    return vision_identity(str(checkpoint), NOTHING)


def nudge(name: str) -> Callable[[Tensors], Tensors]:
    """Change the last number of the first tensor whose name holds this."""

    def change(tensors: Tensors) -> Tensors:
        chosen = next(each for each in sorted(tensors) if name in each)
        changed = tensors[chosen].clone()
        changed.view(-1)[-1] += 1
        return tensors | {chosen: changed}

    return change


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_shards": 3},
        {"rename": old_name},
        {"rename": new_name},
        {"changes": nudge("language_model"), "num_shards": 2},
        {"changes": nudge("lm_head")},
        {"config": {"text_config": {"model_type": "llama"}}},
    ],
    ids=["path", "shards", "old names", "new names", "language", "head", "language config"],
)
def test_what_the_vision_half_does_not_read_makes_no_difference(
    checkpoint: Path, tmp_path: Path, identity: str, settings: dict[str, Any]
) -> None:
    copied = rewrite_checkpoint(checkpoint, tmp_path / "copy", **settings)
    assert vision_identity(str(copied), NOTHING) == identity


@pytest.mark.parametrize(
    "settings",
    [
        {"changes": nudge("vision_tower")},
        {"changes": nudge("multi_modal_projector")},
        {"changes": nudge("image_newline")},
        {"changes": lambda tensors: {k: v.to(torch.bfloat16) for k, v in tensors.items()}},
        {"config": {"vision_feature_layer": -1}},
        {"config": {"projector_hidden_act": "relu"}},
    ],
    ids=["tower", "projector", "newline", "dtype", "layer", "activation"],
)
def test_every_part_that_it_reads_makes_one(
    checkpoint: Path, tmp_path: Path, identity: str, settings: dict[str, Any]
) -> None:
    copied = rewrite_checkpoint(checkpoint, tmp_path / "copy", **settings)
    assert vision_identity(str(copied), NOTHING) != identity


def test_how_pictures_are_normalized_makes_one(
    checkpoint: Path, tmp_path: Path, identity: str
) -> None:
    copied = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    settings = next(
        path
        for path in sorted(copied.glob("*processor_config.json"))
        if "image_mean" in path.read_text()
    )
    settings.write_text(settings.read_text().replace("0.48145466", "0.5"))
    assert vision_identity(str(copied), NOTHING) != identity


def test_weights_are_read_once(checkpoint: Path, tmp_path: Path, identity: str) -> None:
    copied = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    weights = copied / "model.safetensors"
    os.utime(weights, ns=(0, 10**9))
    memory = DigestMemory(folder=str(tmp_path / "digests"))
    assert vision_identity(str(copied), memory) == identity
    content = weights.read_bytes()
    weights.write_bytes(content[:-4096] + bytes(4096))
    os.utime(weights, ns=(0, 10**9))  # as if it were the same
    assert vision_identity(str(copied), memory) == identity
    os.utime(weights, ns=(0, 2 * 10**9))
    assert vision_identity(str(copied), memory) != identity


@pytest.mark.parametrize("share", [0.9, 0.2, 0.0])
def test_weights_that_are_cut_are_one_line(checkpoint: Path, tmp_path: Path, share: float) -> None:
    copied = rewrite_checkpoint(checkpoint, tmp_path / "copy")
    weights = copied / "model-00001-of-00001.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match="unreadable safetensors file"):
        vision_identity(str(copied), NOTHING)
