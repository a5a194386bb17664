"""Where training starts from: whitened patches, and word vectors that match what tokens show."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlavaNextForConditionalGeneration, PreTrainedTokenizerFast

from training.glyphs import CHARACTERS
from training.guides import SIGN_OF_HEAD
from training.heads import VisionHeads
from training.labels import IGNORE, NUM_BINS
from training.model import to_pixel_values, vision_features
from training.numbers import NUM_PARTS, Numbers
from training.runner import to_tensors
from training.scene import COLORS, SHAPES
from training.vision_data import LABELS, vision_batch
from training.words import MOST_DIGITS, single_token

NORM = 3.5
"""Length of visual and word vectors when the language stage begins."""
_FLOOR = 3e-2
_STRONG = 2.4
_NAMES: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS), "shape": SHAPES, "character": tuple(CHARACTERS),
}  # fmt: skip


@torch.no_grad()
def whiten_patches(model: LlavaNextForConditionalGeneration, seed: int) -> None:
    """Set the patch embedding to the whitened, randomly turned leading components of patches.

    A position starts as the sum of a row's and a column's random vector, so that what is learnt of
    one row is known in all.
    """
    tower = model.model.vision_tower
    convolution = tower.embeddings.patch_embedding
    side, width = convolution.kernel_size[0], convolution.out_channels
    tiles = to_tensors(vision_batch(seed, 10**6, 256))["tiles"].flatten(0, 1)
    patches = to_pixel_values(tiles).unfold(2, side, side).unfold(3, side, side)
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)
    mean = patches.mean(0)
    covariance = torch.cov((patches - mean).T)
    values, vectors = torch.linalg.eigh(covariance.double())
    leading = vectors[:, -width:] / (values[-width:].clamp(min=0) + _FLOOR).sqrt()
    turn = torch.linalg.qr(torch.randn(width, width, dtype=torch.double))[0]
    weight = (leading @ turn).T.float()
    convolution.weight.copy_(weight.view_as(convolution.weight))
    positions = tower.embeddings.position_embedding.weight
    num_rows = math.isqrt(len(positions) - 1)
    rows, columns = (torch.randn(2, num_rows, positions.shape[1]) * 0.5).unbind()
    positions.normal_(std=0.02)
    positions[1:] += (rows[:, None] + columns).flatten(0, 1) - weight @ mean


@torch.no_grad()
def copy_attended(model: LlavaNextForConditionalGeneration) -> None:
    """Set every attention to start by looking for what is alike and copying it.

    Query and key projections start equal, value and output projections as each other's
    transpose. Nothing is tied: training may undo it.
    """
    for layer in model.model.language_model.layers:
        attention = layer.self_attn
        size = attention.q_proj.weight.shape[0]
        alike = torch.linalg.qr(torch.randn(size, size))[0]
        attention.q_proj.weight.copy_(1.2 * alike)
        attention.k_proj.weight.copy_(alike + torch.randn(size, size) * 0.3 / math.sqrt(size))
        turn = torch.linalg.qr(torch.randn(size, size))[0]
        attention.v_proj.weight.copy_(0.5 * turn)
        attention.o_proj.weight.copy_(0.5 * turn.T)
    _pass_on(model)


def _pass_on(model: LlavaNextForConditionalGeneration) -> None:
    """Let the heads of the last layer that say times begin by copying what those half way up copy.

    Both strongly: of a timestamp has to be left, after two copies, what is heard beside all else.
    """
    layers = model.model.language_model.layers
    middle, last = layers[len(layers) // 2 - 1].self_attn, layers[-1].self_attn
    size = len(SIGN_OF_HEAD) * middle.head_dim
    for one, other, heads in (
        (middle.v_proj, last.v_proj, slice(size)),
        (middle.o_proj, last.o_proj, (slice(None), slice(size))),
    ):
        one.weight[heads] *= _STRONG
        other.weight[heads] = one.weight[heads]


@torch.no_grad()
def match_words(
    model: LlavaNextForConditionalGeneration,
    heads: VisionHeads,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
) -> None:
    """Centre and scale the projected features, and point the words at what they name.

    A word's input vector becomes the mean feature of the tokens that show it, its output vector
    the direction in which the vision stage's head finds it; one that none shows keeps a drawn input
    vector. The mean between tokens with and without something on them is taken off all features,
    through the projector's bias.
    """
    batch = to_tensors(vision_batch(seed, 2 * 10**6, 256))
    labels = {name: batch[name] for name in LABELS}
    tiles = batch["tiles"]
    features = vision_features(model, tiles.flatten(0, 1)).unflatten(0, tiles.shape[:2])
    shown, empty = labels["item"] >= 0, labels["item"] == -1
    center = (features[shown].mean(0) + features[empty].mean(0)) / 2
    factor = NORM / (features[shown] - center).norm(dim=-1).mean()
    projector = model.model.multi_modal_projector.linear_2
    projector.weight.mul_(factor)
    projector.bias.sub_(center).mul_(factor)
    features = (features - center) * factor

    embed, head = model.model.language_model.embed_tokens.weight, model.lm_head.weight
    size = embed.shape[1]
    embed.normal_(std=NORM / math.sqrt(size))
    head.normal_(std=0.5 / math.sqrt(size))
    model.model.image_newline.normal_(std=NORM / math.sqrt(size))
    match_numbers(model, tokenizer)
    for name, words in _NAMES.items():
        label, known = labels[name], _known(name, labels)
        overall = features[known].mean(0)
        for number, word in enumerate(words):
            token = single_token(tokenizer, word)
            shows = known & (label == number)
            if bool(shows.any()):
                mean = features[shows].mean(0) - overall
                embed[token] = 0.5 * embed[token] + NORM * mean / mean.norm()
            found = getattr(heads, name).weight[number] - getattr(heads, name).weight.mean(0)
            head[token] = found / found.norm() * 1.0
    for name, (low, high) in {"x": ("left", "right"), "y": ("top", "bottom")}.items():
        weight = getattr(heads, name).weight
        found = weight[NUM_BINS // 2 :].mean(0) - weight[: NUM_BINS // 2].mean(0)
        found = found / found.norm()
        for word, sign in ((low, -1.0), (high, 1.0)):
            token = single_token(tokenizer, word)
            embed[token] += sign * NORM / 2 * found
            head[token] = sign * found


@torch.no_grad()
def match_numbers(
    model: LlavaNextForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Make the vectors of the numbers of times of their digits, and read out what is put in.

    All are among what the heads for whole seconds copy half way up, as far as it goes at right
    angles. They stay sums of their digits, see ``Numbers``.
    """
    numbers = Numbers(tokenizer)
    embed, head = model.model.language_model.embed_tokens.weight, model.lm_head.weight
    layers = model.model.language_model.layers
    middle = layers[len(layers) // 2 - 1].self_attn
    values = middle.v_proj.weight.unflatten(0, (-1, middle.head_dim))
    of_seconds = [h for h, sign in enumerate(SIGN_OF_HEAD[: len(values)]) if sign == 0]
    copied = values[of_seconds].flatten(0, 1)
    drawn = nn.init.orthogonal_(torch.empty(NUM_PARTS, len(copied)))
    made = numbers.parts @ (drawn @ F.normalize(copied, dim=1)) / math.sqrt(MOST_DIGITS)
    embed[numbers.tokens], head[numbers.tokens] = NORM * made, made


def _known(name: str, labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the tokens that show something nameable of this kind."""
    return (labels[name] != IGNORE) & (labels[name] < len(_NAMES[name]))
