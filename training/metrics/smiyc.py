"""The quantised pixel curve of the SegmentMeIfYouCan benchmark (`--protocol smiyc`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .curve import CurvePoints
from .pixel import check_frame, TARGET_TPR, Value

QUANTILES = 384
"""Thresholds that each class of a frame gives at most."""

Doubles = NDArray[np.float64]


class _FrameBins(NamedTuple):
    """Bins of one frame from the highest down: lower edge, anomalies, inliers, (b,) each."""

    edge: Doubles
    hits: NDArray[np.int64]
    alarms: NDArray[np.int64]


class SmiycCurve:
    """Pixel metrics as that benchmark computes them, for rows beside its tables.

    Scores are rounded to float16; each frame is reduced to at most 768 bins whose edges are
    quantiles of its own scores; all bins are then sorted by their lower edge. Optimistic against
    the exact curve: about 0.0005 AP on dense frames, 0.01 and more where anomalies are few.
    Frames without labelled pixels are skipped and counted.

    Source: Chan et al., "SegmentMeIfYouCan", 2021, and its public evaluation code. Differs where
    that breaks: no anomalies or no inliers give None instead of NaN or 0, and bins of one edge
    lie in an order that is fixed, where that code leaves it to an unstable sort.
    """

    def __init__(self) -> None:
        self.frames: list[_FrameBins] = []
        self.skipped = 0

    def update(
        self, score: NDArray[np.floating], anomaly: NDArray[np.uint8], name: str | None = None
    ) -> None:
        """Adds one frame.

        Args:
            score: (H, W), higher = more anomalous.
            anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.
            name: The frame's name for error texts; its number if None.

        Raises:
            ValueError: As `PixelMetrics.update`; also an infinite score, which has no quantile.
        """
        name = name or str(len(self.frames) + self.skipped)
        check_frame(score, anomaly, name)
        with np.errstate(over='ignore'):
            hit, normal = (score[anomaly == label].astype(np.float16) for label in (1, 0))
        if not hit.size + normal.size:
            self.skipped += 1
            return
        if not (np.isfinite(hit).all() and np.isfinite(normal).all()):
            raise ValueError(
                f'frame {name!r} has scores that are infinite in float16, which protocol smiyc '
                'cannot bin; use protocol exact'
            )
        self.frames.append(_frame_bins(hit, normal))

    def merge(self, other: SmiycCurve) -> None:
        """Adds what another worker measured."""
        self.frames += other.frames
        self.skipped += other.skipped

    def compute(self) -> dict[str, Value]:
        """Gives the same values as `PixelMetrics.compute`, from the quantised curve."""
        _, hits, alarms = self._cumulated()
        anomalies = int(sum(frame.hits.sum() for frame in self.frames))
        inliers = int(sum(frame.alarms.sum() for frame in self.frames))
        values: dict[str, Value] = {
            'n_images': len(self.frames),
            'n_skipped': self.skipped,
            'n_pixels': anomalies + inliers,
            'n_anomalies': anomalies,
            'base_rate': anomalies / (anomalies + inliers) if self.frames else None,
            'ap': None,
            'auroc': None,
            'fpr95': None,
            'best_f1': None,
            'best_f1_threshold': None,
        }
        if anomalies:
            points = self.curve()
            values['ap'] = float((np.diff(points.tpr) * points.precision[1:]).sum())
            if inliers:
                f1 = 2 * hits / (hits + alarms + anomalies)
                best = int(np.argmax(f1))
                first = int(np.argmax(points.tpr >= TARGET_TPR))
                values['auroc'] = float(np.trapezoid(points.tpr, points.fpr))
                values['fpr95'] = float(points.fpr[first])
                values['best_f1'] = float(f1[best])
                values['best_f1_threshold'] = float(points.threshold[best])
        return values

    def curve(self) -> CurvePoints:
        """Gives all points of the curve, at most 768 per frame."""
        edge, hits, alarms = self._cumulated()
        predicted = hits + alarms
        precision = np.divide(hits, predicted, out=np.ones(hits.size), where=predicted > 0)
        anomalies, inliers = (hits[-1], alarms[-1]) if hits.size else (0, 0)
        with np.errstate(invalid='ignore'):
            return CurvePoints(edge, hits / anomalies, alarms / inliers, precision)

    def _cumulated(self) -> tuple[Doubles, Doubles, Doubles]:
        """Gives thresholds that fall, and the anomalies and inliers at or above each."""
        if not self.frames:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        edge, hits, alarms = (np.concatenate(part) for part in zip(*self.frames, strict=True))
        # Of the highest edge, where frames share it, one bin stays by itself: the poorest, in
        # whatever order the frames came.
        order = np.lexsort((-alarms, hits, -edge))
        edge, hits, alarms = edge[order], np.cumsum(hits[order]), np.cumsum(alarms[order])
        # A threshold that repeats counts once, with all its pixels; both ends always stay.
        last = np.flatnonzero(edge[:-1] != edge[1:])
        kept = np.concatenate([[0], last, [edge.size - 1]])
        edge, hits, alarms = edge[kept], hits[kept], alarms[kept]
        if hits[0] or alarms[0]:
            edge = np.concatenate([[edge[0] + 1], edge])
            hits, alarms = (np.concatenate([[0], count]) for count in (hits, alarms))
        return edge, hits.astype(np.float64), alarms.astype(np.float64)


def _frame_bins(hit: NDArray[np.float16], normal: NDArray[np.float16]) -> _FrameBins:
    """Gives the bins of one frame; every score lies in one of them."""
    lowest = min(float(part.min()) for part in (hit, normal) if part.size)
    highest = max(float(part.max()) for part in (hit, normal) if part.size)
    margin = max((highest - lowest) * 0.01, 0.01)
    edges = [np.array([lowest - margin, highest + margin])]
    hit, normal = np.sort(hit), np.sort(normal)
    edges += [_quantiles(part, min(QUANTILES, part.size)) for part in (hit, normal) if part.size]
    edge = np.unique(np.concatenate(edges))
    return _FrameBins(edge[-2::-1], _histogram(hit, edge)[::-1], _histogram(normal, edge)[::-1])


def _quantiles(rising: NDArray[np.float16], count: int) -> Doubles:
    """Gives `count` linear quantiles, evenly spaced from 0 to 1, of values that rise."""
    place = np.linspace(0, 1, count) * (rising.size - 1)
    below = np.minimum(place.astype(np.intp), max(rising.size - 2, 0))
    above = np.minimum(below + 1, rising.size - 1)
    low, high = rising[below].astype(np.float64), rising[above].astype(np.float64)
    share = place - below
    # From the nearer end, as NumPy does: equal neighbours give exactly their value.
    values: Doubles = np.where(
        share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share)
    )
    return values


def _histogram(rising: NDArray[np.float16], edge: Doubles) -> NDArray[np.int64]:
    """Counts values that rise in bins [a, b), the last one [a, b]."""
    values = rising.astype(np.float32).astype(np.float64)
    places = np.searchsorted(values, edge[:-1])
    return np.diff(places, append=rising.size)
