"""The two passes over a set: what needs no threshold, then what needs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from training.metrics.calibration_error import CalibrationError
from training.metrics.component import ComponentMetrics, level_counts, TRACKS
from training.metrics.confusion import ConfusionMatrix
from training.metrics.frame import FrameMetrics
from training.metrics.frame_bins import FrameBins
from training.metrics.openset import OpenSetMetrics
from training.metrics.operating import OperatingPoint
from training.metrics.pixel import FprRule, PixelMetrics, strict_threshold
from training.metrics.protocols import build_pixel_metrics

from .frame import Floats, Frame

RowKey = tuple[int, str]
"""(index of the frame, score)."""


@dataclass(frozen=True)
class MeasureSettings:
    """How a set is measured.

    Attributes:
        protocol: A key of `PROTOCOLS`.
        track: A key of `TRACKS`, for the sizes of components.
        temperature: Of the class probabilities.
        thresholds: Score name to the raw score that the checkpoint calls anomalous.
        towns: Whether the first part of a frame's name is a fold of open-mIoU.
        label_map: What the ids of the label files mean, where the user can say so.
    """

    protocol: str = 'exact'
    track: str = 'anomaly'
    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    towns: bool = False
    label_map: Mapping[int, int] | None = None

    @property
    def fpr95(self) -> FprRule:
        """The FPR95 rule of single frames."""
        return 'interp' if self.protocol == 'course' else 'first_ge'


class Limit(NamedTuple):
    """What is marked as anomalous: score > value, and why this value."""

    value: float
    rule: str


def town_of(name: str) -> str:
    """Gives the town in a frame's name.

    >>> town_of('t5_300')
    't5'
    """
    return name.split('_')[0]


class FirstPass:
    """Everything that needs no threshold; mergeable across processes."""

    def __init__(
        self, settings: MeasureSettings, scores: Sequence[str], classes: int, has_anomalies: bool
    ):
        """Starts with no frames.

        Args:
            settings: How to measure.
            scores: Names of the scores.
            classes: How many there are, 0 where classes are not compared.
            has_anomalies: Whether the frames have anomaly labels.
        """
        self.settings = settings
        self.has_anomalies = has_anomalies
        self.pixel = {score: build_pixel_metrics(settings.protocol) for score in scores}
        self.confusion = ConfusionMatrix(classes)
        # Frame number to its own confusion, of which that of a resample of frames is the sum.
        self.confusions: dict[int, NDArray[np.int64]] = {}
        self.calibration = CalibrationError()
        self.calibration_before = CalibrationError()
        self.halves: dict[tuple[str, str], PixelMetrics] = {}
        self.rows: dict[RowKey, dict[str, Any]] = {}
        # Median and top of each frame, between which pictures spread their colours.
        self.ranges: dict[RowKey, tuple[float, float]] = {}
        # Ids of all label files, as they are stored.
        self.stored: frozenset[int] = frozenset()

    def update(self, index: int, frame: Frame) -> None:
        """Adds one frame.

        Raises:
            ValueError: A score is NaN, or a label is not known.
        """
        miou = self._add_classes(index, frame)
        self.stored |= frame.stored
        valid = frame.truth != IGNORE
        for score, values in frame.scores.items():
            row: dict[str, Any] = {'frame': frame.name, 'miou': miou}
            row['n_pixels'] = int(valid.sum())
            if self.has_anomalies:
                self.pixel[score].update(values, frame.truth, frame.name)
                row['n_anomaly'] = int((frame.truth == 1).sum())
                row |= self._single(values, frame)
            self.rows[index, score] = row
            if valid.any():
                # Between two infinite ones there is nothing to take the mean of.
                low, high = np.percentile(values[valid][::16], (50, 99.9), method='higher')
                self.ranges[index, score] = (float(low), float(high))
            if self.settings.towns and self.confusion.classes:
                self._add_half(score, values, frame)

    def _single(self, values: Floats, frame: Frame) -> dict[str, float | None]:
        """Gives the metrics of one frame on its own; exact also where the pooled ones are not."""
        single = PixelMetrics(fpr95=self.settings.fpr95)
        single.update(values, frame.truth, frame.name)
        computed = single.compute()
        if not computed['n_anomalies']:
            return {}
        return {key: computed[key] for key in ('ap', 'auroc', 'fpr95')}

    def _add_classes(self, index: int, frame: Frame) -> float | None:
        """Adds the classes and gives the frame's own mIoU."""
        if frame.train_ids is None or frame.labels is None:
            return None
        single = ConfusionMatrix(self.confusion.classes)
        single.update(frame.labels, frame.train_ids)
        self.confusion.merge(single)
        self.confusions[index] = single.counts
        if frame.logits is not None and frame.logit_labels is not None:
            temperature = self.settings.temperature
            self.calibration.update(frame.logits, frame.logit_labels, temperature)
            if temperature != 1:
                self.calibration_before.update(frame.logits, frame.logit_labels)
        miou = single.mean_iou()
        return None if np.isnan(miou) else miou

    def _add_half(self, score: str, values: Floats, frame: Frame) -> None:
        """Adds a frame at half its size, where open-mIoU finds its threshold."""
        height, width = (side // 2 * 2 for side in values.shape)
        blocks = values[:height, :width].reshape(height // 2, 2, width // 2, 2)
        key = score, town_of(frame.name)
        self.halves.setdefault(key, PixelMetrics()).update(
            blocks.mean(axis=(1, 3)), frame.truth[:height:2, :width:2], frame.name
        )

    def merge(self, other: FirstPass) -> None:
        """Adds what another process measured."""
        for score, metrics in self.pixel.items():
            metrics.merge(other.pixel[score])  # type: ignore[arg-type]
        self.confusion.merge(other.confusion)
        self.confusions |= other.confusions
        self.calibration.merge(other.calibration)
        self.calibration_before.merge(other.calibration_before)
        for key, half in other.halves.items():
            self.halves.setdefault(key, PixelMetrics()).merge(half)
        self.rows |= other.rows
        self.ranges |= other.ranges
        self.stored |= other.stored

    def limits(self) -> dict[str, Limit | None]:
        """Gives for each score what is marked: by the best F1, or as the checkpoint says."""
        found: dict[str, Limit | None] = {}
        for score, metrics in self.pixel.items():
            best = metrics.compute()['best_f1_threshold']
            own = self.settings.thresholds.get(score)
            if best is not None:
                plain = self.settings.protocol == 'smiyc'
                value = float(best) if plain else strict_threshold(best)
                found[score] = Limit(value, 'best F1 on these frames')
            elif own is not None:
                found[score] = Limit(strict_threshold(own), "the checkpoint's threshold")
            else:
                found[score] = None
        return found

    def frame_bins(self) -> dict[str, FrameBins]:
        """Gives for each score the bins in which single frames are kept for resampling."""
        if not self.has_anomalies or self.settings.protocol != 'exact':
            return {}
        return {
            score: FrameBins.of(metrics)
            for score, metrics in self.pixel.items()
            if isinstance(metrics, PixelMetrics)
        }

    def open_thresholds(self) -> dict[tuple[str, str], float]:
        """Gives for each score and town the threshold that the other town sets, if any."""
        towns = sorted({town for _, town in self.halves})
        if len(towns) != 2:
            return {}
        other = dict(zip(towns, towns[::-1], strict=True))
        found = {
            (score, town): self.halves[score, other[town]].threshold_at_tpr(strict=True)
            for score, town in self.halves
        }
        return {key: value for key, value in found.items() if value is not None}


class SecondPass:
    """What is marked above a threshold; mergeable across processes."""

    def __init__(
        self,
        settings: MeasureSettings,
        limits: Mapping[str, Limit | None],
        open_thresholds: Mapping[tuple[str, str], float],
        bins: Mapping[str, FrameBins],
        classes: int,
        has_anomalies: bool,
    ):
        """Starts with no frames."""
        self.bins = bins
        self.binned: dict[RowKey, NDArray[np.uint32]] = {}
        self.levels: dict[RowKey, NDArray[np.int64]] = {}
        self.points = {
            score: OperatingPoint(strict_threshold(value))
            for score, value in settings.thresholds.items()
            if score in limits
        }
        sizes = TRACKS[settings.track]
        known = {score: limit.value for score, limit in limits.items() if limit is not None}
        wanted = has_anomalies and settings.protocol != 'course'
        self.half_precision = settings.protocol == 'smiyc'
        self.limits = known
        self.components = {
            score: ComponentMetrics(value, sizes) for score, value in known.items() if wanted
        }
        self.frames = {
            score: FrameMetrics(known.get(score, np.inf), sizes.predicted) for score in limits
        }
        self.open_sets = {
            key: OpenSetMetrics(classes, value) for key, value in open_thresholds.items()
        }
        self.rows: dict[RowKey, dict[str, Any]] = {}

    def update(self, index: int, frame: Frame) -> None:
        """Adds one frame."""
        valid = frame.truth != IGNORE
        for score, full in frame.scores.items():
            values: NDArray[np.floating] = full
            if self.half_precision:
                with np.errstate(over='ignore'):
                    values = full.astype(np.float16)
            metrics = self.frames[score]
            skipped = metrics.skipped
            metrics.update(values, frame.truth)
            row: dict[str, Any] = {}
            if metrics.skipped == skipped:
                row['score_p999'] = metrics.percentile[-1]
                if score in self.limits:
                    row['mask_share'] = float((values[valid] > self.limits[score]).mean())
            self.rows[index, score] = row
            if score in self.components:
                components = self.components[score]
                components.update(values, frame.truth)
                self.levels[index, score] = level_counts(components.siou[-1], components.ppv[-1])
            if score in self.points:
                classes = frame.labels if frame.train_ids is None else frame.train_ids
                self.points[score].update(index, full, frame.truth, classes)
            if score in self.bins:
                self.binned[index, score] = self.bins[score].count(full, frame.truth)
            self._add_open(score, values, frame)

    def _add_open(self, score: str, values: NDArray[np.floating], frame: Frame) -> None:
        metrics = self.open_sets.get((score, town_of(frame.name)))
        if metrics is None or frame.labels is None or frame.train_ids is None:
            return
        metrics.update(frame.labels, values, frame.train_ids, frame.truth)

    def merge(self, other: SecondPass) -> None:
        """Adds what another process measured."""
        for score, components in self.components.items():
            components.merge(other.components[score])
        for score, frames in self.frames.items():
            frames.merge(other.frames[score])
        for key, open_set in self.open_sets.items():
            open_set.merge(other.open_sets[key])
        for score, point in self.points.items():
            point.merge(other.points[score])
        self.binned |= other.binned
        self.levels |= other.levels
        self.rows |= other.rows
