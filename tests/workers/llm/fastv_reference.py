"""The model layer by layer, pruned inside or not, without cache, SDPA or hooks: slow and plain."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.pruner.test_question_aware import slow_choice
from tests.pruner.test_standing import slow_sizes
from workers.arrays import unpack
from workers.llm.prompt import Prompt
from workers.visual import VisualSequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlowAnswer:
    token_ids: list[int]
    kept_visual: list[int]  # places among the visual tokens
    num_visual: int


def slow_answer(net: Any, clip: VisualSequence, prompt: Prompt, max_new_tokens: int) -> SlowAnswer:
    """Answer greedily; every new token takes the whole sequence through all layers again."""
    embeds, positions, visual = _lay_out(net, clip, prompt)
    places = list(range(len(embeds)))
    entered = [] if clip.sizes is None else clip.sizes.tolist()
    kept: list[int] = []
    handed_on: dict[int, int] = {}
    tokens: list[int] = []
    while len(tokens) < max_new_tokens and net.config.eos_token_id not in tokens:
        hidden, at = embeds * getattr(net.config, "embedding_multiplier", 1), places
        sizes = dict(zip(visual, entered, strict=False))
        for index, layer in enumerate(net.model.layers):
            own = torch.tensor([sizes.get(place, 1) for place in at])
            hidden, probabilities = _run_layer(layer, hidden, positions[at], at, own, net.config)
            if clip.prune_layer is not None and index == clip.prune_layer - 1:
                kept = kept or _choose(probabilities[:, len(embeds) - 1], visual, clip)
                at = sorted({*places} - ({*visual} - {*kept}))
                hidden = hidden[at]
                sizes = handed_on = handed_on or _handed_on(clip, sizes, visual, kept)
        logits = net.lm_head(net.model.norm(hidden[-1]))
        tokens.append(int(logits.argmax()))
        embeds = torch.cat([embeds, net.get_input_embeddings()(torch.tensor(tokens[-1:]))])
        positions = torch.cat([positions, positions[-1:] + 1])
        places = [*places, len(places)]
    return SlowAnswer(
        token_ids=tokens,
        kept_visual=[visual.index(place) for place in kept],
        num_visual=len(visual),
    )


def _lay_out(net: Any, clip: VisualSequence, prompt: Prompt) -> tuple[Tensor, Tensor, list[int]]:
    """Embeddings, position ids and the places of visual tokens, of frames that nothing pruned."""
    embed = net.get_input_embeddings()
    frames = unpack(clip.features, clip.dtype).split(clip.counts.tolist())
    rows: list[Tensor] = []
    visual: list[int] = []
    for segment, features in zip(prompt.frame_segments, frames, strict=True):
        rows += [embed(torch.tensor(token)) for token in segment]
        visual += range(len(rows), len(rows) + len(features))
        rows += [*features]
    rows += [embed(torch.tensor(token)) for token in prompt.question]
    return torch.stack(rows), torch.arange(len(rows)), visual


def _choose(attention: Tensor, visual: list[int], clip: VisualSequence) -> list[int]:
    if clip.priority is not None:
        is_visual = torch.tensor([place in visual for place in range(attention.shape[1])])
        features, times = unpack(clip.features, clip.dtype), torch.from_numpy(clip.times)
        kept = slow_choice(
            attention, is_visual, features, clip.priority, clip.num_keep, clip.reserve, times
        )
        return [place for place in kept if place in visual]
    scores = attention.mean(dim=0).tolist()
    return sorted(sorted(visual, key=lambda place: (-scores[place], place))[: clip.num_keep])


def _handed_on(
    clip: VisualSequence, sizes: dict[int, int], visual: list[int], kept: list[int]
) -> dict[int, int]:
    """The sizes of kept tokens once those of the others are theirs."""
    if not sizes:
        return {}
    chosen = [visual.index(place) for place in kept]
    features = unpack(clip.features, clip.dtype)
    own = slow_sizes(
        features, torch.from_numpy(clip.times), chosen, [sizes[place] for place in visual]
    )
    return dict(zip(kept, own, strict=True))


def _run_layer(
    layer: Any,
    hidden: Tensor,
    positions: Tensor,
    places: list[int],
    sizes: Tensor,
    config: Any,
) -> tuple[Tensor, Tensor]:
    attention = layer.self_attn
    entered = layer.input_layernorm(hidden)
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    size = config.hidden_size // heads
    query, key, value = (
        project(entered).view(len(places), -1, size).transpose(0, 1)  # (heads, tokens, size)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    theta = config.rope_parameters["rope_theta"]
    query, key = _rotate(query, positions, theta), _rotate(key, positions, theta)
    of_head = [head * key_heads // heads for head in range(heads)]
    scores = query @ key[of_head].transpose(1, 2)
    scores = scores * getattr(config, "attention_multiplier", size**-0.5)
    distance = torch.tensor(places)[:, None] - torch.tensor(places)[None]
    window = getattr(config, "sliding_window", None) or len(hidden) ** 2
    scores[:, (distance < 0) | (distance >= window)] = -torch.inf
    shares = sizes * (scores - scores.amax(dim=-1, keepdim=True)).exp()
    weighed = shares / shares.sum(dim=-1, keepdim=True)
    mixed = (weighed @ value[of_head]).transpose(0, 1).flatten(1)
    part = getattr(config, "residual_multiplier", 1)
    hidden = hidden + part * attention.o_proj(mixed)
    alone = scores.softmax(dim=-1)  # what each gets for itself, by which tokens are chosen
    return hidden + part * layer.mlp(layer.post_attention_layernorm(hidden)), alone


def _rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotary position embedding: channels i and i + size / 2 are one complex number."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * theta ** (-torch.arange(half) / half)
    numbers = torch.complex(x[..., :half], x[..., half:]) * torch.exp(1j * angles)
    return torch.cat([numbers.real, numbers.imag], dim=-1).float()
