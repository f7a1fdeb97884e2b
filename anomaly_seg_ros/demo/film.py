"""What the demo shows: every overlay as a picture, and all of them as a film."""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.frames.video import plain_folder

FILM = 'demo.mp4'


class Film:
    """Writes each overlay as a picture and all of them, in order, as `demo.mp4`.

    OpenCV makes the film in a temporary folder with a plain name: other names end the process.

    Args:
        out: The folder.
        rate_hz: Frames per second.
    """

    def __init__(self, out: Path, rate_hz: float):
        self._out, self._rate_hz = out, rate_hz
        self._writer: Any = None
        self._size: tuple[int, int] | None = None
        self._folder = plain_folder('anomaly_seg_demo_')

    def add(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Takes the overlay of a frame, (H, W, 3) BGR.

        Raises:
            OSError: It cannot be written.
        """
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        write_image(self._out / f'overlay_{number:03d}.png', rgb)
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None:
            self._size = size
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._path), codec, self._rate_hz, size)
            if not self._writer.isOpened():
                raise OSError(f'cannot write {str(self._path)!r}')
        # Folders may mix sizes; a film has one.
        self._writer.write(picture if size == self._size else cv2.resize(picture, self._size))

    @property
    def _path(self) -> Path:
        return Path(self._folder.name, FILM)

    def close(self) -> None:
        """Finishes the film and puts it into its place."""
        if self._writer is not None:
            self._writer.release()
            shutil.move(self._path, self._out / FILM)
        self._folder.cleanup()
