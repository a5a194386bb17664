import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from tests.checkpoints import (
    Tensors,
    WatchedReader,
    new_name,
    old_name,
    rewrite_checkpoint,
)
from tests.workers.llm.visual import Asker, load_model
from workers.errors import ModelError
from workers.llm.answer import SamplingOptions
from workers.visual import VisualSequence

CLIP = VisualSequence(
    visual_id="noise",
    features=np.random.default_rng(0).standard_normal((20, 64), np.float32),
    dtype="float32",
    counts=np.array([20]),
    keep_indices=np.arange(20),
    frame_indices=np.array([0]),
    frame_lengths=np.array([20]),
    gaps=np.array([0]),
    num_timestamp_tokens=np.array([0]),
)


def answer(asker: Asker) -> list[int]:
    return asker.ask(CLIP, "Why?", sampling=SamplingOptions(max_new_tokens=9))


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("rename", [old_name, new_name])
def test_names_of_transformers_4_and_5_in_shards(
    checkpoint: Path, tmp_path: Path, rename: Callable[[str], str], num_shards: int
) -> None:
    folder = rewrite_checkpoint(
        checkpoint, tmp_path / "renamed", rename=rename, num_shards=num_shards
    )
    assert answer(Asker(folder)) == answer(Asker(checkpoint))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_come_in_the_dtype_asked_for(checkpoint: Path, dtype: torch.dtype) -> None:
    asker = Asker(checkpoint, dtype=dtype)
    assert {weight.dtype for weight in asker.model._decoder._model.parameters()} == {dtype}
    assert len(answer(asker)) > 0


def test_no_vision_tensor_is_read(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names_read: list[str] = []
    monkeypatch.setattr(safetensors, "safe_open", WatchedReader(names_read))
    load_model(checkpoint)
    assert {name.split(".")[0] for name in names_read} == {"language_model"}


def test_a_checkpoint_without_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weightless"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelError, match="no safetensors weights"):
        load_model(folder)


def test_missing_tensors_are_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "gap", without="layers.1.mlp.up_proj")
    with pytest.raises(ModelError, match=r"no tensor .*layers\.1\.mlp\.up_proj"):
        load_model(folder)


def test_tensors_of_the_wrong_shape_are_an_error(checkpoint: Path, tmp_path: Path) -> None:
    def cut(tensors: Tensors) -> Tensors:
        name = "language_model.model.norm.weight"
        return tensors | {name: tensors[name][:-1]}

    folder = rewrite_checkpoint(checkpoint, tmp_path / "cut", changes=cut)
    with pytest.raises(
        ModelError, match=r"norm\.weight is \(63,\), but the configuration says \(64,\)"
    ):
        load_model(folder)


def test_a_checkpoint_without_lm_head_shares_the_embedding(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "tied", without="lm_head")
    asker = Asker(folder)
    net = asker.model._decoder._model
    assert net.lm_head.weight is net.get_input_embeddings().weight
    assert len(answer(asker)) > 0


def test_a_checkpoint_without_tokenizer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mute"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ModelError, match=r"^[^\n]*: no tokenizer\.json and no tokenizer\.model$"):
        load_model(folder)
