"""Runs both passes over a set, shared among processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tqdm import tqdm

from .frame import FrameSource
from .measure import FirstPass, Limit, MeasureSettings, SecondPass
from .processes import Processes


@dataclass(frozen=True)
class Evaluation:
    """All that was measured; the same in each process.

    Attributes:
        limits: Score name to what is marked as anomalous, None where no threshold is known.
    """

    settings: MeasureSettings
    first: FirstPass
    second: SecondPass
    limits: dict[str, Limit | None]


def evaluate_frames(
    source: FrameSource, settings: MeasureSettings, processes: Processes
) -> Evaluation:
    """Measures all frames of a source.

    Raises:
        ValueError: A frame cannot be read or measured; the text names it.
    """
    classes = len(source.classes.names)
    first = FirstPass(settings, source.scores, classes, source.has_anomalies)
    for index in progress(processes.indices(len(source)), 'measure', processes):
        first.update(index, source.first(index))
    first, *others = processes.gather(first)
    for other in others:
        first.merge(other)
    limits = first.limits()
    second = SecondPass(
        settings,
        limits,
        first.open_thresholds(),
        first.frame_bins(),
        classes,
        source.has_anomalies,
    )
    for index in progress(processes.indices(len(source)), 'regions', processes):
        second.update(index, source.again(index))
    second, *rest = processes.gather(second)
    for part in rest:
        second.merge(part)
    return Evaluation(settings, first, second, limits)


def progress(indices: Iterable[int], what: str, processes: Processes) -> Iterable[int]:
    """Shows a progress bar in one process, on a terminal."""
    return tqdm(indices, desc=what, unit='frame', disable=None if processes.leads else True)
