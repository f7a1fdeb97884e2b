"""Is the whole frame out of the ordinary: AUROC and F1 over frames, false alarms per frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE

from .component import components
from .pixel import PixelMetrics, Value

QUANTILE = 0.999

RULE = (
    'a frame is anomalous if its region holds an anomaly pixel; frames are ranked by the 99.9th '
    'percentile of the scores in their region (frame_*), or by the mean score of their largest '
    'component above the threshold (frame_component_*); F1 is the best over these; a false alarm '
    'is a component that touches no anomaly pixel'
)
"""What the numbers mean, for the output; there is no published protocol."""


class FrameMetrics:
    """AUROC and F1 of frames in two rankings, and false alarms per frame.

    The region of a frame are its pixels labelled 0 or 1; a frame without any is skipped.
    Components are 8-connected, hold pixels of the region with score > threshold, and have at
    least `min_area_px` pixels. A frame without one ranks lowest by components.

    >>> metrics = FrameMetrics(0.5, min_area_px=1)
    >>> metrics.update(np.float32([[0.9, 0.1]]), np.uint8([[1, 0]]))
    >>> metrics.update(np.float32([[0.2, 0.7]]), np.uint8([[0, 0]]))
    >>> values = metrics.compute()
    >>> values['frame_auroc'], values['frame_f1'], values['false_alarms_per_frame']
    (1.0, 1.0, 0.5)
    """

    def __init__(self, threshold: float, min_area_px: int = 50):
        if np.isnan(threshold):
            raise ValueError('the threshold of frame metrics is nan; give a score')
        self.threshold = threshold
        self.min_area_px = min_area_px
        self.skipped = 0
        self.labels: list[int] = []
        self.percentile: list[float] = []
        self.component: list[float] = []
        self.false_alarms = 0

    def update(self, score: NDArray[np.floating], anomaly: NDArray[np.uint8]) -> None:
        """Adds one frame.

        Args:
            score: (H, W), higher = more anomalous.
            anomaly: (H, W) 0 inlier, 1 anomaly, 255 ignore.

        Raises:
            ValueError: Sizes differ, or a labelled pixel has a NaN score.
        """
        if score.shape != anomaly.shape:
            raise ValueError(f'score is {score.shape}, labels {anomaly.shape}')
        region = anomaly != IGNORE
        values = score[region].astype(np.float32)
        if not values.size:
            self.skipped += 1
            return
        if np.isnan(values).any():
            raise ValueError(f'{int(np.isnan(values).sum())} labelled pixels have a NaN score')
        largest, alarms = self._components(score, anomaly, region)
        self.labels.append(int((anomaly == 1).any()))
        # The next score up instead of a line between two: infinite scores stay defined.
        place = int(np.ceil(QUANTILE * (values.size - 1)))
        self.percentile.append(float(np.partition(values, place)[place]))
        self.component.append(largest)
        self.false_alarms += alarms

    def _components(
        self, score: NDArray[np.floating], anomaly: NDArray[np.uint8], region: NDArray[np.bool_]
    ) -> tuple[float, int]:
        """Gives the mean score of the largest component and how many touch no anomaly."""
        ids, sizes = components((score > self.threshold) & region)
        kept = sizes >= self.min_area_px
        kept[0] = False
        if not kept.any():
            return -float('inf'), 0
        largest = int(np.argmax(np.where(kept, sizes, 0)))
        touched = np.zeros(sizes.size, np.bool_)
        touched[ids[anomaly == 1]] = True
        mean = float(score[ids == largest].astype(np.float64).mean())
        return mean, int((kept & ~touched).sum())

    def merge(self, other: FrameMetrics) -> None:
        """Adds what another worker measured.

        Raises:
            ValueError: The other one has other settings.
        """
        mine = (self.threshold, self.min_area_px)
        theirs = (other.threshold, other.min_area_px)
        if mine != theirs:
            raise ValueError(f'cannot merge frame metrics with {theirs} into {mine}')
        self.labels += other.labels
        self.percentile += other.percentile
        self.component += other.component
        self.false_alarms += other.false_alarms
        self.skipped += other.skipped

    def compute(self) -> dict[str, Value]:
        """Gives the values, None where undefined; `RULE` says what they mean."""
        count = len(self.labels)
        values: dict[str, Value] = {
            'n_frames': count,
            'n_anomalous_frames': sum(self.labels),
            'false_alarms_per_frame': self.false_alarms / count if count else None,
        }
        for prefix, scores in (('frame', self.percentile), ('frame_component', self.component)):
            ranked = PixelMetrics()
            ranked.update(np.array(scores, np.float32), np.array(self.labels, np.uint8))
            result = ranked.compute()
            values[f'{prefix}_auroc'] = result['auroc']
            values[f'{prefix}_f1'] = result['best_f1']
            values[f'{prefix}_threshold'] = result['best_f1_threshold']
        return values
