import subprocess
import sys
from collections.abc import Callable, Sequence
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
from workers.arrays import UInt8Array
from workers.checkpoint import locate
from workers.errors import ModelError
from workers.vision.encoder import FrameFeatures, VisionEncoder
from workers.vision.tiles import cut_pictures

ROOT = Path(__file__).parents[3]


def random_frames(count: int, height: int, width: int) -> UInt8Array:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (count, height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].copy()


def load_encoder(folder: Path) -> VisionEncoder:
    return VisionEncoder(str(folder), device="cpu", dtype=torch.float32)


def encode(encoder: VisionEncoder, pictures: Sequence[UInt8Array]) -> list[FrameFeatures]:
    return encoder.encode(*cut_pictures(pictures, encoder.geometry))


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
    (features,) = encode(encoder, frames)
    geometry = encoder.geometry.frame(*size)
    assert features.base.shape == (2, 16, 64)
    assert features.grid.shape == (2, geometry.rows, geometry.columns, 64)
    assert (len(features), features.layout) == (2, geometry.layout)
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
    actual = pack(*encode(load_encoder(folder), frames))
    torch.testing.assert_close(actual, reference(folder, frames), atol=1e-4, rtol=1e-4)


def assert_equal(actual: FrameFeatures, expected: FrameFeatures) -> None:
    assert torch.equal(actual.base, expected.base)
    assert torch.equal(actual.grid, expected.grid)


SIZES = [(72, 128), (72, 128), (100, 100), (2, 900), (4, 1800), (128, 72), (72, 128), (144, 256)]
"""Two alike, two without grid, and two of unlike sizes but equal geometry at the end."""


def mixed_frames() -> list[UInt8Array]:
    return [random_frames(3, *size)[number % 3] for number, size in enumerate(SIZES)]


@pytest.mark.parametrize("small_tower", [0, 100_000_000])
@pytest.mark.parametrize("base_only", [False, True])
def test_a_frame_does_not_depend_on_those_beside_it(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, base_only: bool, small_tower: int
) -> None:
    monkeypatch.setattr("workers.vision.encoder._SMALL_TOWER", small_tower)
    pictures, encoder = mixed_frames(), load_encoder(checkpoint)
    tile_geometry = encoder.geometry.without_grid() if base_only else encoder.geometry
    tiles, geometries = cut_pictures(pictures, tile_geometry)
    together = encoder.encode(tiles, geometries)
    assert list(map(len, together)) == ([8] if base_only else [2, 1, 2, 1, 2])
    frames = [
        FrameFeatures(base=base[None], grid=grid[None], newline=batch.newline)
        for batch in together
        for base, grid in zip(batch.base, batch.grid, strict=True)
    ]
    for picture, frame, geometry in zip(pictures, frames, geometries, strict=True):
        assert_equal(frame, *encoder.encode(*cut_pictures([picture], tile_geometry)))
        assert frame.layout == geometry.layout


@pytest.mark.parametrize("size", [(360, 640), (56, 112), (3, 900)])
def test_the_embedded_model_sees_a_frame_alike_wherever_it_stands_in_a_pass(
    size: tuple[int, int],
) -> None:
    encoder = load_encoder(Path(locate("embedded")))
    frame, *others = random_frames(8, *size)
    (alone,) = encode(encoder, [frame])
    for place in range(8):
        (chunk,) = encode(encoder, [*others[:place], frame, *others[place:]])
        assert torch.equal(chunk.base[place], alone.base[0])
        assert torch.equal(chunk.grid[place], alone.grid[0])


def shapes_of_passes(encoder: VisionEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    shapes: list[int] = []
    forward = encoder._tower.forward

    def watched(pixel_values: torch.Tensor, **options: object) -> object:
        shapes.append(len(pixel_values))
        return forward(pixel_values, **options)

    monkeypatch.setattr(encoder._tower, "forward", watched)
    return shapes


@pytest.mark.parametrize(("small_tower", "passes"), [(0, [5, 5, 5, 5, 5]), (100_000_000, [20, 20])])
def test_only_a_small_tower_makes_passes_of_one_size_on_a_cpu(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, small_tower: int, passes: list[int]
) -> None:
    monkeypatch.setattr("workers.vision.encoder._SMALL_TOWER", small_tower)
    encoder = load_encoder(checkpoint)
    shapes = shapes_of_passes(encoder, monkeypatch)
    encode(encoder, random_frames(5, 72, 128))
    assert shapes == passes


def test_without_grid_the_base_is_the_same(checkpoint: Path) -> None:
    pictures, encoder = mixed_frames(), load_encoder(checkpoint)
    tiles, geometries = cut_pictures(pictures, encoder.geometry.without_grid())
    assert tiles.shape == (8, 56, 56, 3)
    (base,) = encoder.encode(tiles, geometries)
    assert base.grid.shape == (8, 0, 0, 64)
    # Only the tiles beside them in a pass are gone.
    whole = encoder.encode(*cut_pictures(pictures, encoder.geometry))
    full = torch.cat([batch.base for batch in whole])
    torch.testing.assert_close(base.base, full, atol=1e-5, rtol=1e-5)


def test_tiles_may_be_a_tensor_and_are_not_modified(checkpoint: Path) -> None:
    encoder = load_encoder(checkpoint)
    tiles, geometries = cut_pictures(mixed_frames(), encoder.geometry)
    before = tiles.copy()
    tensor = torch.from_numpy(tiles.copy())
    tiles.flags.writeable = False
    for one, two in zip(
        encoder.encode(tiles, geometries), encoder.encode(tensor, geometries), strict=True
    ):
        assert_equal(one, two)
    np.testing.assert_array_equal(tiles, before)
    np.testing.assert_array_equal(tensor.numpy(), before)


def test_attention_is_torch_s_fused_one(checkpoint: Path) -> None:
    assert load_encoder(checkpoint)._tower.config._attn_implementation == "sdpa"


def test_no_frames_have_no_features(checkpoint: Path) -> None:
    encoder = load_encoder(checkpoint)
    assert encode(encoder, []) == []


@pytest.mark.parametrize("cut", [slice(1), slice(4), (slice(None), slice(28))])
def test_tiles_of_other_frames_are_refused(
    checkpoint: Path, cut: slice | tuple[slice, slice]
) -> None:
    encoder = load_encoder(checkpoint)
    tiles, geometries = cut_pictures(random_frames(1, 72, 128), encoder.geometry)
    with pytest.raises(ValueError, match=r"not the tiles of these frames.*num_tiles = 5"):
        encoder.encode(tiles[cut], geometries)


ON_ACCELERATOR = """
from tests import accelerator
import sys, torch
from tests.workers.vision.test_encoder import mixed_frames
from workers.vision.encoder import VisionEncoder
from workers.vision.tiles import cut_pictures
torch.set_num_threads(1)
cpu, there = (VisionEncoder(sys.argv[1], device=device, dtype=torch.float32)
              for device in ("cpu", accelerator.NAME))
for geometry in (cpu.geometry, cpu.geometry.without_grid()):
    tiles, geometries = cut_pictures(mixed_frames(), geometry)
    batches = there.encode(tiles, geometries)
    for one, two in zip(batches, cpu.encode(tiles, geometries), strict=True):
        torch.testing.assert_close(one.base.cpu(), two.base, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.grid.cpu(), two.grid, atol=1e-5, rtol=1e-5)
    (last,) = there.encode(*cut_pictures(mixed_frames()[-1:], geometry))
    print(last.base.device, torch.equal(last.base.cpu()[0], batches[-1].base.cpu()[-1]),
          torch.equal(last.grid.cpu()[0], batches[-1].grid.cpu()[-1]))
"""


@pytest.mark.slow
def test_an_accelerator_gives_the_same_features_whatever_is_beside(checkpoint: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_ACCELERATOR, str(checkpoint)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    expected = "pretend:0 True True\n" * 2
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr[-2000:]


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
    (features,) = encode(encoder, frames)
    assert {each.dtype for each in (features.base, features.grid, features.newline)} == {
        torch.bfloat16
    }
    (exact,) = encode(load_encoder(checkpoint), frames)
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
    (actual,) = encode(load_encoder(folder), frames)
    (expected,) = encode(load_encoder(checkpoint), frames)
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
