"""How a frame is judged as a whole: what a graph pools of it, a method on top, a score of 0..1.

| method | of | value |
| --- | --- | --- |
| `dfkde` | means and deviations of a network's own maps | density, and what it lacks |
| `lake` | an autoencoder's latent vector and relative error, standardised | density |
| `reconstruction` | an autoencoder | mean squared error |
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import FrameShift

from .density import Density

Floats = NDArray[np.floating[Any]]

COMPONENTS = 16
"""Principal components of a density."""
RECONSTRUCTION_VALUES = 2
"""At the end of what is pooled of a network that gives its image again: mean squared error, and
relative distance."""
MARGIN = 1.5
"""How much further out than the worst of its ordinary frames a camera's threshold lies."""
PARTS = 10
"""Stretches of a camera's frames that are left out in turn, at most."""


class Method(Protocol):
    """A fitted method."""

    def raw(self, pooled: Floats) -> NDArray[np.float64]:
        """Gives (n,) of (n, F) pooled values: 0 or more, higher = more unusual."""
        ...

    def around(self, mean: Floats) -> Method:
        """Gives the same with (F,) pooled values as what is most usual."""
        ...

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What a checkpoint keeps of it."""
        ...


class DensityMethod:
    """A density over some of the pooled values."""

    def __init__(self, density: Density, latent: bool):
        self._density, self._latent = density, latent

    def raw(self, pooled: Floats) -> NDArray[np.float64]:
        """Gives (n,) energies.

        Raises:
            ValueError: Not as many values of a frame as it was fitted to.
        """
        values = latent_values(pooled) if self._latent else pooled
        fitted = self._density.mean.size
        if values.shape[1] != fitted:
            raise ValueError(
                f'whole frames were fitted to {fitted} values of each, this network gives '
                f'{values.shape[1]}; run fit_score for that method again'
            )
        return self._density.energy(values)

    def around(self, mean: Floats) -> Method:
        """Moves the density there."""
        centre = latent_values(mean[None])[0] if self._latent else mean
        return DensityMethod(replace(self._density, mean=centre), self._latent)

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Those of the density."""
        return self._density.arrays()


class ErrorMethod:
    """The mean squared error of an autoencoder."""

    arrays: ClassVar[dict[str, NDArray[np.float32]]] = {}

    def raw(self, pooled: Floats) -> NDArray[np.float64]:
        """Gives (n,) errors."""
        return pooled[:, -RECONSTRUCTION_VALUES].astype(np.float64)

    def around(self, mean: Floats) -> Method:
        """Gives itself: it knows no frame that is the most usual."""
        return self


def latent_values(pooled: Floats) -> Floats:
    """Gives the latent means and the relative distance of what is pooled of an autoencoder."""
    channels = (pooled.shape[1] - RECONSTRUCTION_VALUES) // 2
    return np.concatenate([pooled[:, :channels], pooled[:, -1:]], 1)


def fit_method(name: str, pooled: Floats) -> Method:
    """Fits a method to what is pooled of normal frames, (n, F).

    Raises:
        ValueError: Too few frames, or all the same.
    """
    if name == 'reconstruction':
        return ErrorMethod()
    latent = name == 'lake'
    values = latent_values(pooled) if latent else pooled
    density = Density.fit(values, COMPONENTS, standardise=latent, residual=not latent)
    return DensityMethod(density, latent)


class FrameJudge:
    """A checkpoint's method with its threshold.

    Args:
        method: Fitted.
        name: One of `METHODS`.
        threshold: Raw value that scores 0.5.
    """

    def __init__(self, method: Method, name: str, threshold: float):
        self.method, self.name, self.threshold = method, name, threshold

    def raw(self, pooled: Floats) -> NDArray[np.float64]:
        """Gives (n,) of (n, F) pooled values."""
        return self.method.raw(pooled)

    def score(self, pooled: Floats) -> float:
        """Gives the frame score of (F,) pooled values: 0..1, 0.5 at the threshold."""
        raw = float(self.raw(pooled.reshape(1, -1))[0])
        return raw / (raw + self.threshold) if np.isfinite(raw) else 1.0

    def of_camera(self, own: FrameShift) -> FrameJudge:
        """Gives the judge of a camera."""
        return FrameJudge(self.method.around(np.asarray(own.values)), self.name, own.threshold)


def frame_judge(checkpoint: Checkpoint) -> FrameJudge | None:
    """Gives the judge of a checkpoint, for the camera that its meta data is of; None without.

    Raises:
        FileNotFoundError: No weights file.
        ValueError: The weights file does not hold what the method needs.
    """
    fit, own = checkpoint.meta.frame, checkpoint.meta.frame_shift()
    if fit is None:
        return None
    method: Method = ErrorMethod()
    if fit.method != 'reconstruction':
        try:
            density = Density.from_arrays(checkpoint.frame_arrays())
        except ValueError as error:
            raise ValueError(
                f'checkpoint {str(checkpoint.folder)!r} does not hold frame method '
                f'{fit.method!r}: {error}; run fit_score --score {fit.method} again'
            ) from None
        method = DensityMethod(density, fit.method == 'lake')
    judge = FrameJudge(method, fit.method, fit.threshold)
    return judge if own is None else judge.of_camera(own)


def fit_camera(judge: FrameJudge, pooled: Floats, least: float, source: str) -> FrameShift:
    """Fits what a camera's ordinary frames look like as a whole.

    Their mean takes the place of the method's own, so that only what changes from frame to frame
    counts. The threshold stays, or is `MARGIN` times what the worst of them has beside the others.

    Args:
        judge: Of the checkpoint, any camera's.
        pooled: (n, F) of two ordinary frames or more.
        least: Threshold of the method.
        source: Where the frames came from.
    """
    alone = []
    for index in range(len(pooled)):
        others = judge.method.around(np.delete(pooled, index, 0).mean(0))
        alone.append(float(others.raw(pooled[index : index + 1])[0]))
    threshold = max(least, MARGIN * max(alone))
    values = tuple(float(np.float32(value)) for value in pooled.mean(0))
    return FrameShift(values, threshold, len(pooled), source)


def said_of_camera(judge: FrameJudge, fitted: FrameJudge, pooled: Floats) -> str:
    """Says how many of a camera's ordinary frames are out of domain, before and behind the fit.

    Behind it each stretch of neighbours is judged as the others make the camera known.

    Args:
        judge: Of the camera as it was.
        fitted: Of the checkpoint, any camera's, with the method's own threshold.
        pooled: (n, F) of three ordinary frames or more.
    """
    count, now = len(pooled), 0
    for part in np.array_split(np.arange(count), min(PARTS, count)):
        own = fit_camera(fitted, np.delete(pooled, part, 0), fitted.threshold, '')
        now += _alarms(fitted.of_camera(own), pooled[part])
    return (
        f'whole frames out of domain: {_alarms(judge, pooled)} of {count} before, '
        f'{now} once the others are known'
    )


def _alarms(judge: FrameJudge, pooled: Floats) -> int:
    return int(np.count_nonzero(judge.raw(pooled) >= judge.threshold))
