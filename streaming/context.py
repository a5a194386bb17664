"""Whether a prompt fits the model's context, and how its visual tokens are numbered."""

from streaming.config import Options
from workers.errors import ContextError
from workers.messages import PromptCost


def check_context(cost: PromptCost, options: Options, num_frames: int, visual: int) -> None:
    """Refuse a prompt that leaves the context.

    Args:
        cost: of the text.
        options: of the run.
        num_frames: that the prompt has.
        visual: tokens for frames and their marks that enter the language model.

    Raises:
        ContextError: text, visual tokens and answer do not fit.
    """
    text = cost.num_text_tokens + cost.num_separator_tokens * num_frames
    answer, context = options.max_new_tokens, cost.context_length
    needed = text + visual + answer
    if needed > context:
        limit = max(0, context - text - answer)
        if options.pruner in ("none", "fastv"):
            raise ContextError(
                f"{text} text + {visual} visual + {answer} answer tokens make {needed}, but the "
                f"model's context holds {context}, and with --pruner {options.pruner} it has to "
                "hold every visual token: lower --num-frames, or choose another pruner"
            )
        remedy = "--budget" if options.keep_ratio is None else "--keep-ratio"
        raise ContextError(
            f"{text} text + {visual} visual + {answer} answer tokens make {needed}, but the "
            f"model's context holds {context}: lower {remedy} so that at most {limit} visual "
            "tokens are left, or lower --max-new-tokens"
        )


def are_compact(
    options: Options, cost: PromptCost, num_frames: int, frame_length: int, mark: int
) -> bool:
    """Return whether positions are numbered without gaps: where asked for, or where they must be.

    Args:
        options: of the run.
        cost: of the text.
        num_frames: that the prompt has.
        frame_length: unpruned visual tokens of a frame.
        mark: tokens of the longest time mark.

    Raises:
        ContextError: original positions are asked for and leave the context.
    """
    step = frame_length + cost.num_separator_tokens + mark
    last = cost.num_text_tokens + step * num_frames + options.max_new_tokens
    fits = last <= cost.context_length
    if options.position_ids == "original" and not fits:
        room = cost.context_length - options.max_new_tokens - cost.num_text_tokens
        raise ContextError(
            f"--position-ids original numbers the unpruned sequence up to {last}, but the model's "
            f"context holds {cost.context_length}: use --position-ids auto, or lower --num-frames "
            f"to at most {max(0, room // step)}"
        )
    return options.position_ids == "compact" or not fits
