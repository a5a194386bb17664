"""The models made ready before anybody asks, or found out to be unusable."""

import threading

import numpy as np

from streaming.command import say
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip
from streaming.plan import plan_clip
from streaming.sample import sample_source
from workers.errors import StreamError
from workers.run.engine import Engine
from workers.video.images import open_images

_OF_A_PICTURE = {"num_frames": 1, "start": None, "end": None, "max_new_tokens": 1}


class Warming:
    """Asks of a black picture, so that the first to ask does not wait for the models.

    Args:
        engine: open.
        options: of the server; what they say of a clip's time holds for no picture.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self.failure: StreamError | None = None
        """Why the models cannot be used."""
        self._engine, self._options = engine, change(options, _OF_A_PICTURE, source="")
        self._ready = threading.Event()
        threading.Thread(target=self._ask, name="warm-up", daemon=True).start()

    def is_ready(self) -> bool:
        """Return whether the models have answered."""
        return self._ready.is_set()

    def _ask(self) -> None:
        black = open_images([np.zeros((64, 64, 3), np.uint8)])
        try:
            plan = plan_clip(sample_source(black, self._options), self._options, ["?"])
            answer_clip(self._engine, plan, ["?"])
        except StreamError as error:
            self.failure = error
            return
        self._ready.set()
        say("ready")
