"""A checkpoint's chat template: from questions to prompts.

Prompts are made and counted where the run is planned, so nothing here needs torch or transformers.
"""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Any

from workers.checkpoint import read_config, read_optional
from workers.errors import ModelError
from workers.families import Family, family_of
from workers.llm.choices import check_choices, encode_choices, list_choices
from workers.llm.dialogue import Turn, first_question, messages_of, turns_of
from workers.llm.prompt import Prompt
from workers.llm.spelling import Spelling
from workers.llm.template import Template, read_template
from workers.llm.tokenizer import TokenizerFiles, read_tokenizer

_CONTEXT_LENGTHS = {"granite": 2048, "llama": 2048, "mistral": 131_072, "qwen2": 32_768}
"""Where none is stated."""
_IMAGES = Family()


class ChatTemplate:
    """A checkpoint's chat template and tokenizer: questions to token ids.

    The ids are those of transformers' processor, but that a question is text throughout: where it
    spells a special token (``<image>``, ``</s>``), it gets the ids of the characters.

    Args:
        location: the checkpoint, for messages.
        files: its tokenizer.
        source: its chat template in Jinja's language.
        image_token: text of the placeholder.
        family: of the checkpoint; to one of videos, frames are one video.
        context_length: positions the language model was made for.

    Raises:
        ModelError: the tokenizer or the template is not valid.
    """

    def __init__(
        self,
        location: str,
        files: TokenizerFiles,
        source: str,
        *,
        image_token: str,
        family: Family = _IMAGES,
        context_length: int,
    ) -> None:
        self.context_length = context_length
        self._family = family
        secret = secrets.token_hex(8)
        self._location = location
        self._template = Template(location, source, files.special_tokens)
        self._marker = f"question{secret}"
        self._spelling = Spelling({*files.control_tokens, image_token}, secret)
        self._tokenizer = files.load(self._spelling)
        self._opening = files.special_tokens.get("bos_token")
        self._image_token, self._image = image_token, self._spelling(image_token)
        image_token_id = self._tokenizer.token_to_id(self._image)
        if image_token_id is None:
            raise ModelError(f"{location}: the tokenizer has no image token {image_token!r}")
        self._image_token_id = image_token_id

    @classmethod
    def load(cls, location: str) -> "ChatTemplate":
        """Read a checkpoint's files.

        Cost: O(size of ``tokenizer.json``), some tenths of a second for 32,000 tokens.

        Args:
            location: what :func:`workers.checkpoint.locate` returned.

        Raises:
            ModelError: a file is missing or is not what it should be.
        """
        config = read_config(location)
        family = family_of(config)
        processor_config = read_optional(location, "processor_config.json")
        files = read_tokenizer(location)
        return cls(
            location,
            files,
            read_template(location, processor_config, files.config),
            image_token=_image_token(family.modality, files, processor_config, config),
            family=family,
            context_length=_context_length(location, config),
        )

    def build(
        self, question: str, timestamps: Sequence[str], choices: Sequence[str] = ()
    ) -> Prompt:
        """Return the prompt of a question about frames.

        Args:
            question: the user's text, or a :class:`workers.llm.dialogue.Dialogue`.
            timestamps: one text a frame, put right before its placeholder; empty for none.
            choices: texts of which the answer is to be one, listed behind the question as
                :func:`workers.llm.choices.list_choices` does; none leave the answer free.

        Raises:
            InputError: the choices are no choice, or not one by their tokens.
            ModelError: the template does not place one image after another ahead of the question,
                or changes the question beyond trimming it.
        """
        check_choices(choices)
        *earlier, last = turns_of(question)
        turns = [*earlier, replace(last, text=list_choices(last.text, choices))]
        pieces, texts = self._render(turns, len(timestamps))
        first = first_question(turns)
        ids, tail, unread = self._encode(pieces, timestamps, texts, first)
        if self._image_token in unread:
            raise ModelError(f"{self._location}: the tokenizer splits {self._image_token!r} up")
        if unread:  # transformers reads them as words too
            ids, tail, _ = self._encode(pieces, timestamps, texts, first, without=unread)
        segments = _cut(ids, self._image_token_id)
        return Prompt(
            frame_segments=segments[:-1],
            question=segments[-1],
            choices=encode_choices(self._tokenizer, tail, choices),
        )

    def _render(self, turns: Sequence[Turn], num_frames: int) -> tuple[list[str], list[str]]:
        """Return what the template puts around the turns, and their texts as it writes them.

        The texts stand between the pieces, of which there is one more.
        """
        now = datetime.now()
        shown = self._shown(num_frames)
        markers = [f"{self._marker}{place}." for place in range(len(turns))]
        marked = [replace(turn, text=mark) for turn, mark in zip(turns, markers, strict=True)]
        rest = self._template.render(messages_of(marked, shown), now)
        pieces = []
        for mark in markers:
            piece, _, rest = rest.partition(mark)
            pieces.append(piece)
        pieces.append(rest)
        whole = self._template.render(messages_of(turns, shown), now)
        texts = _texts_between(whole, pieces, [turn.text for turn in turns])
        if texts is None or self._marker in "".join(pieces):
            raise ModelError(f"{self._location}: the chat template changes the question")
        return pieces, texts

    def _shown(self, num_frames: int) -> list[str]:
        """Return what the template is told of frames: an image for each, or a video of them all."""
        num_placeholders = min(num_frames, 1) if self._family.is_video else num_frames
        return [self._family.modality] * num_placeholders

    def _encode(
        self,
        pieces: Sequence[str],
        timestamps: Sequence[str],
        texts: Sequence[str],
        first: int,
        without: frozenset[str] = frozenset(),
    ) -> tuple[list[int], str, frozenset[str]]:
        """Return the prompt's ids, its text behind the images, and what is no single id there.

        That are control tokens of the template.

        Args:
            pieces: the template's text before, between and behind the texts.
            timestamps: one text a frame.
            texts: what was said, the question last.
            first: place of the first of them that is a question, which images stand before.
            without: control tokens to be read as words.
        """
        spelled, found = zip(
            *(self._spelling.apply(piece, without=without) for piece in pieces), strict=True
        )
        counts = [piece.count(self._image) for piece in spelled]
        num_placeholders = len(self._shown(len(timestamps)))
        holder = counts.index(num_placeholders) if num_placeholders in counts else len(texts)
        if sum(counts) != num_placeholders or holder > first:
            raise ModelError(
                f"{self._location}: the chat template does not put the {self._family.modality}s "
                "before the text"
            )
        *between, behind = spelled[holder].split(self._image)
        between[1:1] = [""] * (len(timestamps) - num_placeholders)  # between frames of a video
        frames = zip(between, timestamps, strict=True)
        opening = "".join(piece + stamp + self._image for piece, stamp in frames)
        before = "".join(p + t for p, t in zip(spelled[:holder], texts[:holder], strict=True))
        tail = behind + "".join(
            text + piece for text, piece in zip(texts[holder:], spelled[holder + 1 :], strict=True)
        )
        has_start = self._opening is not None and pieces[0].startswith(self._opening)
        ids = self._tokenizer.encode(before + opening + tail, add_special_tokens=not has_start).ids
        numbers = Counter(ids)
        unread = frozenset(
            token
            for token, count in Counter(chain.from_iterable(found)).items()
            if numbers[self._tokenizer.token_to_id(self._spelling(token)) or 0] < count
        )
        return ids, tail, unread


def _texts_between(whole: str, pieces: Sequence[str], texts: Sequence[str]) -> list[str] | None:
    """Return the texts as they stand between pieces, None where they are changed.

    A template may trim a text, and change no more.
    """
    found = []
    if not whole.startswith(pieces[0]):
        return None
    place = len(pieces[0])
    for number, (text, after) in enumerate(zip(texts, pieces[1:], strict=True)):
        is_last = number == len(texts) - 1
        for shown in (text, text.strip(), text.lstrip(), text.rstrip()):
            if whole.startswith(shown + after, place) and (
                not is_last or len(whole) == place + len(shown) + len(after)
            ):
                break
        else:
            return None
        found.append(shown)
        place += len(shown) + len(after)
    return found


def _cut(ids: list[int], image_token_id: int) -> tuple[tuple[int, ...], ...]:
    """Return the tokens before, between and behind the images."""
    segments: list[tuple[int, ...]] = []
    start = 0
    for position, token in enumerate(ids):
        if token == image_token_id:
            segments.append(tuple(ids[start:position]))
            start = position + 1
    return *segments, tuple(ids[start:])


def _image_token(
    modality: str,
    files: TokenizerFiles,
    processor_config: Mapping[str, Any],
    config: Mapping[str, Any],
) -> str:
    name = f"{modality}_token"
    named = files.special_tokens.get(name) or processor_config.get(name)
    if named:
        return str(named)
    index = config.get(f"{name}_index", config.get(f"{name}_id"))
    stored = {token.get("id"): token.get("content") for token in files.backend["added_tokens"]}
    return str(stored.get(index) or f"<{modality}>")


def _context_length(location: str, config: Mapping[str, Any]) -> int:
    text = config.get("text_config") or {}
    length = text.get("max_position_embeddings")
    length = length or _CONTEXT_LENGTHS.get(text.get("model_type", "llama"))
    if not isinstance(length, int):
        raise ModelError(f"{location}: config.json: no max_position_embeddings in text_config")
    return length
