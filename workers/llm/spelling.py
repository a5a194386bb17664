"""Control tokens under other names, so that no text of a user can spell one.

A tokenizer looks for its added tokens (``<s>``, ``<image>``, ``<|eot_id|>``) anywhere in a prompt.
Here it is loaded with other texts for them, which nobody can guess, and the chat template's part of
the prompt is written with these texts. The ids are those of the original, while the original texts,
wherever a user writes them, are ordinary words.
"""

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any


class Spelling:
    """Other texts for control tokens: their own, with a secret behind the first character.

    First and last characters stay, as some tokens are recognised only where no word touches them.

    Args:
        tokens: the texts that get another.
        secret: lower-case letters and digits, which normalizers leave alone; unguessable.
    """

    def __init__(self, tokens: Iterable[str], secret: str) -> None:
        self._spelled = {token: token[0] + secret + token[1:] for token in tokens if token}
        longest_first = sorted(self._spelled, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def __call__(self, token: str) -> str:
        """Return a control token's other text; any other text as it is."""
        return self._spelled.get(token, token)

    def apply(self, text: str, *, without: Container[str] = ()) -> tuple[str, list[str]]:
        """Return a text with its control tokens under their other names, and which they were.

        Args:
            text: of the template's own.
            without: control tokens that stay as they are.
        """
        found = [token for token in self._pattern.findall(text) if token not in without]
        return self._pattern.sub(lambda match: self._other(match[0], without), text), found

    def _other(self, token: str, without: Container[str]) -> str:
        return token if token in without else self(token)

    def respell(self, backend: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a ``tokenizer.json`` with control tokens under their other names.

        Merges that would make one of these out of ordinary text are left out.
        """
        model = dict(backend["model"])
        vocab = model.get("vocab") or {}
        if isinstance(vocab, dict):
            if not self._spelled.keys().isdisjoint(vocab):
                model["vocab"] = {self(token): index for token, index in vocab.items()}
                model["merges"] = [
                    merge for merge in model.get("merges", ()) if not self._touches(merge)
                ]
        else:  # Unigram: text and score
            model["vocab"] = [[self(token), score] for token, score in vocab]
        if model.get("unk_token"):
            model["unk_token"] = self(model["unk_token"])
        added = [token | {"content": self(token["content"])} for token in backend["added_tokens"]]
        return dict(backend) | {"model": model, "added_tokens": added}

    def _touches(self, merge: str | list[str]) -> bool:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        return any(part in self._spelled for part in (*parts, "".join(parts)))
