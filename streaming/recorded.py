"""What is written down of a run's options."""

from streaming.flags import flat
from streaming.options import Options
from workers.precision import cpu_dtype


def recorded(options: Options) -> dict[str, object]:
    """Return every option by its flat name, and ``cpu_dtype``: what auto is on a CPU, in this run.

    That is None where nothing is left to the CPU: with another ``--dtype``, or on a GPU for sure.

    Raises:
        ModelError: the model cannot be found.
    """
    left_open = options.model.dtype == "auto" and options.model.device != "cuda"
    settled = cpu_dtype(options.model.model) if left_open else None
    return {**flat(options), "cpu_dtype": settled}
