"""What the page knows about each value of a row: its name, its unit, which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .markup import TIMES
from .runs import ReportRow


@dataclass(frozen=True)
class Column:
    """A value of a row.

    Attributes:
        key: Its key in results.json, with a dot for a value inside another.
        label: Head of its column.
        group: Head over several columns, '' for settings.
        unit: 'text', '%' for a fraction shown in percent, 'ms', 'MiB', '' for a plain number.
        digits: Behind the point.
        better: 1 higher is better, -1 lower is better, 0 neither.
        meaning: One sentence for the reader.
    """

    key: str
    label: str
    group: str = ''
    unit: Literal['text', '%', 'ms', 'MiB', ''] = 'text'
    digits: int = 2
    better: Literal[-1, 0, 1] = 0
    meaning: str = ''

    def sort_value(self, row: ReportRow) -> str:
        """Gives what to sort by: a number, lower-case text, or '' for nothing."""
        if self.unit == 'text':
            return size_area(row) if self.key == 'input_size' else self.show(row).lower()
        value = row.number_of(self.key)
        return '' if value is None else repr(value)

    def show(self, row: ReportRow) -> str:
        """Gives the value without its unit, '' where there is none."""
        if self.unit == 'text':
            return size(row) if self.key == 'input_size' else row.name(self.key)
        value = row.number_of(self.key)
        if value is None:
            return ''
        return f'{value * 100 if self.unit == "%" else value:.{self.digits}f}'

    def show_with_unit(self, row: ReportRow) -> str:
        """Gives the value with its unit, as in a sentence."""
        value = self.show(row)
        return f'{value} {self.unit}' if value and self.unit not in ('text', '') else value


def size(row: ReportRow) -> str:
    """Gives the input size as height x width."""
    value = row.values.get('input_size')
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return f'{value[0]} {TIMES} {value[1]}'
    return '' if value is None else str(value)


def size_area(row: ReportRow) -> str:
    """Gives the pixels of the input size, '' where it is unknown."""
    value = row.values.get('input_size')
    try:
        return str(int(value[0]) * int(value[1])) if value else ''
    except (TypeError, ValueError, IndexError, KeyError):
        return ''


DATASET = Column('dataset', 'Dataset')
SPLIT = Column('split', 'Split')
SCORE = Column('score', 'Score')

SETTINGS = (
    Column('model', 'Model'),
    Column('checkpoint', 'Checkpoint'),
    Column('engine', 'Engine'),
    Column('precision', 'Precision'),
    Column('protocol', 'Protocol'),
    Column('input_size', 'Input'),
    Column('n_images', 'Images', '', '', 0),
)
"""Left out of the table where all rows agree, and said once above it."""

PIXELS, REGIONS, FRAMES = 'Anomalous pixels', 'Anomalous regions', 'Anomalous frames'
CLASSES, TRUST, SPEED = 'Classes', 'Confidence', 'Speed'
IN_FORCE = 'At the threshold in force'

METRICS = (
    Column(
        'ap', 'AP', PIXELS, '%', 2, 1,
        'Average precision: how pure the pixels flagged first are, averaged over all recalls; '
        'a score that knows nothing gets the base rate.',
    ),
    Column(
        'auroc', 'AUROC', PIXELS, '%', 2, 1,
        'How often an anomalous pixel scores above a normal one; guessing gives 50 %.',
    ),
    Column(
        'fpr95', 'FPR95', PIXELS, '%', 2, -1,
        'Normal pixels falsely flagged when 95 % of the anomalous ones are found.',
    ),
    Column(
        'best_f1', 'Best F1', PIXELS, '%', 2, 1,
        'Harmonic mean of precision and recall at the best threshold, chosen on this very data.',
    ),
    Column(
        'best_f1_threshold', 'F1 at', PIXELS, '', 4, 0, 'The score above which best F1 is reached.'
    ),
    Column('base_rate', 'Base rate', PIXELS, '%', 2, 0, 'Anomalous pixels among all that count.'),
    Column(
        'siou_gt', 'sIoU', REGIONS, '%', 2, 1,
        'How well each anomalous region is covered, averaged over regions, so small ones count.',
    ),
    Column(
        'ppv', 'PPV', REGIONS, '%', 2, 1,
        'How much of each predicted region is truly anomalous, averaged over regions.',
    ),
    Column(
        'f1_mean', 'Mean F1', REGIONS, '%', 2, 1,
        'F1 over whole regions, averaged over 11 levels of overlap.',
    ),
    Column(
        'operating.precision', 'Precision', IN_FORCE, '%', 2, 1,
        'Marked pixels that are anomalous, at the threshold that the checkpoint ships with, or '
        'that `bag -p` has set.',
    ),
    Column(
        'operating.recall', 'Recall', IN_FORCE, '%', 2, 1,
        'Anomalous pixels that are marked, at that threshold.',
    ),
    Column(
        'operating.false_positive_share', 'False marks', IN_FORCE, '%', 2, -1,
        'Normal pixels that are marked, at that threshold; 1 % is promised unless said otherwise.',
    ),
    Column(
        'frame_auroc', 'AUROC', FRAMES, '%', 2, 1,
        'How often a frame with an anomaly, or out of the ordinary, scores above one without.',
    ),
    Column(
        'frame_f1', 'F1', FRAMES, '%', 2, 1, 'F1 of telling frames with an anomaly from others.'
    ),
    Column(
        'frame_shipped.recall', 'Found', FRAMES, '%', 2, 1,
        'Frames out of the ordinary that are, at the threshold of the checkpoint.',
    ),
    Column(
        'frame_shipped.false_alarms_per_1000', 'False frames', FRAMES, '', 1, -1,
        'Normal frames of 1000 that are taken for out of the ordinary, at that threshold.',
    ),
    Column(
        'false_alarms_per_frame', 'False alarms', FRAMES, '', 2, -1,
        'Flagged regions per frame that touch no anomaly.',
    ),
    Column(
        'miou', 'mIoU', CLASSES, '%', 2, 1,
        'Overlap of predicted and true area of a class, averaged over classes.',
    ),
    Column(
        'open_miou', 'Open mIoU', CLASSES, '%', 2, 1,
        'mIoU in which a normal pixel flagged as anomalous, and a missed anomaly, are errors.',
    ),
    Column(
        'ece', 'ECE', TRUST, '%', 2, -1,
        'Expected calibration error: mean gap between confidence in the class and accuracy.',
    ),
    Column('ece_before', 'ECE before', TRUST, '%', 2, -1, 'ECE before the temperature.'),
    Column(
        'nll', 'NLL', TRUST, '', 4, -1,
        'Negative log-likelihood of the true class, mean over pixels.',
    ),
    Column('nll_before', 'NLL before', TRUST, '', 4, -1, 'NLL before the temperature.'),
    Column('temperature', 'T', TRUST, '', 3, 0, 'Temperature that divides the logits.'),
    Column(
        'latency_ms.p50', 'p50', SPEED, 'ms', 1, -1,
        'Median time of one inference.',
    ),
    Column('latency_ms.p95', 'p95', SPEED, 'ms', 1, -1, 'Time that 95 % of the inferences keep.'),
    Column('fps', 'fps', SPEED, '', 1, 1, 'Frames per second.'),
    Column(
        'peak_mb', 'Memory', SPEED, 'MiB', 0, -1,
        'Peak memory of the process, or of the GPU where one is used.',
    ),
)  # fmt: skip

KNOWN = frozenset(
    [column.key.split('.')[0] for column in (DATASET, SPLIT, SCORE, *SETTINGS, *METRICS)]
)


def metric(key: str) -> Column:
    """Gives the column of a metric."""
    return next(column for column in METRICS if column.key == key)


def filled(columns: Sequence[Column], rows: Sequence[ReportRow]) -> list[Column]:
    """Gives the columns that at least one row has a value for."""
    return [column for column in columns if any(column.show(row) for row in rows)]


def shared(columns: Sequence[Column], rows: Sequence[ReportRow]) -> list[Column]:
    """Gives the columns in which all rows say the same."""
    return [column for column in columns if len({column.show(row) for row in rows}) == 1]


def best_rows(column: Column, rows: Sequence[ReportRow]) -> set[int]:
    """Gives the numbers of the rows that are best of their dataset, split and protocol.

    Speed is compared at the same input size only. Where all agree, or one stands alone, none is.
    """
    groups: dict[tuple[str, ...], list[tuple[float, int]]] = {}
    for row in rows:
        value = row.number_of(column.key)
        if value is not None and column.better:
            keys = tuple(row.name(key) for key in ('dataset', 'split', 'protocol'))
            place = (*keys, size(row) if column.group == SPEED else '')
            # What reads the same on the page is the same.
            shown = round(value, column.digits + 2 * (column.unit == '%'))
            groups.setdefault(place, []).append((shown * column.better, row.number))
    best: set[int] = set()
    for entries in groups.values():
        top = max(value for value, _ in entries)
        winners = {number for value, number in entries if value == top}
        if len(winners) < len(entries):
            best |= winners
    return best
