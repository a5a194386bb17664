"""The model's forward pass in training: many questions per clip behind one visual prefix."""

from dataclasses import dataclass

import torch
from transformers import LlavaNextForConditionalGeneration

from training.model import vision_features
from workers.vision.geometry import FrameGeometry
from workers.vision.grid import assemble_grid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefix:
    """The embedded prompt up to the last picture, and where its visual tokens are."""

    embeds: torch.Tensor
    """(clips, length, hidden)."""
    frame: torch.Tensor
    """(length): the frame a visual token belongs to, -1 for text."""
    token: torch.Tensor
    """(length): tile * 64 + patch of a visual token, -1 for text and newline tokens."""


def token_order(geometry: FrameGeometry) -> torch.Tensor:
    """Return tile * 64 + patch of every visual token of a picture in order, -1 for newlines."""
    num_base = geometry.tiles.num_base
    tokens = torch.arange(geometry.num_tiles * num_base).view(1, -1, num_base, 1)
    grid = assemble_grid(tokens[:, 1:], geometry)[0, :, :, 0]
    newlines = torch.full((geometry.rows, 1), -1)
    return torch.cat([tokens[0, 0, :, 0], torch.cat([grid, newlines], dim=1).flatten()])


def embed_prefix(
    model: LlavaNextForConditionalGeneration,
    tiles: torch.Tensor,
    geometry: FrameGeometry,
    segments: torch.Tensor,
) -> Prefix:
    """Return the embedded prefix of clips of equal length and size, the vision tower frozen.

    Args:
        model: The model.
        tiles: (clips, frames, 5, 56, 56, 3) uint8.
        geometry: Of all pictures.
        segments: Ids before every picture (frames, length), the same for all clips, -1 behind.
    """
    num_clips, num_frames = tiles.shape[:2]
    features = vision_features(model, tiles.flatten(0, 2), frozen_tower=True)
    features = features.view(num_clips, num_frames, -1, features.shape[-1])
    order = token_order(geometry)
    newline = model.model.image_newline.expand(num_clips, num_frames, 1, -1)
    # Index -1 reads the newline, which is put last.
    pictures = torch.cat([features, newline], dim=2)[:, :, order]
    is_text = torch.cat([segments >= 0, torch.zeros(num_frames, len(order)).bool()], dim=1)
    is_there = is_text.clone()
    is_there[:, segments.shape[1] :] = True
    text = model.model.language_model.embed_tokens(segments.clamp(min=0))
    body = torch.cat([text.expand(num_clips, -1, -1, -1), pictures], dim=2)[:, is_there]
    frames = torch.arange(num_frames)[:, None].expand_as(is_text)
    tokens = torch.cat([segments, order.expand(num_frames, -1)], dim=1)
    return Prefix(
        embeds=body,
        frame=torch.where(is_text, -1, frames)[is_there],
        token=torch.where(is_text, -1, tokens)[is_there],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passage:
    """What is taken of a pass through the language model."""

    hidden: torch.Tensor
    """Of the questions, normalised: (clips, questions, length, hidden)."""
    probed: torch.Tensor
    """Of the prefix, half way up: (clips, prefix length, hidden)."""
    asked: torch.Tensor
    """Of the questions, half way up: (clips, questions, length, hidden)."""
    looks: torch.Tensor
    """Attention of the last layer but one, questions to the prefix: (clips, heads, questions,
    length, prefix length)."""
    time_looks: torch.Tensor
    """The same of the last layer."""
    rows: torch.Tensor
    """Tokens of the prefix (n) of which there is more."""
    looked_at: torch.Tensor
    """``rows``, as the last layer gets them: (clips, rows, hidden)."""
    sizes: torch.Tensor
    """Root mean squares of the questions' states behind the last layer (clips, questions, length),
    without gradient."""
    names: torch.Tensor
    """Attention of the layer above the probed ones, questions to themselves: (clips, heads,
    questions, length, length)."""
    seen_from: torch.Tensor
    """Attention half way up, ``rows`` to the prefix: (clips, heads, rows, prefix length)."""


def run_language(
    model: LlavaNextForConditionalGeneration,
    prefix: Prefix,
    ids: torch.Tensor,
    probe_layer: int,
    rows: torch.Tensor,
) -> Passage:
    """Run questions behind a prefix.

    Args:
        model: The model, its attention set to ``shared_prefix``.
        prefix: What every question sees.
        ids: Questions with answers (clips, questions, length).
        probe_layer: How many layers the probed states have passed, half of them: one more than
            those whose attention ``--question-aware`` and FastV go by.
        rows: (n), tokens of the prefix of which attention is wanted; none for nothing of it.
    """
    language = model.model.language_model
    num_questions, length = ids.shape[1:]
    prefix_length = prefix.embeds.shape[1]
    hidden = torch.cat([prefix.embeds, language.embed_tokens(ids).flatten(1, 2)], dim=1)
    behind = torch.arange(prefix_length, prefix_length + length).repeat(num_questions)
    positions = torch.cat([torch.arange(prefix_length), behind])[None]
    rotary = language.rotary_emb(hidden, positions)
    probed, asked = hidden.tensor_split([prefix_length], dim=1)
    looks: list[torch.Tensor] = []
    seen_from: list[torch.Tensor] = []
    names: list[torch.Tensor] = []
    looked_at = hidden[:, rows]
    num_layers = len(language.layers)
    for number, layer in enumerate(language.layers, start=1):
        if number == num_layers:
            looked_at = hidden[:, rows]
        hidden = layer(
            hidden, attention_mask=None, position_embeddings=rotary, position_ids=positions,
            prefix_length=prefix_length, num_questions=num_questions,
            looks=looks if number >= num_layers - 1 else None, rows=rows,
            seen_from=seen_from if number == probe_layer else None,
            names=names if number == probe_layer + 1 else None,
        )  # fmt: skip
        if number == probe_layer:
            probed, asked = hidden.tensor_split([prefix_length], dim=1)
    asked_states = hidden[:, prefix_length:]
    hidden = language.norm(asked_states)
    shape = (num_questions, length)
    return Passage(
        hidden=hidden.unflatten(1, shape),
        probed=probed,
        asked=asked.unflatten(1, shape),
        looks=looks[0].unflatten(2, shape),
        time_looks=looks[1].unflatten(2, shape),
        rows=rows,
        looked_at=looked_at,
        sizes=asked_states.detach().float().square().mean(-1).sqrt().unflatten(1, shape),
        seen_from=seen_from[0],
        names=names[0].unflatten(2, shape),
    )
