"""From what was measured to the rows, tables and curves of the result folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from anomaly_seg_ros.classes import IGNORE
from training.datasets.label_ids import MEANINGS
from training.metrics.calibration_error import CalibrationError
from training.metrics.component import TRACKS
from training.metrics.curve import CurvePoints
from training.metrics.frame import RULE
from training.metrics.openset import fold_mean
from training.metrics.per_image import KEYS, PerImageMean
from training.metrics.pixel import PixelMetrics, Value
from training.results import FrameRow, MAX_POINTS, ResultRow

from .operating import bootstrap_values, operating_values
from .run import Evaluation

NEAR_BASE_RATE = 0.1
"""Relative distance between AP and base rate below which a score is called chance."""

FPR95_RULES = {
    'exact': 'first score with TPR >= 0.95',
    'smiyc': 'first point of the quantised curve with TPR >= 0.95',
    'course': 'linear interpolation at TPR 0.95',
}

PIXEL_KEYS = ('ap', 'auroc', 'fpr95', 'best_f1', 'best_f1_threshold')

SHOWN_IDS = 20
"""How many ids of label files a warning lists."""

CURVE_POINTS = MAX_POINTS - 4
"""What `Ranking.points` is asked for; it adds both ends."""


def result_row(evaluation: Evaluation, score: str, origin: ResultRow) -> ResultRow:
    """Gives the row of one score.

    Args:
        evaluation: What was measured.
        score: Its name.
        origin: What is the same for all scores; its `extra['warnings']` are kept.
    """
    first = evaluation.first
    pixel = _pixel_values(evaluation, score)
    classes = _class_values(evaluation)
    components, component_extra = _component_values(evaluation, score)
    open_values = _open_values(evaluation, score)
    frame_rows = frame_table(evaluation, score)
    extra = dict(origin.extra)
    extra['protocol'] = evaluation.settings.protocol
    extra['fpr95_rule'] = FPR95_RULES[evaluation.settings.protocol]
    extra |= _anomaly_extra(evaluation, score, pixel)
    extra |= component_extra | _frame_values(evaluation, score)
    extra |= operating_values(evaluation, score, extra.get('class_names', ()))
    extra |= bootstrap_values(evaluation, score)
    if first.has_anomalies:
        extra['per_image'] = _per_image(frame_rows)
    if evaluation.settings.towns:
        extra['anomaly_iou'] = open_values.get('anomaly_iou')
    extra |= _calibration_before(first.calibration_before)
    extra['warnings'] = [
        *origin.extra.get('warnings', ()),
        *_empty(evaluation, frame_rows),
        *_chance(pixel),
    ]
    calibration = first.calibration.compute()
    return replace(
        origin,
        score=score,
        n_images=pixel['n_images'] if first.has_anomalies else len(frame_rows),
        n_pixels=pixel['n_pixels']
        if first.has_anomalies
        else sum(row.n_pixels for row in frame_rows),
        **{key: pixel[key] for key in PIXEL_KEYS},
        **components,
        **classes,
        open_miou=open_values.get('open_miou'),
        ece=calibration['ece'],
        nll=calibration['nll'],
        extra=extra,
    )


def frame_table(evaluation: Evaluation, score: str) -> list[FrameRow]:
    """Gives the rows of one score in the order of the frames."""
    first, second = evaluation.first.rows, evaluation.second.rows
    keys = sorted(key for key in first if key[1] == score)
    return [FrameRow(score=score, **{**first[key], **second[key]}) for key in keys]


def curve_entry(evaluation: Evaluation, score: str) -> dict[str, Any]:
    """Gives the entry of one score in `curves.json`."""
    points = _points(evaluation, score)
    first = evaluation.first
    return {
        'score': score,
        'pr': {'recall': points.tpr, 'precision': points.precision},
        'roc': {'fpr': points.fpr, 'tpr': points.tpr},
        'reliability': _reliability(first.calibration),
        'reliability_before': _reliability(first.calibration_before),
    }


def _pixel_values(evaluation: Evaluation, score: str) -> dict[str, Any]:
    return dict(evaluation.first.pixel[score].compute())


def _points(evaluation: Evaluation, score: str) -> CurvePoints:
    """Gives at most `MAX_POINTS` points, none without anomalies."""
    metrics = evaluation.first.pixel[score]
    if metrics.compute()['auroc'] is None:
        return CurvePoints(*(np.zeros(0) for _ in CurvePoints._fields))
    if isinstance(metrics, PixelMetrics):
        return metrics.curve(CURVE_POINTS)
    points = metrics.curve()
    chosen = np.unique(np.linspace(0, points.tpr.size - 1, MAX_POINTS).round().astype(int))
    return CurvePoints(*(column[chosen] for column in points))


def _class_values(evaluation: Evaluation) -> dict[str, Any]:
    confusion = evaluation.first.confusion
    if not confusion.classes:
        return {'miou': None, 'iou': None}
    mean = confusion.mean_iou()
    iou = [None if np.isnan(value) else float(value) for value in confusion.iou()]
    return {'miou': None if np.isnan(mean) else mean, 'iou': iou}


def _component_values(evaluation: Evaluation, score: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gives the contract's component metrics and what else is known of components."""
    metrics = evaluation.second.components.get(score)
    if metrics is None:
        return {'siou_gt': None, 'ppv': None, 'f1_mean': None}, {}
    values: dict[str, Any] = dict(metrics.compute())
    contract = {key: values.pop(key) for key in ('siou_gt', 'ppv', 'f1_mean')}
    sizes = TRACKS[evaluation.settings.track]
    return contract, {**values, 'component_sizes': sizes._asdict()}


def _open_values(evaluation: Evaluation, score: str) -> dict[str, Value]:
    folds = [fold for key, fold in evaluation.second.open_sets.items() if key[0] == score]
    return fold_mean(folds) if folds else {}


def _frame_values(evaluation: Evaluation, score: str) -> dict[str, Any]:
    values: dict[str, Any] = dict(evaluation.second.frames[score].compute())
    if evaluation.limits[score] is None:
        values['false_alarms_per_frame'] = None
        values = {k: None if k.startswith('frame_component') else v for k, v in values.items()}
    return values | {'frame_rule': RULE}


def _anomaly_extra(evaluation: Evaluation, score: str, pixel: dict[str, Any]) -> dict[str, Any]:
    limit = evaluation.limits[score]
    metrics = evaluation.first.pixel[score]
    interval = None
    if isinstance(metrics, PixelMetrics):
        interval = metrics.bounds()['ap']
    known = evaluation.first.has_anomalies
    return {
        'base_rate': pixel['base_rate'] if known else None,
        'n_anomaly_pixels': pixel['n_anomalies'] if known else None,
        'n_skipped': pixel['n_skipped'] if known else 0,
        'ap_interval': None if interval is None else list(interval),
        'mask_threshold': None if limit is None else limit.value,
        'mask_rule': None if limit is None else f'score > mask_threshold: {limit.rule}',
    }


def _empty(evaluation: Evaluation, rows: list[FrameRow]) -> list[str]:
    """Warns of labels that leave nothing to measure, with what they hold and the way out."""
    first, label_map = evaluation.first, evaluation.settings.label_map
    if not sum(row.n_pixels for row in rows):
        lacks = 'valid'
    elif first.has_anomalies and not sum(row.n_anomaly or 0 for row in rows):
        lacks = 'anomalous'
    else:
        return []
    text = f'not a single pixel of {len(rows)} frames is {lacks}'
    if first.stored:
        meant = label_map or {}
        words = (
            f'{stored} ({MEANINGS[meant[stored]]})' if stored in meant else str(stored)
            for stored in sorted(first.stored)[:SHOWN_IDS]
        )
        text += f'; the label files hold {", ".join(words)}'
    if label_map is not None and label_map.get(IGNORE) == IGNORE and IGNORE in first.stored:
        text += f'; if {IGNORE} marks the anomaly, add --label-map {IGNORE}=1'
    return [text]


def _chance(pixel: dict[str, Any]) -> list[str]:
    """Warns of a score that ranks no better than chance."""
    ap, base = pixel['ap'], pixel['base_rate']
    if ap is None or base in (None, 1) or abs(ap - base) > NEAR_BASE_RATE * base:
        return []
    return [
        f'AP {ap:.4f} is within 10 % of the base rate {base:.4f}, as of a score that knows '
        'nothing: check weights, input scale and the sign of the score'
    ]


def _per_image(rows: list[FrameRow]) -> dict[str, Value]:
    """Gives the mean over frames of their own metrics, as StreetHazards and BDD-Anomaly report."""
    means = PerImageMean()
    for row in rows:
        values = tuple(v for v in (getattr(row, key) for key in KEYS) if v is not None)
        if len(values) == len(KEYS):
            means.values.append(cast('tuple[float, ...]', values))
        else:
            means.skipped += 1
    return means.compute()


def _calibration_before(calibration: CalibrationError) -> dict[str, Value]:
    values = calibration.compute()
    if not values['n_pixels']:
        return {}
    return {'ece_before': values['ece'], 'nll_before': values['nll']}


def _reliability(calibration: CalibrationError) -> dict[str, Any] | None:
    if not calibration.counts.sum():
        return None
    diagram = calibration.reliability()
    return {
        'confidence': diagram.confidence,
        'accuracy': diagram.accuracy,
        'share': diagram.share,
    }
