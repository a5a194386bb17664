import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from workers.errors import ModelError
from workers.llm.model import LanguageModel
from workers.llm.sequence import VisualSequence
from workers.messages import SamplingOptions

CLIP = VisualSequence(
    features=(torch.randn(20, 64, generator=torch.Generator().manual_seed(0)),),
    keep_indices=(torch.arange(20),),
    marks=("",),
    frame_length=20,
)


def open_model(folder: Path, **options: Any) -> LanguageModel:
    settings = {"device": "cpu", "dtype": torch.float32} | options
    return LanguageModel(str(folder), **settings)


def load_model(folder: Path, **options: Any) -> LanguageModel:
    model = open_model(folder, **options)
    model.load()
    return model


def answer(model: LanguageModel) -> list[int]:
    model.set_clip(CLIP)
    list(model.answer(model.prompt("Why?", CLIP.marks), SamplingOptions(max_new_tokens=9)))
    return list(model.token_ids)


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("rename", [old_name, new_name])
def test_names_of_transformers_4_and_5_in_shards(
    checkpoint: Path, tmp_path: Path, rename: Callable[[str], str], num_shards: int
) -> None:
    folder = rewrite_checkpoint(
        checkpoint, tmp_path / "renamed", rename=rename, num_shards=num_shards
    )
    assert answer(load_model(folder)) == answer(load_model(checkpoint))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_come_in_the_dtype_asked_for(checkpoint: Path, dtype: torch.dtype) -> None:
    model = load_model(checkpoint, dtype=dtype)
    assert {weight.dtype for weight in model._model.parameters()} == {dtype}
    assert len(answer(model)) > 0


def test_no_vision_tensor_is_read(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names_read: list[str] = []
    monkeypatch.setattr(safetensors, "safe_open", WatchedReader(names_read))
    model = load_model(checkpoint)
    assert {name.split(".")[0] for name in names_read} == {"language_model"}
    num_read = len(names_read)
    model.load()
    assert len(names_read) == num_read


def test_prompts_need_no_weights(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weightless"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = open_model(folder)
    assert model.context_length == 32_768
    assert model.prompt("Why?", [""]).num_text_tokens > 3
    with pytest.raises(ModelError, match="no safetensors weights"):
        model.load()


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
    model = load_model(folder)
    assert model._model.lm_head.weight is model._model.get_input_embeddings().weight
    assert len(answer(model)) > 0


def test_a_checkpoint_without_chat_template_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(ModelError, match="the checkpoint has no chat template"):
        open_model(folder)


def test_a_checkpoint_without_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_next"}))
    with pytest.raises(ModelError, match=r"^[^\n]*: processor: [^\n]+$"):
        open_model(tmp_path)
