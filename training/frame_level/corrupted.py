"""A dataset as a camera with a fault would have taken it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from training.datasets import Dataset, Sample

from .corruptions import corrupt, CORRUPTIONS, MEDIUM, SEVERITIES

ALL = 'all'


class Fault(NamedTuple):
    """A corruption and how bad it is."""

    name: str
    severity: int


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Reads 'noise:3,blur', where no severity is the medium one; 'all:2' is every corruption.

    Raises:
        ValueError: An unknown name or severity, or nothing.

    >>> parse_faults('noise:5,fog')
    (Fault(name='noise', severity=5), Fault(name='fog', severity=3))
    """
    found: list[Fault] = []
    for part in filter(None, (part.strip() for part in text.split(','))):
        name, _, level = part.partition(':')
        severity = int(level) if level.isdecimal() else 0 if level else MEDIUM
        if severity not in SEVERITIES:
            known = ', '.join(map(str, SEVERITIES))
            raise ValueError(f'severity {level!r} of {part!r} must be one of {known}')
        if name not in (ALL, *CORRUPTIONS):
            raise ValueError(
                f'unknown corruption {name!r}; choose of: {", ".join(sorted(CORRUPTIONS))}, {ALL}'
            )
        names = CORRUPTIONS if name == ALL else (name,)
        found += [Fault(each, severity) for each in names]
    if not found:
        raise ValueError(f'no corruption in {text!r}; choose of: {", ".join(CORRUPTIONS)}')
    return tuple(dict.fromkeys(found))


class Corrupted(Dataset):
    """Another dataset's frames with a corruption; labels and names stay."""

    def __init__(self, dataset: Dataset, fault: Fault):
        self.classes, self.track, self.towns = dataset.classes, dataset.track, dataset.towns
        self._dataset, self._fault = dataset, fault

    def __len__(self) -> int:
        return len(self._dataset)

    def files(self, index: int) -> tuple[Path, Path | None] | None:
        """Gives the files of the good frame."""
        return self._dataset.files(index)

    def __getitem__(self, index: int) -> Sample:
        """Reads one frame; errors as of the dataset."""
        sample = self._dataset[index]
        image = corrupt(sample.image, self._fault.name, self._fault.severity, sample.name)
        return replace(sample, image=image)
