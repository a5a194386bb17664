"""Training-only heads: they ask tokens what they show and follow, and are dropped afterwards."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from training.glyphs import CHARACTERS
from training.labels import IGNORE, NO_SHAPE, NOTHING, NUM_BINS, NUM_KINDS
from training.questions import COUNTS
from training.scene import DIRECTIONS
from training.sequence_labels import NUM_RANKS

Labels = dict[str, torch.Tensor]
_QUIET = 0.15
"""Weight of tokens that show nothing: there are many."""
_FRAMES = 2.0
"""Weight of being off by a factor of e in how many frames there were: a tenth is already much."""


class VisionHeads(nn.Module):
    """Reads colour, shape, characters and place out of projected features."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.color = nn.Linear(hidden_size, NUM_KINDS)
        self.shape = nn.Linear(hidden_size, NO_SHAPE + 1)
        self.character = nn.Linear(hidden_size, len(CHARACTERS) + 1)
        """The last class is a plate that cannot be read."""
        self.x = nn.Linear(hidden_size, NUM_BINS)
        self.y = nn.Linear(hidden_size, NUM_BINS)

    def forward(self, features: torch.Tensor, labels: Labels) -> tuple[torch.Tensor, Labels]:
        """Return the loss, and the share of tokens each head is right about, by resolution.

        Args:
            features: Projected features (pictures, 5, 64, hidden); tile 0 is the base.
            labels: Token labels (pictures, 5, 64).
        """
        base, high = features[:, 0], features[:, 1:]
        quiet = torch.ones(NUM_KINDS)
        quiet[NOTHING] = _QUIET
        loose = torch.ones(NO_SHAPE + 1)
        loose[NO_SHAPE] = _QUIET
        color, shape = self.color(features), self.shape(features)
        character, unread = self.character(high), self.character(base)
        x, y = self.x(base), self.y(base)
        # Only base tokens can know where in the frame they are; only tiles can be read, and what
        # the base shows of a plate is to be like no character.
        unreadable = torch.where(labels["color"][:, 0] > NOTHING, len(CHARACTERS), IGNORE)
        mixed, right_mixed = self._mixed_loss(features, labels["color"])
        loss = (
            _entropy(color, labels["color"], quiet)
            + _entropy(shape, labels["shape"], loose)
            + 2.0 * _entropy(character, labels["character"][:, 1:])
            + _entropy(unread, unreadable)
            + _entropy(x, labels["x"][:, 0])
            + _entropy(y, labels["y"][:, 0])
            + 2.0 * _vote_loss(shape, labels)
            + mixed
        )
        right = {
            "color_base": _right(color[:, 0], labels["color"][:, 0], NOTHING),
            "color_high": _right(color[:, 1:], labels["color"][:, 1:], NOTHING),
            "color_mixed": right_mixed,
            "shape_base": _right(shape[:, 0], labels["shape"][:, 0], NO_SHAPE),
            "shape_high": _right(shape[:, 1:], labels["shape"][:, 1:], NO_SHAPE),
            "character_high": _right(character, labels["character"][:, 1:], IGNORE),
            "x_base": _right(x, labels["x"][:, 0], IGNORE),
            "y_base": _right(y, labels["y"][:, 0], IGNORE),
        }
        return loss, right

    def _mixed_loss(
        self, features: torch.Tensor, color: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of telling both colours of two tokens' mean, and how often both are told.

        A question that names two colours looks for the sum of both, which is to be like neither
        orange, between red and yellow, nor any other third. Every token of a shape is mixed with
        one of another picture (Zhang et al., mixup, 2018, equal shares, of features).
        """
        on_shape = (color >= 0) & (color < NOTHING)
        own, label = features[on_shape], color[on_shape]
        away = len(own) // 2
        other = label.roll(away)
        logits = self.color((own + own.roll(away, 0)) / 2)
        loss = (_entropy(logits, label) + _entropy(logits, other)) / 2
        differ = label != other
        told = logits[differ].topk(2).indices.sort().values
        both = torch.stack([label, other], dim=-1)[differ].sort().values
        hits = (told == both).all(-1).sum() / differ.sum().clamp(min=1)
        return loss, hits.detach()


class SequenceHeads(nn.Module):
    """Asks the visual tokens, half way up the language model, what a single frame cannot tell."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.motion = nn.Linear(hidden_size, len(DIRECTIONS) + 1)
        self.number_rank = nn.Linear(hidden_size, NUM_RANKS)
        self.character = nn.Linear(hidden_size, len(CHARACTERS))
        self.num_shapes = nn.Linear(hidden_size, len(COUNTS))
        self.log_frame = nn.Linear(hidden_size, 1)
        self.is_base = nn.Linear(hidden_size, 2)
        self.is_new = nn.Linear(hidden_size, 2)
        self.x = nn.Linear(hidden_size, NUM_BINS)
        self.y = nn.Linear(hidden_size, NUM_BINS)

    def forward(self, hidden: torch.Tensor, labels: Labels) -> tuple[torch.Tensor, Labels]:
        """Return the loss and the shares of tokens that are right.

        Args:
            hidden: Hidden states (n, hidden) of labelled visual tokens.
            labels: ``item``, ``motion``, ``number_rank``, ``character``, ``num_shapes``,
                ``is_base``, ``is_new``, ``x``, ``y`` (n) class numbers, ``log_frame`` (n) floats.
        """
        motion, rank = self.motion(hidden), self.number_rank(hidden)
        count, read = self.num_shapes(hidden), self.character(hidden)
        frame = self.log_frame(hidden)[:, 0].float()
        on_base = labels["is_base"] == 1
        base, x, y = self.is_base(hidden), self.x(hidden), self.y(hidden)
        new = self.is_new(hidden)
        miss, shows = (frame - labels["log_frame"]).abs(), labels["item"] >= 0
        shown_miss, other_miss = _mean(miss[shows]), _mean(miss[~shows])
        loss = (
            _entropy(motion[on_base], labels["motion"][on_base])
            + _entropy(motion[~on_base], labels["motion"][~on_base])
            + 0.5 * _entropy(rank, labels["number_rank"])
            + 0.5 * _entropy(read, labels["character"])
            + 2.0 * _entropy(count, labels["num_shapes"])
            + _FRAMES * (shown_miss + other_miss)
            + 0.5 * _entropy(base, labels["is_base"])
            + 0.5 * _entropy(new, labels["is_new"])
            + 0.5 * _entropy(x, labels["x"])
            + 0.5 * _entropy(y, labels["y"])
        )
        right = {
            "base_motion": _right(motion[on_base], labels["motion"][on_base], IGNORE),
            "tile_motion": _right(motion[~on_base], labels["motion"][~on_base], IGNORE),
            "token_rank": _right(rank, labels["number_rank"], IGNORE),
            "token_read": _right(read, labels["character"], IGNORE),
            "token_count": _right(count, labels["num_shapes"], IGNORE),
            "token_base": _right(base, labels["is_base"], IGNORE),
            "token_new": _right(new, labels["is_new"], IGNORE),
            "token_x": _right(x, labels["x"], IGNORE),
            "token_y": _right(y, labels["y"], IGNORE),
            "token_frame_miss": miss.mean().detach(),
            "shown_frame_miss": shown_miss.detach(),
        }
        return loss, right

    def length(self, hidden: torch.Tensor, num_frames: int) -> tuple[torch.Tensor, Labels]:
        """Return the loss of telling how many frames there are, as pictures tell those before them.

        Args:
            hidden: Hidden states (n, hidden) of tokens behind the last picture.
            num_frames: Of the clip.
        """
        miss = (self.log_frame(hidden)[:, 0].float() - math.log(num_frames)).abs().mean()
        return _FRAMES * miss, {"length_miss": miss.detach()}


def _entropy(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean cross entropy over labelled tokens, 0 where there is none."""
    flat, target = logits.flatten(0, -2).float(), labels.flatten()
    known = target != IGNORE
    if not bool(known.any()):
        return flat.sum() * 0.0
    return F.cross_entropy(flat[known], target[known], weight=weight)


def _mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of values (n), 0 where there is none."""
    return values.sum() / max(1, len(values))


def _right(logits: torch.Tensor, labels: torch.Tensor, without: int) -> torch.Tensor:
    known = (labels != IGNORE) & (labels != without)
    hits = (logits.argmax(-1) == labels) & known
    return (hits.sum() / known.sum().clamp(min=1)).detach()


def _vote_loss(shape: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Return the cross entropy of the mean shape logits of each object, per resolution."""
    num_pictures = shape.shape[0]
    item, kind = labels["item"], labels["shape"]
    on_shape = (kind != IGNORE) & (kind != NO_SHAPE)
    picture = torch.arange(num_pictures)[:, None, None].expand_as(item)
    high = (torch.arange(item.shape[1]) > 0).long()[None, :, None].expand_as(item)
    group = ((picture * 2 + high) * 16 + item)[on_shape]
    if not len(group):
        return shape.sum() * 0.0
    groups, index = torch.unique(group, return_inverse=True)
    votes = torch.zeros(len(groups), shape.shape[-1]).index_add(0, index, shape[on_shape].float())
    sizes = torch.bincount(index, minlength=len(groups))
    target = torch.zeros(len(groups), dtype=torch.long).scatter(0, index, kind[on_shape])
    return F.cross_entropy(votes / sizes[:, None], target)
