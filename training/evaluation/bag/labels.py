"""Finds the truth of a bag's frames in a folder of label files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from training.datasets.dataset import files_by_stem
from training.datasets.label_ids import LABEL_SUFFIXES

RULES = {
    'name': 'the label has the stem of the image file that the frame was made from',
    'stamp': "the label's stem is the frame's header stamp in nanoseconds",
    'number': "the label's stem is the place of the message on its topic, counted from 0",
}
"""How labels are matched: by the first of these that fits any label holds for all of them."""


class FrameKey(NamedTuple):
    """What a frame can be recognised by.

    Attributes:
        number: Place of the message on its topic, from 0.
        stamp: Header stamp in nanoseconds; None where the message is broken.
        source: Name of the image file it was made from; '' if not known.
    """

    number: int
    stamp: int | None
    source: str

    @property
    def stem(self) -> str:
        """What to call the frame."""
        if self.source:
            return PurePath(self.source).stem
        return str(self.number if self.stamp is None else self.stamp)


@dataclass(frozen=True)
class MatchedLabels:
    """Which label file belongs to which frame.

    Attributes:
        rule: A key of `RULES`.
        files: Frame number to label file.
        left_over: Label files that fit no frame.
    """

    rule: str
    files: dict[int, Path]
    left_over: list[Path]


def match_labels(folder: Path, frames: Sequence[FrameKey]) -> MatchedLabels:
    """Finds the frame of each label file.

    Raises:
        FileNotFoundError: No such folder, or no label files in it.
        ValueError: Two labels of one stem, or none fits a frame; the text says what they could
            be named.
    """
    labels = files_by_stem(folder, LABEL_SUFFIXES)
    for rule, keys in _keys(labels, frames).items():
        files = {number: labels[stem] for number, stem in keys.items() if stem in labels}
        if files:
            used = set(files.values())
            return MatchedLabels(rule, files, [p for p in labels.values() if p not in used])
    known = next((frame for frame in frames if frame.stamp is not None), None)
    example = f'the first frame has {_names(known)}' if known else 'the bag has no sound frame'
    raise ValueError(
        f'none of the {len(labels)} labels in {str(folder)!r} fits a frame; the first is '
        f'{next(iter(labels))!r}, {example}; numbers count from 0'
    )


def _keys(labels: Mapping[str, Path], frames: Sequence[FrameKey]) -> dict[str, dict[int, str]]:
    """Gives for each rule: frame number to the stem that its label would have."""
    numbers = {int(stem): stem for stem in labels if stem.isdecimal()}
    by_stamp = {
        frame.number: numbers[frame.stamp]
        for frame in frames
        if frame.stamp is not None and frame.stamp in numbers
    }
    # Without a label 0 the numbers may count from 1, and every frame would get a wrong label.
    by_number = {f.number: numbers[f.number] for f in frames if f.number in numbers}
    return {
        'name': {f.number: f.stem for f in frames if f.source},
        'stamp': by_stamp,
        'number': by_number if 0 in numbers else {},
    }


def _names(frame: FrameKey) -> str:
    source = f'source {frame.source!r}, ' if frame.source else ''
    return f'{source}stamp {frame.stamp} and number {frame.number}'
