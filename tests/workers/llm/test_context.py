import pytest

from workers.checkpoint import EMBEDDED, locate
from workers.errors import ContextError, InputError
from workers.llm.chat_template import ChatTemplate
from workers.llm.context import check_context, check_layer
from workers.llm.prompt import Prompt

PROMPT = Prompt(frame_segments=((1,) * 20, (2,) * 10), question=(3,) * 30)  # 60 tokens of text


@pytest.mark.parametrize(("visual", "answer"), [(0, 0), (100, 40), (139, 1), (40, 100)])
def test_what_fits_passes(visual: int, answer: int) -> None:
    check_context(PROMPT, visual, answer, 200)


@pytest.mark.parametrize(
    ("visual", "answer", "remedy"),
    [
        (10, 131, "to at most 130, or lower --budget to 9 visual tokens, or ask .* shorter by 1 "),
        (100, 100, "to at most 40, or lower --budget to 40 visual tokens$"),
        (141, 0, "lower --budget to 140 visual tokens, or ask a question shorter by 1 tokens$"),
        (2, 100_000, "lower --max-new-tokens to at most 138$"),
        (500, 500, "lower --max-new-tokens and --budget, or ask less, starting with"),
    ],
)
def test_what_does_not_fit_says_what_to_lower(visual: int, answer: int, remedy: str) -> None:
    total = 60 + visual + answer
    text = (
        rf"^30 tokens of the question and what follows it \+ 30 of text before it \+ {visual} "
        rf"visual \+ {answer} of the answer make {total}, but the model's context holds 200: "
    )
    with pytest.raises(ContextError, match=rf"{text}[^\n]*{remedy}"):
        check_context(PROMPT, visual, answer, 200)


def test_the_option_for_visual_tokens_is_the_one_in_use() -> None:
    with pytest.raises(ContextError, match="lower --num-frames to 139 visual tokens"):
        check_context(PROMPT, 200, 1, 200, visual_option="--num-frames")


def test_a_typed_question_is_checked_like_the_first() -> None:
    template = ChatTemplate.load(locate(EMBEDDED))
    question = "what color is the triangle?"
    num_visual, answer = 62_000, 8
    check_context(template.build(question, [""] * 100), num_visual, answer, template.context_length)
    late = template.build(f"{question} " * 1000, [""] * 100)
    with pytest.raises(ContextError, match=rf"^{len(late.question)} .* holds 65536: .* shorter by"):
        check_context(late, num_visual, answer, template.context_length)


@pytest.mark.parametrize("layer", [1, 2, 5])
def test_a_layer_between_others_passes(layer: int) -> None:
    check_layer(layer, 6)


@pytest.mark.parametrize("layer", [-1, 0, 6])
def test_a_layer_the_model_lacks_is_refused(layer: int) -> None:
    with pytest.raises(InputError, match=rf"--fastv-layer {layer} .* 6 layers, .* 1 to 5"):
        check_layer(layer, 6)
