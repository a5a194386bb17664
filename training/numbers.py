"""The numbers of times: sums of a vector for each digit in its place, and kept so."""

import torch
from transformers import PreTrainedTokenizerFast

from training.glyphs import DIGITS
from training.words import MOST_DIGITS, number_tokens

_SIGNS = f"{DIGITS} "
"""What may stand in a place: a digit, or nothing before a number of fewer digits."""
NUM_PARTS = MOST_DIGITS * len(_SIGNS)


class Numbers:
    """Which parts the numbers before a time's point are made of.

    With vectors of their own only those were learnt that are common: what is learnt of copying or
    saying one is to be known of all that have a digit in common with it.

    ``tokens`` are their ids, ``parts`` (numbers, ``NUM_PARTS``) is 1 where a digit stands in its
    place, else 0.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokens = torch.tensor(number_tokens(tokenizer))
        texts = [text.removesuffix(".") for text in tokenizer.convert_ids_to_tokens(self.tokens)]
        signs = [[_SIGNS.index(sign) for sign in text.rjust(MOST_DIGITS)] for text in texts]
        parts = torch.nn.functional.one_hot(torch.tensor(signs), len(_SIGNS))
        self.parts = parts.flatten(1).float()
        self._inverse = torch.linalg.pinv(self.parts)

    def as_sums(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the nearest to the numbers' rows of a table that are sums of digits' vectors.

        Args:
            rows: (vocabulary, hidden), a table of words or its gradient; it is left as it is, and
                rows of other words are returned so.
        """
        sums = self.parts @ (self._inverse @ rows[self.tokens])
        return rows.index_copy(0, self.tokens, sums)
