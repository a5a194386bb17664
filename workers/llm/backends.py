"""What answers questions about visual sequences: the language models by name, and what each can do.

Nothing here loads torch before a model is used.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.process import ModelOptions

if TYPE_CHECKING:
    from workers.llm.prompt import Prompt
    from workers.visual import VisualSequence


class LLM(Protocol):
    """Answers a question about what is shown of a clip. Calls may be made at once."""

    def generate(
        self, visual: "VisualSequence", prompt: "Prompt", sampling: SamplingOptions
    ) -> Iterator[str | GeneratedAnswer]:
        """Yield the answer's text as it comes, then the whole; closing the iterator ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What is asked of a language model before it is loaded.

    Attributes:
        option: the flag by which it is chosen, for messages; empty for the usual one.
        function: ``module:name`` of what makes it of ``ModelOptions``.
        positions: whether kept tokens can keep the positions they have in the unpruned sequence.
        layer_pruning: whether tokens can be left out between two of its layers.
        token_sizes: whether a token can weigh as several in its attention.
    """

    option: str
    function: str
    positions: bool
    layer_pruning: bool
    token_sizes: bool

    def load(self, options: ModelOptions) -> LLM:
        """Make the language model; raises ModelError where it cannot be used."""
        module, _, name = self.function.partition(":")
        make: Callable[[ModelOptions], Any] = getattr(import_module(module), name)
        model: LLM = make(options)
        return model


BACKENDS = {
    "transformers": Backend(
        option="",
        function="workers.llm.model:load_language_model",
        positions=True,
        layer_pruning=True,
        token_sizes=True,
    ),
    "vllm": Backend(
        option="--llm-server",
        function="workers.llm.vllm:connect",
        positions=False,
        layer_pruning=False,
        token_sizes=False,
    ),
}


def backend_of(options: ModelOptions) -> Backend:
    """Return what answers with these options."""
    return BACKENDS["transformers" if options.llm_server is None else "vllm"]
