from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.vision.pictures import draw_picture
from workers.arrays import UInt8Array
from workers.vision.encoder import FrameFeatures, VisionEncoder
from workers.vision.gate import (
    MOST_DIFFERENCE,
    encode_gated,
    moved_patches,
    tiles_over,
    turned_tokens,
    twins,
)
from workers.vision.geometry import TileGeometry
from workers.vision.tiles import cut_pictures

SIZE = (96, 160)
SMALL = TileGeometry(
    tile_size=56, patch_size=14, pinpoints=((56, 112), (112, 56), (112, 112), (168, 56), (56, 168))
)
UNEVEN = TileGeometry(tile_size=60, patch_size=14, pinpoints=((60, 120), (120, 60), (120, 120)))


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> VisionEncoder:
    return VisionEncoder(str(checkpoint), device="cpu", dtype=torch.float32)


def gate(
    encoder: VisionEncoder, pictures: Sequence[UInt8Array], *, keep_anchor: bool = True
) -> tuple[list[FrameFeatures], int]:
    tiles, geometries = cut_pictures(pictures, encoder.geometry)
    tiles.flags.writeable = False
    return encode_gated(encoder, tiles, geometries, keep_anchor=keep_anchor)


def encode(encoder: VisionEncoder, pictures: Sequence[UInt8Array]) -> list[FrameFeatures]:
    return encoder.encode(*cut_pictures(pictures, encoder.geometry))


def check_equal(some: Sequence[FrameFeatures], others: Sequence[FrameFeatures]) -> None:
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one.base, other.base)
        assert torch.equal(one.grid, other.grid)


def check_close(some: Sequence[FrameFeatures], others: Sequence[FrameFeatures]) -> None:
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one.base, other.base, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.grid, other.grid, atol=1e-5, rtol=1e-5)


def with_corner(picture: UInt8Array) -> UInt8Array:
    """Return a picture with other colours in its lower right eighth."""
    changed = picture.copy()
    changed[-34:, -56:] = 255 - changed[-34:, -56:]
    return changed


@pytest.mark.parametrize("tiles", [SMALL, UNEVEN])
@pytest.mark.parametrize(
    "size", [(96, 160), (160, 96), (40, 40), (72, 128), (30, 200), (200, 30), (37, 111), (3, 200)]
)
def test_the_twin_of_a_tile_is_what_shows_the_same_part_of_the_picture(
    size: tuple[int, int], tiles: TileGeometry
) -> None:
    """Each pixel of the scaled picture is on one tile, and under base tokens, if under any."""
    geometry = tiles.frame(*size)
    (height, width), (above, left) = geometry.resized, geometry.padding
    side, across = tiles.tokens_per_side, geometry.grid[1]
    expected = np.zeros((geometry.num_tiles - 1, side, side), bool)
    for y in range(height if geometry.rows else 0):
        for x in range(width):
            tile = (above + y) // tiles.tile_size * across + (left + x) // tiles.tile_size
            rows, columns = tokens_under(y, height, tiles), tokens_under(x, width, tiles)
            expected[tile, rows, columns] = True
    np.testing.assert_array_equal(twins(geometry), expected.reshape(-1, side * side))


def tokens_under(place: int, length: int, tiles: TileGeometry) -> slice:
    """Return which tokens show what of ``length`` pixels is the one at ``place``."""
    first, last = place * tiles.tile_size, (place + 1) * tiles.tile_size - 1
    step = length * tiles.token_size
    return slice(first // step, last // step + 1)


def test_a_tile_of_padding_alone_has_no_twin() -> None:
    tall = TileGeometry(tile_size=56, patch_size=14, pinpoints=((168, 56),))
    assert twins(tall.frame(56, 56)).any(axis=1).tolist() == [False, True, False]


def test_of_frames_that_show_the_same_only_the_base_is_encoded(encoder: VisionEncoder) -> None:
    picture = draw_picture(*SIZE)
    ((frames,), num_encoded) = gate(encoder, [picture] * 6)
    assert num_encoded == 5 + 5 * 1
    check_close([frames], encode(encoder, [picture] * 6))
    assert all(torch.equal(grid, frames.grid[0]) for grid in frames.grid)


def test_frames_that_change_everywhere_are_encoded_as_without_a_gate(
    encoder: VisionEncoder,
) -> None:
    pictures = [draw_picture(*SIZE, seed=seed) for seed in range(5)]
    frames, num_encoded = gate(encoder, pictures)
    assert num_encoded == 5 * 5
    check_close(frames, encode(encoder, pictures))


@pytest.mark.parametrize(("most_difference", "least_similarity"), [(24.0, -2.0), (256.0, 0.6)])
def test_of_a_frame_that_changes_in_one_corner_that_tile_is_encoded(
    encoder: VisionEncoder,
    monkeypatch: pytest.MonkeyPatch,
    most_difference: float,
    least_similarity: float,
) -> None:
    """By its pixels alone, and by its tokens alone, which change most in the corner."""
    monkeypatch.setattr("workers.vision.gate.MOST_DIFFERENCE", most_difference)
    monkeypatch.setattr("workers.vision.gate.LEAST_SIMILARITY", least_similarity)
    anchor = draw_picture(*SIZE)
    pictures = [anchor, with_corner(anchor)]
    ((frames,), num_encoded) = gate(encoder, pictures)
    assert num_encoded == 5 + 2
    (full,) = encode(encoder, pictures)
    top, left = 2, 4
    torch.testing.assert_close(frames.base, full.base, atol=1e-5, rtol=1e-5)
    new, old = frames.grid[1], full.grid[0]
    torch.testing.assert_close(new[top:, left:], full.grid[1][top:, left:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(new[:top], old[:top], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(new[top:, :left], old[top:, :left], atol=1e-5, rtol=1e-5)


SIZES = [(96, 160), (96, 160), (160, 96), (40, 40), (3, 200), (96, 130), (96, 160)]
"""The fifth has no grid."""


def test_frames_of_another_size_than_their_anchor_are_encoded_in_full(
    encoder: VisionEncoder,
) -> None:
    pictures = [draw_picture(*size) for size in SIZES]
    frames, num_encoded = gate(encoder, pictures)
    check_close(frames, encode(encoder, pictures))
    assert num_encoded == sum([5, 1, 5, 3, 1, 5, 1])


def test_a_frame_depends_on_itself_and_its_anchor_alone(encoder: VisionEncoder) -> None:
    anchor = draw_picture(*SIZE)
    others = [anchor, with_corner(anchor), *(draw_picture(*SIZE, seed=seed) for seed in (1, 2))]
    ((together,), _) = gate(encoder, [anchor, *others])
    for place, picture in enumerate(others, start=1):
        ((alone,), _) = gate(encoder, [anchor, picture], keep_anchor=False)
        assert len(alone) == 1
        assert torch.equal(alone.base[0], together.base[place])
        assert torch.equal(alone.grid[0], together.grid[place])


def test_an_anchor_alone_is_encoded_as_without_a_gate(encoder: VisionEncoder) -> None:
    pictures = [draw_picture(*SIZE)]
    frames, num_encoded = gate(encoder, pictures)
    assert num_encoded == 5
    check_equal(frames, encode(encoder, pictures))


def test_what_has_no_direction_has_turned() -> None:
    anchor = torch.ones(3, 8)
    base = anchor.clone()
    base[1], base[2] = 0.0, float("nan")
    assert turned_tokens(base, anchor).tolist() == [False, True, True]


def test_a_patch_has_moved_where_its_levels_differ_by_more_than_the_limit() -> None:
    anchor = np.full((1, 56, 56, 3), 100, np.uint8)
    tile = anchor.copy()
    tile[:, :14, :14] += int(MOST_DIFFERENCE)
    tile[:, :14, 14:28] += int(MOST_DIFFERENCE) + 1
    tile[:, 42:, 42:] -= int(MOST_DIFFERENCE) + 1
    assert np.flatnonzero(moved_patches(tile, anchor, SMALL)).tolist() == [1, 15]
    on_device = [torch.from_numpy(each) for each in (tile, anchor)]
    assert np.flatnonzero(moved_patches(*on_device, SMALL)).tolist() == [1, 15]


def test_a_tile_is_over_a_token_if_it_shows_any_part_of_it() -> None:
    tokens = np.zeros(16, bool)
    geometry = SMALL.frame(*SIZE)
    assert tiles_over(geometry, tokens).tolist() == [True, False, False, False, False]
    tokens[6] = True
    assert tiles_over(geometry, tokens).tolist() == [True, False, True, False, False]
    assert tiles_over(SMALL.frame(3, 200), tokens).tolist() == [True]


def test_pixels_beside_the_last_patch_do_not_count() -> None:
    anchor, tile = np.zeros((2, 1, 60, 60, 3), np.uint8)
    tile[:, 56:] = 255
    assert not moved_patches(tile, anchor, UNEVEN).any()
    tile[:, 50:] = 255
    assert moved_patches(tile, anchor, UNEVEN).reshape(4, 4).all(axis=1).tolist() == [False] * 3 + [
        True
    ]
