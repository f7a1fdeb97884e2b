"""What is known of a frame at the network's size; each map is computed when first asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import CalibrationTable, score_bits
from anomaly_seg_ros.prediction import Prediction
from anomaly_seg_ros.whole_frame.health import CameraHealth, HealthSettings
from anomaly_seg_ros.whole_frame.methods import FrameJudge

from .persistence import ALWAYS, Persistence
from .regions import find_regions, Whole
from .tracks import follow, Tracks


@dataclass(frozen=True)
class PipelineSettings:
    """What may change between two frames.

    Attributes:
        threshold: Calibrated score (0..1) at or above which a pixel is anomalous.
        min_region_area: Regions of fewer pixels of the camera image are dropped.
        overlay_alpha: Share of the class colours in the overlay, 0..1.
        max_regions: Regions that are listed, at most; the mask holds all of them.
        persistence: Regions that were there less often are dropped.
        smoothing: Share that the frames before have in the score that is compared with the
            threshold, 0..1 without 1; 0 for none.
        health: When the camera is unfit.
    """

    threshold: float
    min_region_area: int = 0
    overlay_alpha: float = 0.45
    max_regions: int = 100
    persistence: Persistence = ALWAYS
    smoothing: float = 0.0
    health: HealthSettings = field(default_factory=HealthSettings)


@dataclass(frozen=True)
class Memory:
    """What the frames before leave to the next one.

    Attributes:
        tracks: Of their regions.
        smoothed: (h, w) calibrated score of all of them; None where nothing is smoothed.
        health: Of the camera.
    """

    tracks: Tracks = field(default_factory=Tracks)
    smoothed: NDArray[np.float32] | None = None
    health: CameraHealth = field(default_factory=CameraHealth)

    def begun_anew(self) -> Memory:
        """Gives what is left behind a gap: nothing of the scene; no id comes twice."""
        return Memory(Tracks(next_id=self.tracks.next_id), None, self.health)


@dataclass(frozen=True)
class Anomalies:
    """The regions of a frame that are large and lasting enough.

    (n,) are of each that is listed, by size times score, the largest first.

    Attributes:
        boxes: (n, 4) first column, first row, columns and rows.
        areas: (n,) pixels.
        scores: (n,) mean calibrated score.
        ids: (n,) that stay over frames.
        seen: (n,) in how many of the last frames each was there.
        total: Regions, those too that are not listed.
        pixels: (p,) places of the pixels of all regions in the flattened picture.
        delays: Of each region that counts for the first time: frames since it was first there.
        memory: For the next frame.
    """

    boxes: Whole
    areas: Whole
    scores: NDArray[np.float64]
    ids: Whole
    seen: Whole
    total: int
    pixels: Whole
    delays: Whole
    memory: Memory


class Maps:
    """A frame's maps at the network's size.

    Args:
        prediction: Of the network.
        settings: That held when the frame came.
        min_area: Anomalous regions of fewer pixels are dropped.
        calibration: Of the score, or None.
        before: What the frames before have left.
        judge: The checkpoint's method for whole frames; None where it has none.
        picture: (h, w, 3) RGB at the network's size, where frames follow each other and the
            camera's health is watched.
        ignored: (h, w) true where nothing is anomalous whatever the threshold; None for nowhere.
    """

    def __init__(
        self,
        prediction: Prediction,
        settings: PipelineSettings,
        min_area: float,
        calibration: CalibrationTable | None,
        before: Memory,
        judge: FrameJudge | None = None,
        picture: NDArray[np.uint8] | None = None,
        ignored: NDArray[np.bool_] | None = None,
    ):
        self.prediction = prediction
        self.settings = settings
        self.before = before
        self._judge = judge
        self._picture = picture
        self.ignored = ignored
        self._min_area = min_area
        self._calibration = calibration

    @property
    def calibrated(self) -> bool:
        """Whether the score has a calibration, which most of the maps need."""
        return self._calibration is not None

    @property
    def _table(self) -> CalibrationTable:
        if self._calibration is None:
            raise ValueError('the score has no calibration; run fit_score on the checkpoint first')
        return self._calibration

    @cached_property
    def _bits(self) -> NDArray[np.uint16]:
        return score_bits(self.prediction.score)

    @cached_property
    def share(self) -> NDArray[np.float32]:
        """(h, w) calibrated score, 0..1."""
        return self._table.share(self._bits)

    @cached_property
    def judged(self) -> float | None:
        """Frame score by the checkpoint's method for whole frames; None where it has none."""
        frame = self.prediction.frame
        return None if self._judge is None or frame is None else self._judge.score(frame)

    @cached_property
    def health(self) -> CameraHealth:
        """Of the camera, this frame included."""
        before = self.before.health
        if self._picture is None:
            return before
        return before.after(self._picture, self.judged, self.settings.health)

    @cached_property
    def frame_score(self) -> float:
        """How anomalous the frame is as a whole, 0..1.

        By the checkpoint's method for whole frames: 0.5 at the threshold from which on a frame is
        out of domain. Without one the mean calibrated score: about 0.5 on frames like those of
        the calibration, with no threshold; ignored pixels do not count. Towards 1 for another
        domain or a failing camera.
        """
        if self.judged is not None:
            return self.judged
        share = self.share if self.ignored is None else self.share[~self.ignored]
        return float(share.mean(dtype=np.float64))

    @cached_property
    def heat(self) -> NDArray[np.uint8]:
        """(h, w) calibrated score times 255."""
        return self._table.heat(self._bits)

    @cached_property
    def smoothed(self) -> NDArray[np.float32] | None:
        """(h, w) calibrated score with that of the frames before; None where none is wanted."""
        weight = self.settings.smoothing
        if not weight:
            return None
        before = self.before.smoothed
        if before is None:
            return self.share
        mixed = cv2.addWeighted(self.share, 1 - weight, before, weight, 0)
        return mixed.astype(np.float32, copy=False)

    @cached_property
    def above(self) -> NDArray[np.uint8]:
        """(h, w) 255 where the calibrated score is at or above the threshold."""
        if self.smoothed is None:
            above = self._table.above(self._bits, self.settings.threshold)
        else:
            above = np.negative((self.smoothed >= self.settings.threshold).view(np.uint8))
        if self.ignored is not None:
            above[self.ignored] = 0  # a threshold of 0 is reached everywhere
        return above

    @cached_property
    def anomalous_share(self) -> float:
        """Share of pixels at or above the threshold, 0..1, before any region is dropped.

        Of those that are not ignored.
        """
        counted = self.above.size
        if self.ignored is not None:
            counted -= np.count_nonzero(self.ignored)
        return cv2.countNonZero(self.above) / counted

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """(h, w) 255 where a region is that is large and lasting enough, else 0."""
        if self._min_area <= 1 and self.settings.persistence.needed == 1:
            return self.above
        mask = np.zeros_like(self.above)
        mask.ravel()[self.anomalies.pixels] = 255
        return mask

    @cached_property
    def anomalies(self) -> Anomalies:
        """The regions of what is above, and of them those that are large and lasting enough."""
        settings = self.settings
        found = find_regions(self.above, self._min_area)
        past = follow(self.before.tracks, found, settings.persistence)
        lasting = past.seen >= settings.persistence.needed
        regions = found.only(lasting)
        scores = regions.means(self._table.share(self._bits.ravel().take(regions.pixels)))
        order = np.argsort(-regions.areas * scores, kind='stable')[: settings.max_regions]
        return Anomalies(
            regions.boxes[order],
            regions.areas[order],
            scores[order],
            past.ids[lasting][order],
            past.seen[lasting][order],
            len(regions),
            regions.pixels,
            past.delays,
            Memory(past.tracks, self.smoothed, self.health),
        )
