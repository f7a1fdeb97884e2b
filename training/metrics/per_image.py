"""AP, AUROC and FPR95 of each image on its own, averaged as StreetHazards does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .pixel import PixelMetrics, Value

KEYS = ('ap', 'auroc', 'fpr95')


class PerImageMean:
    """Mean over images of their own metrics; images that lack a class are counted and left out.

    Not comparable with values pooled over the set.

    >>> metrics = PerImageMean()
    >>> metrics.update(np.float32([[2, 1]]), np.uint8([[1, 0]]))
    >>> metrics.update(np.float32([[2, 1]]), np.uint8([[0, 1]]))
    >>> values = metrics.compute()
    >>> values['ap'], values['auroc'], values['fpr95']
    (0.75, 0.5, 0.5)
    """

    def __init__(self) -> None:
        self.values: list[tuple[float, ...]] = []
        self.skipped = 0

    def update(
        self, score: NDArray[np.floating], anomaly: NDArray[np.uint8], name: str | None = None
    ) -> None:
        """Adds one frame; arguments and errors are those of `PixelMetrics.update`."""
        single = PixelMetrics()
        single.update(score, anomaly, name or str(len(self.values) + self.skipped))
        computed = single.compute()
        values = tuple(float(v) for v in (computed[key] for key in KEYS) if v is not None)
        if len(values) < len(KEYS):
            self.skipped += 1
        else:
            self.values.append(values)

    def merge(self, other: PerImageMean) -> None:
        """Adds what another worker measured."""
        self.values += other.values
        self.skipped += other.skipped

    def compute(self) -> dict[str, Value]:
        """Gives the means, None without an image that holds both classes."""
        result: dict[str, Value] = {'n_images': len(self.values), 'n_skipped': self.skipped}
        means = np.mean(self.values, axis=0) if self.values else [None] * len(KEYS)
        return result | {
            key: None if mean is None else float(mean)
            for key, mean in zip(KEYS, means, strict=True)
        }
