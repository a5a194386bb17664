"""What frames that keep nothing leave out: against a whole sequence that is written out and cut."""

from pathlib import Path

import numpy as np
import pytest

from streaming.budget import count_first_timestamps, count_separator, count_timestamps
from tests.workers.llm.tokenizer_kinds import KINDS, write_kind
from workers.arrays import Int64Array
from workers.checkpoint import EMBEDDED, locate
from workers.frame_text import BoolArray, FrameText
from workers.llm.chat_template import ChatTemplate
from workers.llm.positions import join_positions
from workers.llm.prompt import Prompt, timestamp_text
from workers.visual import Allocation, VisualSequence

TIMES = [0.0, 9.94, 12.3, 100.0, 3600.0, 3601.5]
LENGTHS = np.array([5, 9, 4, 7, 6, 8])
SHOWN = ["123456", "1.3456", "12..5.", ".2.4.6", "...4..", ".....6"]


def text_of(template: ChatTemplate, stamps: list[str]) -> FrameText:
    allocation = Allocation(
        method="coverage",
        budget=1,
        num_timestamp_tokens=count_timestamps(template, stamps),
        num_first_timestamp_tokens=count_first_timestamps(template, stamps),
        num_separator_tokens=count_separator(template),
    )
    return FrameText.of(allocation, len(stamps))


def show(text: FrameText, shown: BoolArray, kept: list[Int64Array]) -> VisualSequence:
    places = np.flatnonzero(shown)
    counts = np.array([len(kept[place]) for place in places])
    return VisualSequence(
        visual_id="",
        features=np.zeros((counts.sum(), 1)),
        dtype="float32",
        counts=counts,
        keep_indices=np.concatenate([kept[place] for place in places]),
        frame_indices=places,
        frame_lengths=LENGTHS[shown],
        gaps=text.gaps(LENGTHS, shown)[shown],
        num_timestamp_tokens=text.paid(shown)[shown],
        compact_positions=False,
    )


def write_out(prompt: Prompt, kept: list[Int64Array]) -> list[tuple[int, object]]:
    """Text and kept tokens in turn, as (token, frame) and (index, frame)."""
    return [
        each
        for frame, (segment, own) in enumerate(zip(prompt.frame_segments, kept, strict=True))
        for each in [*((token, "text") for token in segment), *((int(i), frame) for i in own)]
    ]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("mask", SHOWN)
def test_what_is_shown_is_the_whole_sequence_without_the_frames_left_out(
    mask: str, marked: bool
) -> None:
    template = ChatTemplate.load(locate(EMBEDDED))
    stamps = [timestamp_text(each) * marked for each in TIMES]
    shown, text = np.array([each != "." for each in mask]), text_of(template, stamps)
    whole = write_out(template.build("Why?", stamps), [np.arange(n) for n in LENGTHS])
    ends = {frame: i for i, (_, frame) in enumerate(whole) if frame != "text"}
    for frame in np.flatnonzero(~shown)[::-1]:  # with its timestamp and the separator behind it
        first = ends[frame] + 1 - LENGTHS[frame] - text.timestamps[frame]
        behind = ends[frame] + 1 + text.separator * (frame < len(TIMES) - 1)
        whole[first:behind] = [(0, "gone")] * (behind - first)
    kept = [np.arange(0, n, 2) for n in LENGTHS]
    visual = show(text, shown, kept)
    prompt = template.build("Why?", [stamps[place] for place in np.flatnonzero(shown)])
    positions = join_positions(prompt, visual).tolist()
    expected = [
        (place, each)
        for place, each in enumerate(whole)
        if each[1] == "text" or (each[1] != "gone" and each[0] % 2 == 0)
    ][: len(positions)]
    assert positions == [place for place, _ in expected]
    names = np.flatnonzero(shown).tolist()
    written = write_out(prompt, [kept[place] for place in names])
    assert [
        (token, frame if frame == "text" else names[int(str(frame))]) for token, frame in written
    ] == [each for _, each in expected]
    assert visual.unpruned_length + prompt.num_text_tokens - len(prompt.question) > positions[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_visual_tokens_keep_their_places_however_the_first_timestamp_is_split(
    checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    template = ChatTemplate.load(str(write_kind(checkpoint, tmp_path / "kind", kind)))
    stamps, kept = [timestamp_text(each) for each in TIMES], [np.arange(n) for n in LENGTHS]
    text = text_of(template, stamps)
    everything = np.full(len(TIMES), True)
    whole = show(text, everything, kept)
    whole_prompt = template.build("Why?", stamps)
    owners = [frame for _, frame in write_out(whole_prompt, kept)]
    places = join_positions(whole_prompt, whole)
    plain = template.build("Why?", [""] * len(TIMES))
    for mask in SHOWN:
        shown = np.array([each != "." for each in mask])
        names = np.flatnonzero(shown).tolist()
        prompt = template.build("Why?", [stamps[name] for name in names])
        written = write_out(prompt, [kept[name] for name in names])
        positions = join_positions(prompt, show(text, shown, kept))
        assert np.diff(positions).min() >= 1
        for number, name in enumerate(names):
            own = [frame == number for _, frame in written]
            of_whole = [owner == name for owner in owners]
            assert positions[own].tolist() == places[of_whole].tolist()
        paid = sum(map(len, prompt.frame_segments)) - sum(
            map(len, plain.frame_segments[: len(names)])
        )
        assert text.paid(shown).sum() == paid <= text.most[shown].sum()
        assert not text.paid(shown)[~shown].any()
