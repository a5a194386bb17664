import json
import re
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from safetensors.torch import load_file, save_file

from tests.checkpoints import WatchedReader, new_name, old_name, rewrite_checkpoint
from workers.checkpoint import (
    LANGUAGE_MODEL,
    PROJECTOR,
    VISION_TOWER,
    fetch,
    locate,
    read_config,
    read_optional,
    read_tensors,
)
from workers.errors import ModelError

PARTS = {"vision tower": VISION_TOWER, "projector": PROJECTOR, "language model": LANGUAGE_MODEL}


def read(folder: Path, part: str, **options: Any) -> dict[str, torch.Tensor]:
    return read_tensors(str(folder), PARTS[part], **{"dtype": torch.float32} | options)


def test_a_folder_and_a_hub_name_are_located(tmp_path: Path) -> None:
    assert locate(str(tmp_path)) == str(tmp_path)
    assert locate("llava-hf/llava-v1.6-mistral-7b-hf") == "llava-hf/llava-v1.6-mistral-7b-hf"


@pytest.mark.parametrize("model", ["embeded", "/no/such/folder", "a/b/c", "a b/c", "./x/"])
def test_an_unknown_model_is_an_error_that_says_what_to_give(model: str) -> None:
    message = f"unknown model {model!r}: give 'embedded', a checkpoint folder, or namespace/name"
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        locate(model)


def test_the_configuration_is_read(checkpoint: Path) -> None:
    config = read_config(str(checkpoint))
    assert config == json.loads((checkpoint / "config.json").read_text())
    assert config["model_type"] == "llava_next"


def test_a_folder_without_configuration_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"^{re.escape(str(tmp_path))}: no config\.json"):
        read_config(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b"{'single': 1}", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
    ],
)
def test_a_broken_configuration_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ModelError, match=rf"config\.json: {message}"):
        read_config(str(tmp_path))


def test_each_part_holds_its_own_tensors(checkpoint: Path) -> None:
    stored = load_file(checkpoint / "model.safetensors")
    parts = {part: read(checkpoint, part) for part in PARTS}
    assert sum(map(len, parts.values())) == len(stored)
    name = "embeddings.class_embedding"
    assert torch.equal(parts["vision tower"][name], stored[f"vision_tower.{name}"])
    assert torch.equal(parts["projector"]["image_newline"], stored["image_newline"])
    name = "linear_1.bias"
    actual = parts["projector"][f"projector.{name}"]
    assert torch.equal(actual, stored[f"multi_modal_projector.{name}"])
    for name in ("lm_head.weight", "model.layers.0.mlp.up_proj.weight"):
        assert torch.equal(parts["language model"][name], stored[f"language_model.{name}"])


@pytest.mark.parametrize("rename", [old_name, new_name])
@pytest.mark.parametrize("part", PARTS)
def test_names_of_transformers_4_and_5_mean_the_same(
    checkpoint: Path, tmp_path: Path, rename: Any, part: str
) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "other", rename=rename, num_shards=3)
    expected, actual = read(checkpoint, part), read(folder, part)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_what_is_not_wanted_is_not_read(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names_read: list[str] = []
    monkeypatch.setattr(safetensors, "safe_open", WatchedReader(names_read))
    tensors = read(checkpoint, "projector", wanted=lambda name: name.endswith("bias"))
    assert set(tensors) == {"projector.linear_1.bias", "projector.linear_2.bias"}
    assert set(names_read) == {
        "multi_modal_projector.linear_1.bias",
        "multi_modal_projector.linear_2.bias",
    }


def test_tensors_are_cast(checkpoint: Path) -> None:
    exact = read(checkpoint, "projector")
    cast = read(checkpoint, "projector", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in cast.values()} == {torch.bfloat16}
    assert all(torch.equal(cast[name], exact[name].bfloat16()) for name in exact)


def test_weights_of_another_format_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle that would run code")
    with pytest.raises(ModelError, match=r"no safetensors weights \(other formats are not read\)"):
        read(tmp_path, "projector")


@pytest.mark.parametrize("content", [b"", b"too short", b"\xff" * 64, b"\x00" * 64])
def test_a_corrupt_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: unreadable safetensors file"):
        read(tmp_path, "projector")


def test_a_cut_off_file_is_named(checkpoint: Path, tmp_path: Path) -> None:
    content = (checkpoint / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors: unreadable safetensors file"):
        read(tmp_path, "projector")


def test_a_corrupt_shard_is_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "sharded", num_shards=2)
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors: unreadable"):
        read(folder, "vision tower")


def test_a_missing_shard_is_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "sharded", num_shards=2)
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00001-of-00002\.safetensors is missing"):
        read(folder, "vision tower")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": 3}'])
def test_a_broken_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json: "):
        read(tmp_path, "projector")


def test_an_index_that_names_a_tensor_its_file_lacks(checkpoint: Path, tmp_path: Path) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "lying")
    index = folder / "model.safetensors.index.json"
    settings = json.loads(index.read_text())
    settings["weight_map"]["multi_modal_projector.linear_3.bias"] = (
        "model-00001-of-00001.safetensors"
    )
    index.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"unreadable safetensors file .*linear_3\.bias"):
        read(folder, "projector")


def test_a_checkpoint_without_the_part_is_an_error(tmp_path: Path) -> None:
    save_file({"something.else": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"its safetensors files hold no .*vision_tower"):
        read(tmp_path, "vision tower")


def test_a_local_folder_needs_no_network(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert locate(str(checkpoint)) == str(checkpoint)
    assert read_config(str(checkpoint))
    assert all(read(checkpoint, part) for part in PARTS)
    assert fetch(str(checkpoint), "no such file") is None


def test_from_the_hub_only_what_is_asked_for_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return "/cache/config.json"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert fetch("someone/model", "config.json") == Path("/cache/config.json")
    assert asked == [("someone/model", "config.json")]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            LocalEntryNotFoundError("offline"),
            "model 'a/b' is neither a local folder nor in the hub",
        ),
        (HFValidationError("bad name\nmore"), "^model 'a/b': bad name$"),
    ],
)
def test_a_hub_that_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    def download(repository: str, file: str) -> str:
        raise failure

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(ModelError, match=message):
        read_config("a/b")


@pytest.mark.parametrize("cached", ["/cache/config.json", None])
def test_offline_a_cached_checkpoint_may_lack_optional_files(
    monkeypatch: pytest.MonkeyPatch, cached: str | None
) -> None:
    def download(repository: str, file: str) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: cached)
    with pytest.raises(ModelError, match="neither a local folder nor in the hub cache"):
        fetch("a/b", "special_tokens_map.json")
    with nullcontext() if cached else pytest.raises(ModelError, match="hub cache"):
        assert read_optional("a/b", "special_tokens_map.json") == {}


def test_an_optional_file_is_read_where_it_is(tmp_path: Path) -> None:
    assert read_optional(str(tmp_path), "more.json") == {}
    (tmp_path / "more.json").write_text('{"a": 1}')
    assert read_optional(str(tmp_path), "more.json") == {"a": 1}


def test_a_file_that_a_hub_repository_lacks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, file: str) -> str:
        raise EntryNotFoundError("404")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert fetch("a/b", "config.json") is None
    with pytest.raises(ModelError, match=r"^a/b: no config\.json"):
        read_config("a/b")
