"""What the threshold in force does, and how sure all numbers are, for the rows of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.bootstrap import intervals, RULE
from training.metrics.component import mean_f1
from training.metrics.confusion import mean_ious
from training.metrics.operating import rates, table_row, THIRDS

from .measure import RowKey
from .run import Evaluation

RATES = ('precision', 'recall', 'false_positive_share')


def operating_values(
    evaluation: Evaluation, score: str, class_names: Sequence[str]
) -> dict[str, Any]:
    """Gives precision, recall and false-positive share at the threshold in force.

    Args:
        evaluation: What was measured.
        score: Its name.
        class_names: Of the checkpoint.

    Returns:
        Empty where the checkpoint has no threshold of that score.
    """
    point = evaluation.second.points.get(score)
    if point is None:
        return {}
    values = point.compute()
    known = bool(evaluation.first.confusion.classes)
    by_class = [
        {'class': name, **table_row(counts)}
        for name, counts in zip(class_names, point.classes, strict=False)
        if counts.any()
    ]
    by_third = [
        {'third': name, **table_row(counts)}
        for name, counts in zip(THIRDS, point.thirds, strict=True)
    ]
    return {
        'operating': {key: values[key] for key in RATES},
        'operating_threshold': point.threshold,
        'operating_rule': 'score > operating_threshold: that of the checkpoint, or of bag -p',
        'by_third': by_third,
        'by_class': by_class,
        'by_class_rule': 'true class' if known else 'predicted class',
    }


def bootstrap_values(evaluation: Evaluation, score: str) -> dict[str, Any]:
    """Gives the interval of each number that is a function of sums over frames."""
    first, second = evaluation.first, evaluation.second
    found: dict[str, Any] = {}
    if first.confusions:
        found |= intervals(_in_order(first.confusions), mean_ious)
    bins = second.bins.get(score)
    if bins is not None:
        found |= intervals(_of_score(second.binned, score), bins.values)
    if score in second.components:
        found |= intervals(_of_score(second.levels, score), mean_f1)
    if score in second.points:
        found |= intervals(second.points[score].per_frame(), rates)
    ends = {key: list(interval) for key, interval in found.items() if interval is not None}
    return {'bootstrap': {'rule': RULE, **ends}} if ends else {}


def _in_order(frames: Mapping[int, NDArray[Any]]) -> NDArray[Any]:
    return np.stack([frames[index] for index in sorted(frames)])


def _of_score(frames: Mapping[RowKey, NDArray[Any]], score: str) -> NDArray[Any]:
    return _in_order({index: counts for (index, name), counts in frames.items() if name == score})
