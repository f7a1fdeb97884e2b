"""What the demo shows: every overlay as a picture, and all of them as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


class Film:
    """Writes each overlay as a picture and all of them, in order, as `demo.mp4`.

    Args:
        out: The folder.
        rate_hz: Frames per second.
    """

    def __init__(self, out: Path, rate_hz: float):
        self._out, self._rate_hz = out, rate_hz
        self._writer: Any = None
        self._size: tuple[int, int] | None = None

    def add(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Takes the (H, W, 3) BGR overlay of a frame."""
        if not cv2.imwrite(str(self._out / f'overlay_{number:03d}.png'), picture):
            raise OSError(f'cannot write to {str(self._out)!r}')
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None:
            self._size = size
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            path = str(self._out / 'demo.mp4')
            self._writer = cv2.VideoWriter(path, codec, self._rate_hz, size)
            if not self._writer.isOpened():
                raise OSError(f'cannot write {path!r}')
        # Folders may mix sizes; a film has one.
        self._writer.write(picture if size == self._size else cv2.resize(picture, self._size))

    def close(self) -> None:
        """Finishes the film."""
        if self._writer is not None:
            self._writer.release()
