"""How far the network's class confidence can be trusted: ECE and NLL, streamed."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .pixel import Value

BINS = 15
ROWS = 64
"""Image rows whose float64 softmax is held at once."""

Doubles = NDArray[np.float64]


class Reliability(NamedTuple):
    """The reliability diagram, (B,) each; NaN in a bin without pixels.

    Attributes:
        share: Pixels in the bin, as a share of all.
        confidence: Their mean confidence.
        accuracy: How many of them are right, as a share.
    """

    share: Doubles
    confidence: Doubles
    accuracy: Doubles


class CalibrationError:
    """Expected calibration error over equal bins (a, b] of confidence, and mean NLL.

    Confidence is the largest softmax value; ECE = sum over bins of share * |accuracy - mean
    confidence|. Ignored pixels are left out. What frames add is summed exactly, so that neither
    their order nor how workers shared them changes a bit.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.

    >>> metrics = CalibrationError()
    >>> metrics.add(np.array([0.8, 0.8]), np.array([True, False]), np.array([0.2, 1.6]))
    >>> values = metrics.compute()
    >>> round(values['ece'], 6), round(values['nll'], 6)
    (0.3, 0.9)
    """

    def __init__(self, bins: int = BINS):
        self.edges = np.linspace(0, 1, bins + 1)
        self.counts = np.zeros(bins, np.int64)
        self.hits = np.zeros(bins, np.int64)
        self._confidence = [Fraction()] * bins
        self._nll = Fraction()

    @property
    def confidence(self) -> Doubles:
        """(B,) sum of the confidence in each bin."""
        return np.array([float(total) for total in self._confidence])

    def update(
        self, logits: NDArray[np.floating], labels: NDArray[np.uint8], temperature: float = 1.0
    ) -> None:
        """Adds one frame.

        Args:
            logits: (K, H, W) before softmax, inlier classes only.
            labels: (H, W) train ids, 255 = ignore.
            temperature: Divides the logits.

        Raises:
            ValueError: Sizes differ, the temperature is not positive, a label is neither a class
                nor 255, or a logit of a labelled pixel is not finite.
        """
        if logits.ndim != 3 or logits.shape[1:] != labels.shape:
            raise ValueError(f'logits are {logits.shape}, labels {labels.shape}')
        if not temperature > 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        for start in range(0, labels.shape[0], ROWS):
            rows = slice(start, start + ROWS)
            valid = labels[rows] != IGNORE
            self._add_pixels(logits[:, rows][:, valid], labels[rows][valid], temperature)

    def _add_pixels(
        self, logits: NDArray[np.floating], labels: NDArray[np.uint8], temperature: float
    ) -> None:
        """Adds (K, n) logits of (n,) labelled pixels."""
        if not labels.size:
            return
        if labels.max() >= len(logits):
            raise ValueError(f'label {labels.max()} is not one of {len(logits)} classes or 255')
        if not np.isfinite(logits).all():
            raise ValueError('a logit of a labelled pixel is not finite')
        scaled = logits.astype(np.float64) / temperature
        guess = scaled.argmax(axis=0)
        scaled -= scaled.max(axis=0)
        log_sum = np.log(np.exp(scaled).sum(axis=0))
        true = scaled[labels, np.arange(labels.size)]
        self.add(np.exp(-log_sum), guess == labels, log_sum - true)

    def add(self, confidence: Doubles, hit: NDArray[np.bool_], nll: Doubles) -> None:
        """Adds (n,) pixels: confidence in 0..1, whether the class is right, -log p(true class)."""
        bins = self.counts.size
        index = np.clip(np.searchsorted(self.edges, confidence) - 1, 0, bins - 1)
        self.counts += np.bincount(index, minlength=bins)
        self.hits += np.bincount(index[hit], minlength=bins)
        for place, total in enumerate(np.bincount(index, confidence, bins).tolist()):
            self._confidence[place] += Fraction(total)
        self._nll += Fraction(float(nll.sum()))

    def merge(self, other: CalibrationError) -> None:
        """Adds what another worker measured.

        Raises:
            ValueError: The other one has another number of bins.
        """
        if other.counts.size != self.counts.size:
            raise ValueError(f'cannot merge {other.counts.size} bins into {self.counts.size}')
        self.counts += other.counts
        self.hits += other.hits
        pairs = zip(self._confidence, other._confidence, strict=True)
        self._confidence = [mine + theirs for mine, theirs in pairs]
        self._nll += other._nll

    def compute(self) -> dict[str, Value]:
        """Gives the values by their names in `results.json`, None without labelled pixels."""
        total = int(self.counts.sum())
        if not total:
            return {'n_pixels': 0, 'ece': None, 'nll': None}
        gap = np.abs(self.hits - self.confidence).sum()
        return {'n_pixels': total, 'ece': float(gap / total), 'nll': float(self._nll) / total}

    def reliability(self) -> Reliability:
        """Gives the reliability diagram."""
        with np.errstate(invalid='ignore'):
            return Reliability(
                self.counts / self.counts.sum(),
                self.confidence / self.counts,
                self.hits / self.counts,
            )
