"""A sample of the scores of normal frames, and what is fitted to it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.calibrated import CalibratedOn
from anomaly_seg_ros.provenance import code_version

from .promise import left_out_shares, share_above, stretches, sure_share, SureShare

PIXELS_PER_FRAME = 20_000
MOST_PIXELS = 10_000_000
ODD_SHARE = 0.03
"""Below it no frame is odd: so little of it hardly moves a threshold."""


@dataclass(frozen=True)
class NormalFit:
    """What normal frames give.

    Attributes:
        calibration: Of all of them.
        promise: Share of pixels at or above the threshold on frames that were left out in turn.
        scenes: Scene to that share; of frames without a scene nothing is said.
        frames: How many frames it is fitted to.
    """

    calibration: Calibration
    promise: SureShare
    scenes: dict[str, float]
    frames: int


class NormalScores:
    """Takes a fixed random share of each frame's pixels, so that memory stays bounded.

    Args:
        frames: How many frames will come, at most.
    """

    def __init__(self, frames: int):
        self._pixels = min(PIXELS_PER_FRAME, MOST_PIXELS // max(frames, 1))
        self._random = np.random.default_rng(0)
        self._samples: list[NDArray[np.float32]] = []
        self._scenes: list[str] = []

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, score: NDArray[np.floating], scene: str = '') -> None:
        """Takes the scores of a frame's normal pixels, of any shape.

        Args:
            score: Raw scores.
            scene: Name of the camera, drive or town; frames of one are alike.
        """
        count = min(self._pixels, score.size)
        chosen = self._random.choice(score.ravel(), count, replace=False, shuffle=False)
        self._samples.append(chosen.astype(np.float32, copy=False))
        self._scenes.append(scene)

    def fit(self, rate: float, without: Collection[int] = ()) -> NormalFit:
        """Fits calibration and promise.

        Args:
            rate: Share of normal pixels that may lie at or above the threshold.
            without: Numbers of frames to leave alone.

        Raises:
            ValueError: No score at all, or some are not finite.
        """
        used = self._counting(without)
        samples = [self._samples[index] for index in used]
        scenes = [self._scenes[index] for index in used]
        calibration = Calibration.fit(np.concatenate(samples or [np.empty(0, np.float32)]))
        parts = stretches(scenes)
        shares = left_out_shares(samples, parts, rate)
        named = {
            name: float(np.mean([s for s, own in zip(shares, scenes, strict=True) if own == name]))
            for name in dict.fromkeys(scenes)
            if name
        }
        return NormalFit(calibration, sure_share(shares, parts), named, len(used))

    def _counting(self, without: Collection[int]) -> list[int]:
        """Gives the numbers of the frames that count: those with normal pixels."""
        return [i for i, sample in enumerate(self._samples) if i not in without and sample.size]

    def promise_of(
        self, calibration: Calibration, threshold: float, without: Collection[int] = ()
    ) -> SureShare:
        """Gives what a calibration from elsewhere does on these frames; arguments as of `fit`."""
        used = self._counting(without)
        raw = calibration.raw(threshold)
        shares = [share_above(self._samples[index], raw) for index in used]
        return sure_share(shares, stretches([self._scenes[index] for index in used]))

    def odd(self, rate: float, without: Collection[int] = ()) -> dict[int, float]:
        """Gives the frames that score unlike the others: number to share above their threshold.

        Such a frame has five times the promised share or more, and lies three times as far above
        the middle of the frames as their upper quarter, on a logarithmic axis: where all frames
        differ much, none is odd for it. It is asked again without those found, because they lift
        the threshold that they are held against.
        """
        used = self._counting(without)
        found: dict[int, float] = {}
        for _ in range(3):
            kept = [index for index in used if index not in found]
            scores = np.concatenate([self._samples[index] for index in kept])
            threshold = float(np.quantile(scores, 1 - rate))
            shares = {index: share_above(self._samples[index], threshold) for index in used}
            logs = np.log([shares[index] + rate / 2 for index in kept])
            middle, upper = np.quantile(logs, (0.5, 0.75))
            limit = max(5 * rate, ODD_SHARE, float(np.exp(middle + 3 * (upper - middle))))
            now = {index: share for index, share in shares.items() if share > limit}
            if now.keys() == found.keys():
                return now
            found = now
        return found


def calibrated_on(fit: NormalFit, dataset: str, split: str) -> CalibratedOn:
    """Gives what a checkpoint keeps of a fit beside the calibration.

    Args:
        fit: From these frames.
        dataset: Data set, folder or bag.
        split: Of it.
    """
    promise = fit.promise
    return CalibratedOn(
        dataset,
        split,
        fit.frames,
        code_version(),
        share=round(promise.share, 6),
        interval=(round(promise.low, 6), round(promise.high, 6)),
        scenes={scene: round(share, 6) for scene, share in fit.scenes.items()},
    )
