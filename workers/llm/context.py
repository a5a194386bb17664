"""What the language model has room for; checked where a run is planned, so without torch."""

from workers.errors import ContextError, InputError
from workers.llm.prompt import Prompt


def check_context(
    prompt: Prompt,
    num_visual_tokens: int,
    max_new_tokens: int,
    context_length: int,
    *,
    visual_option: str = "--budget",
) -> None:
    """Refuse a question that leaves the model's context, together with its frames and its answer.

    To be asked for every question: a later one may be longer than those that the run began with.

    Args:
        prompt: with all of its text, timestamps included, and with its choices.
        num_visual_tokens: that the language model is shown, or, where tokens keep the positions of
            the unpruned sequence, the length of that.
        max_new_tokens: of an answer that is free.
        context_length: positions the model was made for.
        visual_option: what the user lowers to have fewer visual tokens.

    Raises:
        ContextError: they do not fit; names what to lower, and how far.
    """
    text, question = prompt.num_text_tokens, len(prompt.question)
    answer = prompt.num_answer_tokens(max_new_tokens)
    needed = text + num_visual_tokens + answer
    over = needed - context_length
    if over <= 0:
        return
    option, both = "--max-new-tokens", f"lower --max-new-tokens and {visual_option}"
    shorten = f"lower --max-new-tokens to at most {answer - over}"
    if prompt.choices:
        option, both = "the choices", f"shorten the choices and lower {visual_option}"
        shorten = f"give choices shorter by {over} tokens"
    parts = {option: answer, visual_option: num_visual_tokens, "the question": question}
    ways = {
        option: shorten,
        visual_option: f"lower {visual_option} to {num_visual_tokens - over} visual tokens",
        "the question": f"ask a question shorter by {over} tokens",
    }
    enough = [way for part, way in ways.items() if parts[part] > over]
    largest = max(parts, key=lambda part: parts[part])
    several = f"{both}, or ask less, starting with {largest}"
    raise ContextError(
        f"{question} tokens of the question and what follows it + {text - question} of text "
        f"before it + {num_visual_tokens} visual + {answer} of the answer make {needed}, "
        f"but the model's context holds {context_length}: {', or '.join(enough) or several}"
    )


def check_layer(layer: int, num_layers: int) -> None:
    """Refuse a layer K that FastV cannot prune at.

    Args:
        layer: K, the first layer (0-based) that works on the kept tokens only.
        num_layers: of the language model.

    Raises:
        InputError: no layer before it to rank the tokens, or none after it to gain from it.
    """
    if not 1 <= layer < num_layers:
        raise InputError(
            f"--fastv-layer {layer} is out of range: the language model has {num_layers} layers, "
            f"so it may be 1 to {num_layers - 1}"
        )
