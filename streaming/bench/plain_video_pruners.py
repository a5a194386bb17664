"""Pruning methods for video written down as their papers have them, see `plain_pruners`."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from pruner import frame_layout, water_fill
from pruner.rounding import significant_bits
from streaming.bench.plain_order import keep, ranked


def evs(base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """EVS: the tokens of the clip that changed most since the frame before (arXiv 2510.14624)."""
    layout = frame_layout(base, grid)
    tokens = torch.cat((base, grid.flatten(1, 2)), dim=1).float()
    changes = (1 - cosine_similarity(tokens[1:], tokens[:-1], dim=2)).clamp(0, 2)
    first = torch.full_like(tokens[:1, :, 0], 255.0)
    scores = (torch.cat((first, changes)) * 2**20).round() / 2**20
    num_content = scores.shape[1]
    order = [divmod(place, num_content) for place in ranked(scores.flatten())]
    return keep(order, layout, num_keep * len(base), num_frames=len(base))


def vidcom2(base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """VidCom2: tokens unlike the mean of clip and frame (arXiv 2505.14454)."""
    layout, num_frames = frame_layout(base, grid), len(base)
    tokens = torch.cat((base, grid.flatten(1, 2)), dim=1).float()
    variance = tokens.double().flatten(0, 1).var(dim=0, correction=0)
    steady = variance.argsort(stable=True)[: max(len(variance) // 2, 1)]
    units = normalize(tokens[:, :, steady], dim=2)  # (T, P, D / 2)
    to_clip = _likeness(units, units.mean(dim=(0, 1), dtype=torch.float64).float())
    to_frame = _likeness(units, units.mean(dim=1, keepdim=True, dtype=torch.float64).float())
    uniqueness = -to_clip.double().mean(dim=1)  # (T,)
    sigma = torch.softmax((uniqueness - uniqueness.max()) / 0.01, dim=0)
    weights = 1 + sigma - sigma.mean()
    caps = [layout.num_tokens] * num_frames
    shares = water_fill(weights, num_keep * num_frames, floors=[1] * num_frames, caps=caps).tolist()
    scores = ((10 - to_clip - to_frame) * 2**20).round() / 2**20
    kept = []
    for frame, share in zip(scores, shares, strict=True):
        kept += keep([(0, index) for index in ranked(frame)], layout, share)
    return kept


def vcast(base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """V-CAST: more where the clip turns, outliers and strong tokens first (arXiv 2603.27650)."""
    layout, num_frames = frame_layout(base, grid), len(base)
    tokens = torch.cat((base, grid.flatten(1, 2)), dim=1).float()
    centres = normalize(tokens.double().mean(dim=1), dim=1, eps=1e-6)  # (T, D)
    turns = [1.0] * num_frames
    for frame in range(1, num_frames - 1):
        before, after = centres[frame] - centres[frame - 1], centres[frame + 1] - centres[frame]
        turns[frame] = 1 - float(cosine_similarity(before, after, dim=0, eps=1e-6))
    weights = torch.softmax(torch.tensor(turns, dtype=torch.float64) / 0.7, dim=0)
    caps = [layout.num_tokens - 1] * num_frames
    rest = water_fill(weights, (num_keep - 1) * num_frames, floors=[0] * num_frames, caps=caps)
    kept = []
    for frame, centre, share in zip(tokens, centres, rest.tolist(), strict=True):
        norms = frame.norm(dim=1)
        strength = (norms - norms.min()) / (norms.max() - norms.min() + 1e-6)
        scores = 1 - cosine_similarity(frame, centre[None].float(), dim=1) + strength
        scores = (scores * 2**20).round() / 2**20
        kept += keep([(0, index) for index in ranked(scores)], layout, share + 1)
    return kept


def floc(base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """FLoC: facility location in each block of frames, by plain greedy choice (ICLR 2026)."""
    layout, kept = frame_layout(base, grid), []
    tokens = torch.cat((base, grid.flatten(1, 2)), dim=1).float()
    num_content = tokens.shape[1]
    for block in tokens.split(max(1, min(32, 16_384 // num_content))):
        share = num_keep * len(block)
        chosen = greedy(normalize(block.flatten(0, 1), dim=1), min(share, block[..., 0].numel()))
        order = [divmod(place, num_content) for place in chosen]
        kept += keep(order, layout, share, num_frames=len(block))
    return kept


def greedy(units: Tensor, num_keep: int) -> list[int]:
    """Tokens (N, D) in the order in which each raises sum_v max_{u in S} cos(v, u) most."""
    cosines = units @ units.T
    gains, covered = cosines.sum(dim=1), cosines.new_full((len(cosines),), -1.0)
    chosen: list[int] = []
    while len(chosen) < num_keep:
        scores = significant_bits(gains)
        scores[chosen] = -1
        chosen.append(int(scores.argmax()))
        covered = torch.maximum(covered, cosines[chosen[-1]])
        gains = (cosines - covered).clamp_min(0).sum(dim=1)
    return chosen


def flashvid(base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    """FlashVID: diverse tokens, trees over time, density peaks of what is left (ICLR 2026).

    Returned are the places; what they hold is averaged but not returned.
    """
    layout, kept = frame_layout(base, grid), []
    tokens = torch.cat((base, grid.flatten(1, 2)), dim=1).float()
    content = min(num_keep, tokens.shape[1])
    places = torch.cat((torch.arange(layout.num_base), layout.grid_indices()))
    newlines = layout.newline_indices()[: num_keep - content]
    for segment in segments(tokens):
        for own in merged_places(segment, content):
            kept.append(torch.cat((places[own], newlines)).sort().values)
    return kept


def segments(tokens: Tensor) -> Iterator[Tensor]:
    """The clip (T, N, D), cut where neighbouring frames differ, and into eight at least."""
    means = tokens.double().mean(dim=1)
    cosines = [round(float(cosine_similarity(*pair, dim=0)) * 2**20) for pair in pairwise(means)]
    differ = sum(cosine < 0.9 * 2**20 for cosine in cosines)
    by_cosine = sorted(range(len(cosines)), key=lambda cut: (cosines[cut], cut))
    cuts = sorted(cut + 1 for cut in by_cosine[: max(differ, 7)])
    for start, end in pairwise([0, *cuts, len(tokens)]):
        yield tokens[start:end]


def merged_places(segment: Tensor, num_keep: int) -> list[list[int]]:
    """Places kept of each frame of a segment (F, N, D), num_keep each on average."""
    num_frames, num_tokens = segment.shape[:2]
    units = normalize(segment, dim=2)
    mean = segment.double().mean(dim=(0, 1)).float()
    num_diverse = (7 * num_keep + 9) // 10
    relevance = (segment @ mean).clamp_min(0)
    diverse = [farthest(*frame, num_diverse) for frame in zip(units, relevance, strict=True)]
    links = tree_links(units, diverse)[: num_frames * (num_tokens - num_keep)]
    parents = {(frame, child): parent for _, frame, child, parent in links}
    sums, sizes = segment.clone(), torch.ones(num_frames, num_tokens, 1)
    for frame, child in sorted(parents, reverse=True):
        sums[frame - 1, parents[frame, child]] += sums[frame, child]
        sizes[frame - 1, parents[frame, child]] += sizes[frame, child]
    roots = [
        [place for place in range(num_tokens) if place not in own and (frame, place) not in parents]
        for frame, own in enumerate(diverse)
    ]
    caps = [len(own) for own in roots]
    rest = (num_keep - num_diverse) * num_frames
    shares = water_fill(caps, rest, floors=[0] * num_frames, caps=caps).tolist()
    means = sums / sizes
    return [
        own + [left[peak] for peak in peaks(frame[left], share)]
        for own, left, frame, share in zip(diverse, roots, means, shares, strict=True)
    ]


def farthest(units: Tensor, relevance: Tensor, num_keep: int) -> list[int]:
    """Places of tokens (N, D), each the farthest from those before, distances times relevance."""
    distances = ((1 - units @ units.T) * 2**20).round() / 2**20
    distances.fill_diagonal_(2)
    chosen: list[int] = []
    while len(chosen) < num_keep:
        gaps = (distances[chosen] if chosen else distances).amin(dim=0)
        scores = significant_bits(gaps * relevance)
        scores[chosen] = -1
        chosen.append(int(scores.argmax()))
    return chosen


def tree_links(units: Tensor, taken: list[list[int]]) -> list[tuple[float, int, int, int]]:
    """(-cosine, frame, place, place in the frame before) above 0.8, most similar first."""
    links = []
    for frame in range(1, len(units)):
        cosines = (units[frame] @ units[frame - 1].T * 2**20).round() / 2**20
        cosines[:, taken[frame - 1]] = -1
        for place, row in enumerate(cosines):
            if place not in taken[frame] and float(row.max()) > 0.8:
                links.append((-float(row.max()), frame, place, int(row.argmax())))
    return sorted(links)


def peaks(tokens: Tensor, num_clusters: int) -> list[int]:
    """Centres of clusters of tokens (N, D), by density and distance to anything denser."""
    if num_clusters in (0, len(tokens)):
        return list(range(num_clusters))
    distances = torch.cdist(tokens, tokens) / tokens.shape[1] ** 0.5
    distances.fill_diagonal_(0)
    nearest = distances.sort(dim=1).values[:, : min(num_clusters, 7)]
    density = torch.exp(-nearest.square().mean(dim=1))
    order = ranked(density)
    scores = density * distances.max()
    for rank, place in enumerate(order[1:], start=1):
        scores[place] = density[place] * distances[place, order[:rank]].min()
    return ranked(scores)[:num_clusters]


def _likeness(tokens: Tensor, mean: Tensor) -> Tensor:
    """Sum of exp(-||x - mean||^2 / (2 * 2^k)) for k = -3..1, of tokens (T, P, C): (T, P)."""
    squares = (tokens - mean).square().sum(dim=2)
    return torch.stack([torch.exp(-squares / (2 * 2.0**k)) for k in range(-3, 2)]).sum(dim=0)
