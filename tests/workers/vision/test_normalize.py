import torch

from workers.vision.normalize import Normalization, normalize, read_normalization


def test_normalize_casts_and_puts_channels_first() -> None:
    tiles = torch.arange(2 * 2 * 3 * 3, dtype=torch.uint8).view(2, 2, 3, 3)
    settings = Normalization(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    pixels = normalize(tiles, settings, torch.float32)
    expected = [
        (tiles[..., 0] / 255).float(),
        (tiles[..., 1] / 255 - 0.5) / 0.5,
        (tiles[..., 2] / 255 - 1) / 2,
    ]
    torch.testing.assert_close(pixels, torch.stack(expected, dim=1))
    assert pixels.is_contiguous()
    assert normalize(tiles, settings, torch.bfloat16).dtype == torch.bfloat16


def test_settings_are_those_stated_or_clip_s() -> None:
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    stated = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert read_normalization(settings) == stated
    assert read_normalization({}) == Normalization()
