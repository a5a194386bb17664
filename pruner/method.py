"""What a method is: where it chooses, and which function does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Scope = Literal["frame", "bank", "share", "clip", "model", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What the callers of a method need to know about it.

    The scope says where the method chooses, and with that how its function is called:

    ========= ============================================== =======================================
    scope     chooses                                        function
    ========= ============================================== =======================================
    ``frame`` by ranking inside one frame; a share is a      ``(base, grid, task) -> Ranking``
              prefix
    ``bank``  by ranking inside each frame, then among       the same, and ``chooser`` with
              the first tokens of all frames                 ``(candidates, budget)``, to places
    ``share`` inside one frame, told its final share;        ``(base, grid, newline, shares)``, to
              FlashVID reads the sum of the shares only      features and indices of each frame
    ``clip``  among all tokens of the clip                   ``(base, grid, budget)``, to indices
                                                             of each frame
    ``model`` inside the language model, for each question   see the function
    ``none``  nothing: every token is kept                   none
    ========= ============================================== =======================================

    Attributes:
        name: as in `METHODS`.
        scope: where it chooses.
        summary: one line for help texts, with the paper.
        function: ``module:name`` of the function, loaded when first used; empty for scope ``none``.
        chooser: the same of the second function of scope ``bank``.
        needs_share: whether its ranking depends on the nominal share of a frame.
        is_random: whether its choice depends on a seed.
        has_graph: whether it reads the settings of the token graph.
        num_steps: propagation steps unless told otherwise, for methods with a token graph.
        origin: distribution and version that added it, empty for this project's own.
    """

    name: str
    scope: Scope
    summary: str
    function: str = ""
    chooser: str = ""
    needs_share: bool = False
    is_random: bool = False
    has_graph: bool = False
    num_steps: int = 1
    origin: str = ""

    @property
    def enters_unpruned(self) -> bool:
        """Whether every token of the clip enters the language model."""
        return self.scope in ("model", "none")

    @property
    def ranks(self) -> bool:
        """Whether it ranks inside a frame, so that a clip's candidates have a bound."""
        return self.scope in ("frame", "bank")

    @property
    def may_leave_frames_out(self) -> bool:
        """Whether a frame may keep no token, as the method itself shares the budget out."""
        return self.scope in ("bank", "share", "clip")

    def load(self) -> Callable[..., Any]:
        """Import the function; raises ValueError where there is none."""
        if not self.function.partition(":")[2]:
            raise ValueError(f"{self.name} chooses nothing: {self.scope = }")
        return load_function(self.function)


def load_function(path: str) -> Callable[..., Any]:
    """Import a function by ``module:name``."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
