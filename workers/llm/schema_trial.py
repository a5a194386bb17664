"""Whether a schema can be followed, found out where it does no harm: in a process of its own.

What a grammar costs to make is not told by its schema's size: twenty patterns in an ``allOf``, or a
``multipleOf`` of seven digits, take many seconds and hundreds of megabytes. So it is made first in
a process that the kernel ends at its limits, before any worker is given the schema.
"""

import os
import resource
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec

from workers.errors import InputError

_CPU_SECONDS = 5
_GIB = 1
_MOST_SECONDS = 60.0
"""Of wall time, however busy the machine is."""


def try_schema(schema: str) -> None:
    """Refuse a schema of which there is no grammar, or none within 5 s of CPU time and 1 GiB.

    Cost: a tenth of a second, for one of the last 256 schemas nothing.

    Args:
        schema: the text of a JSON schema.

    Raises:
        InputError: names the keyword that is not supported, or the limit.
    """
    reason = _try(schema)
    if reason:
        raise InputError(reason)


@lru_cache(maxsize=256)
def _try(schema: str) -> str:
    if find_spec("llguidance") is None:
        return "--json-schema needs llguidance: pip install 'mr-stream[schemas]'"
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(_CPU_SECONDS), str(_GIB)],
            input=schema.encode(errors="surrogatepass"),
            capture_output=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=_MOST_SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return _too_much()
    return done.stdout.decode() if done.returncode == 0 else _too_much()


def _too_much() -> str:
    return (
        f"--json-schema: a grammar of it takes more than {_CPU_SECONDS} s or {_GIB} GiB to make: "
        "simplify its patterns, or leave out multipleOf"
    )


class _Bytes:
    """A vocabulary of all bytes and a token that ends an answer."""

    bos_token_id = None
    eos_token_id = 256
    tokens = (*(bytes([value]) for value in range(256)), b"\xffend")
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        """Return the tokens of a text."""
        return list(text)


def _main(cpu_seconds: int, gib: int) -> None:
    """Make the grammar of the schema on stdin, and print why that cannot be, if it cannot."""
    from llguidance import LLTokenizer, TokenizerWrapper

    from workers.llm.grammar import Grammar

    vocabulary = LLTokenizer(TokenizerWrapper(_Bytes()))
    schema = sys.stdin.buffer.read().decode(errors="surrogatepass")
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (gib * 2**30, gib * 2**30))
    try:
        grammar = Grammar(vocabulary, len(_Bytes.tokens), schema)
        grammar.take(ord(" "))
        grammar.next_tokens()
    except InputError as error:
        sys.stdout.buffer.write(str(error).encode(errors="backslashreplace"))


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
