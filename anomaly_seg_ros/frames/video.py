"""Reads a video file frame by frame, by the FFmpeg that comes with OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import os
from pathlib import Path
import tempfile
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .image_bytes import FRAMES_BY_HAND, is_video, MOST_PIXELS, VIDEO_HEAD
from .images import checked_file

_logger = logging.getLogger(__name__)

CUT_SHARE = 0.95
"""Share of the frames which a file promises that may come without a word."""

# FFmpeg says on stderr what is wrong with a file; OpenCV reads this before its first file.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        time_s: Since the video's beginning, never before the frame's before.
        image: (H, W, 3) RGB uint8, turned as players turn it.
    """

    time_s: float
    image: NDArray[np.uint8]


class Video:
    """A video file; its frames come once, in order.

    Args:
        path: MP4, MOV, AVI, MKV, WebM or an MPEG stream.

    Attributes:
        count: Frames that it promises; 0 where it does not say.
        rate_hz: Frames per second that it promises; 0 where it does not say.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or is larger than an image may be.
    """

    def __init__(self, path: Path):
        self._name = str(path)
        checked_file(path)
        # A list of other files, which FFmpeg would open too, begins otherwise.
        if not video_begins(path):
            raise ValueError(
                f'{self._name!r} is no video of a kind that is known here; {FRAMES_BY_HAND}'
            )
        if cv2.CAP_FFMPEG not in cv2.videoio_registry.getStreamBackends():
            raise ValueError(f'OpenCV cannot read videos here: it has no FFmpeg; {FRAMES_BY_HAND}')
        self._link = plain_folder('anomaly_seg_video_')
        link = Path(self._link.name, 'video')
        link.symlink_to(path.resolve())
        with _silent_opencv():
            self._capture = cv2.VideoCapture(str(link), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            self.close()
            raise ValueError(f'cannot read {self._name!r} as a video; is it cut short?')
        height, width = (
            int(self._capture.get(side))
            for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        )
        if height * width > MOST_PIXELS:
            self.close()
            raise ValueError(
                f'{self._name!r} is {width}x{height}, more than {MOST_PIXELS >> 20} million pixels'
            )
        self.count = round(_promised(self._capture, cv2.CAP_PROP_FRAME_COUNT))
        self.rate_hz = _promised(self._capture, cv2.CAP_PROP_FPS)

    def frames(self, step: int = 1) -> Iterator[VideoFrame]:
        """Gives its frames, or each `step`-th of them, and closes it; says where some are missing.

        Raises:
            ValueError: Not one can be read.
        """
        number, time_s = 0, 0.0
        try:
            while self._capture.grab():
                told_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
                time_s = max(time_s, told_s)
                if number % step == 0:
                    read, image = self._capture.retrieve()
                    if not read:
                        break
                    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                    yield VideoFrame(time_s, rgb.astype(np.uint8, copy=False))
                number += 1
        finally:
            self.close()
        if not number:
            raise ValueError(f'no frame of {self._name!r} can be read; is it cut short?')
        if number < CUT_SHARE * self.count:
            _logger.warning(
                '%r ends after %d of %d frames; is it cut short?', self._name, number, self.count
            )

    def close(self) -> None:
        """Closes it; it may be closed already."""
        self._capture.release()
        self._link.cleanup()


def video_begins(path: Path) -> bool:
    """Whether a path is a file that begins as a video does."""
    if not path.is_file():
        return False
    with path.open('rb') as file:
        return is_video(file.read(VIDEO_HEAD))


def plain_folder(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Gives a temporary folder whose name OpenCV can take: others end the process."""
    return tempfile.TemporaryDirectory(
        prefix=prefix, dir=None if tempfile.gettempdir().isascii() else '/tmp'
    )


def _promised(capture: cv2.VideoCapture, what: int) -> float:
    """Gives a number that the file says of itself, 0 where it says none that can be."""
    value = capture.get(what)
    return value if np.isfinite(value) and value > 0 else 0.0


@contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keeps OpenCV's own words about a file that cannot be opened off the terminal."""
    log = getattr(cv2.utils, 'logging', None)
    if log is None:  # not every version that distributions have
        yield
        return
    before = log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(before)
