from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from transformers import LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil
from transformers.utils import logging

from tests.checkpoints import (
    Tensors,
    WatchedReader,
    new_name,
    old_name,
    rewrite_checkpoint,
)
from workers.errors import ModelError
from workers.messages import UInt8Array
from workers.vision.encoder import FrameFeatures, VisionEncoder


def random_frames(count: int, height: int, width: int) -> UInt8Array:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (count, height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].copy()


def load_encoder(folder: Path) -> VisionEncoder:
    return VisionEncoder(str(folder), device="cpu", dtype=torch.float32)


def pack(features: FrameFeatures) -> torch.Tensor:
    """(n, tokens, hidden), each frame as the language model sees it, row by row."""
    frames = []
    for base, grid in zip(features.base, features.grid, strict=True):
        rows = [torch.cat([row, features.newline[None]]) for row in grid]
        frames.append(torch.cat([base, *rows]))
    return torch.stack(frames)


def reference(folder: Path, frames: UInt8Array) -> torch.Tensor:
    """(n, tokens, hidden) of transformers' own processor and model."""
    model = LlavaNextForConditionalGeneration.from_pretrained(folder).eval()
    inputs = LlavaNextImageProcessorPil.from_pretrained(folder)(
        images=list(frames), return_tensors="pt"
    )
    with torch.inference_mode():
        # A grid picture's tiles are padded to those of the largest; sizes are equal here.
        output = model.get_image_features(**inputs, return_dict=True)
    return torch.stack(list(output.pooler_output))


@pytest.fixture
def names_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(safetensors, "safe_open", WatchedReader(names))
    return names


@pytest.mark.parametrize("size", [(72, 128), (128, 72), (100, 100), (40, 300), (96, 128)])
def test_features_are_those_of_transformers(checkpoint: Path, size: tuple[int, int]) -> None:
    frames = random_frames(2, *size)
    encoder = load_encoder(checkpoint)
    features = encoder.encode(frames)
    geometry = encoder.geometry.frame(*size)
    assert features.base.shape == (2, 16, 64)
    assert features.grid.shape == (2, geometry.rows, geometry.columns, 64)
    expected = reference(checkpoint, frames)
    torch.testing.assert_close(pack(features), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)


@pytest.mark.parametrize("layer", [-1, -2, 1, [-2], [1, -1], [-3, -2, 3]])
def test_every_choice_of_layers_is_that_of_transformers(
    checkpoint: Path, tmp_path: Path, layer: int | list[int]
) -> None:
    num_layers = np.size(layer)

    def widen(tensors: Tensors) -> Tensors:
        # Unlike weights for each layer, so that their order shows.
        weight = tensors["multi_modal_projector.linear_1.weight"]
        wide = torch.cat([weight * (1 + number) for number in range(num_layers)], dim=1)
        return tensors | {"multi_modal_projector.linear_1.weight": wide}

    folder = rewrite_checkpoint(
        checkpoint, tmp_path / "layers", changes=widen, config={"vision_feature_layer": layer}
    )
    frames = random_frames(2, 72, 128)
    actual = pack(load_encoder(folder).encode(frames))
    torch.testing.assert_close(actual, reference(folder, frames), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(72, 128), (100, 100)])
def test_a_frame_does_not_depend_on_those_beside_it(
    checkpoint: Path, size: tuple[int, int]
) -> None:
    frames = random_frames(6, *size)
    encoder = load_encoder(checkpoint)
    together = encoder.encode(frames)
    for number in range(6):
        alone = encoder.encode(frames[number : number + 1])
        assert torch.equal(alone.base[0], together.base[number])
        assert torch.equal(alone.grid[0], together.grid[number])


def test_frames_are_not_modified(checkpoint: Path) -> None:
    frames = random_frames(1, 72, 128)
    frames.flags.writeable = False
    before = frames.copy()
    load_encoder(checkpoint).encode(frames)
    np.testing.assert_array_equal(frames, before)


def test_only_what_is_used_is_read(checkpoint: Path, names_read: list[str]) -> None:
    load_encoder(checkpoint)
    parts = {name.split(".")[0] for name in names_read}
    assert parts == {"vision_tower", "multi_modal_projector", "image_newline"}
    # vision_feature_layer is -2: of three layers the last is not needed.
    layers = {name.split(".layers.")[1][0] for name in names_read if ".layers." in name}
    assert layers == {"0", "1"}
    assert len(names_read) == len(set(names_read))


def test_features_come_in_the_encoder_s_dtype(checkpoint: Path) -> None:
    frames = random_frames(1, 72, 128)
    encoder = VisionEncoder(str(checkpoint), device="cpu", dtype=torch.bfloat16)
    features = encoder.encode(frames)
    assert {each.dtype for each in (features.base, features.grid, features.newline)} == {
        torch.bfloat16
    }
    exact = load_encoder(checkpoint).encode(frames)
    torch.testing.assert_close(features.base.float(), exact.base, atol=0.2, rtol=0.2)


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("rename", [old_name, new_name])
def test_names_of_transformers_4_and_5_in_shards(
    checkpoint: Path, tmp_path: Path, rename: Callable[[str], str], num_shards: int
) -> None:
    folder = rewrite_checkpoint(
        checkpoint, tmp_path / "renamed", rename=rename, num_shards=num_shards
    )
    frames = random_frames(1, 72, 128)
    actual = load_encoder(folder).encode(frames)
    expected = load_encoder(checkpoint).encode(frames)
    assert torch.equal(pack(actual), pack(expected))


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("image_newline", "no image_newline, so this is no LLaVA-NeXT checkpoint"),
        (
            "layers.1.mlp.fc1.weight",
            r"no tensor .*layers\.1\.mlp\.fc1\.weight for the CLIPVisionModel",
        ),
        ("patch_embedding", "no tensor .*patch_embedding.*"),
        ("linear_2.weight", r"projector: .*linear_2\.weight"),
        ("vision_tower", "its safetensors files hold no .*vision_tower"),
    ],
)
def test_missing_tensors_are_named_in_the_error_and_nowhere_else(
    checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    without: str,
    message: str,
) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "gap", without=without)
    logging.set_verbosity_warning()  # as in a fresh process
    with pytest.raises(ModelError, match=message):
        load_encoder(folder)
    assert caplog.records == []


def test_a_tensor_of_a_layer_that_is_not_used_may_be_missing(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = rewrite_checkpoint(
        checkpoint, tmp_path / "cut", without="vision_tower.encoder.layers.2."
    )
    load_encoder(folder)


def test_tensors_of_the_wrong_shape_are_an_error(checkpoint: Path, tmp_path: Path) -> None:
    def cut(tensors: Tensors) -> Tensors:
        name = "vision_tower.embeddings.patch_embedding.weight"
        return tensors | {name: tensors[name][:-1]}

    folder = rewrite_checkpoint(checkpoint, tmp_path / "cut", changes=cut)
    with pytest.raises(
        ModelError, match=r"patch_embedding\.weight is \(\d+, .* but the configuration says"
    ):
        load_encoder(folder)
