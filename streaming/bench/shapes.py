"""The sizes of models that random weights are made in."""

from dataclasses import dataclass, replace

from workers.vision.tower import TOWERS

_PINPOINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))  # in tiles, as the real checkpoints have
_GRANITE_PINPOINTS = tuple(
    (rows, columns)
    for rows, most in enumerate([10, 5, 3, 2, 2, 1, 1, 1, 1, 1], start=1)
    for columns in range(1, most + 1)
    if rows * columns > 1
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a LLaVA: a vision tower on square tiles and a language model like Llama.

    ``family`` and ``tower`` are ``model_type`` of transformers, ``feature_layers`` the tower's that
    are used, counted from its end, ``pinpoints`` in tiles. A vocabulary of 0 is the tokenizer's; a
    larger one than that has words nobody says.
    """

    family: str = "llava_next"
    tower: str = "clip_vision_model"
    feature_layers: tuple[int, ...] = (-2,)
    pinpoints: tuple[tuple[int, int], ...] = _PINPOINTS

    tile_size: int = 336
    vision_size: int = 1024
    vision_wide: int = 4096
    vision_heads: int = 16
    vision_layers: int = 24
    text_size: int = 4096
    text_wide: int
    text_heads: int = 32
    text_key_heads: int
    text_layers: int = 32
    vocabulary: int
    context_length: int

    def thinned(self, num_layers: int) -> "Shape":
        """Return the same with at most so many layers in the tower and in the language model."""
        unused = -1 - max(self.feature_layers)
        vision_layers = min(self.vision_layers, num_layers + unused)
        return replace(
            self,
            vision_layers=vision_layers,
            feature_layers=tuple(max(layer, -vision_layers - 1) for layer in self.feature_layers),
            text_layers=min(self.text_layers, num_layers),
        )

    @property
    def has_class_token(self) -> bool:
        """Whether the tower gives a token beside those of its patches."""
        return TOWERS[self.tower].has_class_token


SHAPES = {
    "llava-next-8b": Shape(
        text_wide=14_336, text_key_heads=8, vocabulary=128_320, context_length=8192
    ),
    "llava-next-mistral-7b": Shape(
        text_wide=14_336, text_key_heads=8, vocabulary=32_064, context_length=32_768
    ),
    "llava-next-vicuna-7b": Shape(
        text_wide=11_008, text_key_heads=32, vocabulary=32_064, context_length=4096
    ),
    "llava-1.5-7b": Shape(
        family="llava",
        text_wide=11_008,
        text_key_heads=32,
        vocabulary=32_064,
        context_length=4096,
    ),
    "granite-vision-2b": Shape(
        tower="siglip_vision_model",
        feature_layers=(-24, -20, -12, -1),
        pinpoints=_GRANITE_PINPOINTS,
        tile_size=384,
        vision_size=1152,
        vision_wide=4304,
        vision_layers=27,
        text_size=2048,
        text_wide=8192,
        text_key_heads=8,
        text_layers=40,
        vocabulary=49_156,
        context_length=131_072,
    ),
}
"""The sizes of ``llava-hf``'s checkpoints and of ``ibm-granite/granite-vision-3.2-2b``."""
