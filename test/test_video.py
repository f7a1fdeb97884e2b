"""A video file in place of a folder of images: its frames, their times and colours."""

from collections.abc import Callable, Iterator
import logging
from pathlib import Path
import re
import subprocess
import sys

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.bags.reader import read_images
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands.adapt import open_frames as ordinary_frames
from anomaly_seg_ros.commands.make_bag import START_NS
from anomaly_seg_ros.demo.frame_source import open_frames
from anomaly_seg_ros.frames import video
from anomaly_seg_ros.frames.video import Video, video_begins, VideoFrame

SIZE = (48, 64)
FOURCC = {'.avi': 'MJPG', '.mp4': 'mp4v', '.mkv': 'MJPG', '.ts': 'mp4v', '.mov': 'mp4v'}


def shade(number: int) -> tuple[int, int, int]:
    """The RGB of a frame: red grows, blue falls."""
    return 20 + 6 * number, 90, 230 - 6 * number


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video of plain frames, as `shade` colours them, by OpenCV's own writer."""

    def write(name: str = 'drive.avi', frames: int = 30, rate_hz: float = 25.0) -> Path:
        path = tmp_path / name
        codec = cv2.VideoWriter.fourcc(*FOURCC[path.suffix])
        writer = cv2.VideoWriter(str(path), codec, rate_hz, SIZE[::-1])
        assert writer.isOpened()
        for number in range(frames):
            writer.write(np.full((*SIZE, 3), shade(number)[::-1], np.uint8))
        writer.release()
        return path

    return write


def is_shade(image: NDArray[np.uint8], number: int) -> bool:
    return image.shape == (*SIZE, 3) and bool((np.abs(image - np.array(shade(number))) < 6).all())


@pytest.mark.parametrize('suffix', FOURCC)
def test_frames_come_in_order_with_their_times_and_colours(
    suffix: str, film: Callable[..., Path]
) -> None:
    path = film(f'drive{suffix}')
    assert video_begins(path)
    frames = list(Video(path).frames())
    assert len(frames) == 30
    assert all(is_shade(frame.image, number) for number, frame in enumerate(frames))
    times = np.array([frame.time_s for frame in frames])
    np.testing.assert_allclose(times - times[0], np.arange(30) / 25, atol=1e-3)


def test_it_says_what_it_promises_and_gives_each_nth(film: Callable[..., Path]) -> None:
    found = Video(film(frames=10))
    assert (found.count, found.rate_hz) == (10, 25.0)
    frames = list(found.frames(step=4))
    assert [is_shade(frame.image, n) for frame, n in zip(frames, (0, 4, 8), strict=True)] == [
        True
    ] * 3


def test_a_cut_video_gives_what_there_is_and_says_so(
    film: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = film()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        frames = list(Video(path).frames())
    assert 0 < len(frames) < 30
    assert f'ends after {len(frames)} of 30 frames' in caplog.text


def test_a_whole_video_says_nothing(
    film: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(list(Video(film()).frames())) == 30
    assert not caplog.text


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'\0\0\0\x18ftypisom' + bytes(300), 'as a video; is it cut short?'),
        (b'#EXTM3U\n#EXTINF:1,\n/etc/passwd\n', 'is no video of a kind that is known here'),
        (b'\0\0\0\x18ftypheic' + bytes(300), 'is no video of a kind that is known here'),
        (b'', 'is no video of a kind that is known here'),
    ],
)
def test_what_is_no_video_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / 'drive.mp4'
    path.write_bytes(content)
    argv = [sys.executable, '-c', f'from {video.__name__} import *; Video(Path({str(path)!r}))']
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    # What OpenCV and FFmpeg say by themselves would come before it.
    assert done.stderr.startswith('Traceback')
    assert words in done.stderr.splitlines()[-1]


def test_a_video_that_is_not_there(tmp_path: Path) -> None:
    assert not video_begins(tmp_path / 'no.mp4')
    assert not video_begins(tmp_path)
    with pytest.raises(FileNotFoundError, match='no image file'):
        Video(tmp_path / 'no.mp4')


def test_no_larger_than_an_image(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, 'MOST_PIXELS', 64 * 48 - 1)
    with pytest.raises(ValueError, match=r"drive\.avi' is 64x48, more than 0 million pixels"):
        Video(film())


def test_an_opencv_that_cannot_be_silent(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2.utils, 'logging')
    assert len(list(Video(film()).frames())) == 30


def test_a_name_that_opencv_cannot_take(film: Callable[..., Path], tmp_path: Path) -> None:
    path = film().rename(tmp_path / 'straße %03d.avi')
    code = f'from {video.__name__} import *; print(len(list(Video(Path({str(path)!r})).frames())))'
    done = subprocess.run(
        [sys.executable, '-X', 'utf8', '-c', code],
        capture_output=True,
        text=True,
        check=True,
        env={'LC_ALL': 'C', 'PATH': '/usr/bin', 'PYTHONPATH': ':'.join(sys.path)},
    )
    assert done.stdout == '30\n'


def test_nothing_is_left_in_the_temporary_folder(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, temporary = film(), tmp_path / 'tmp'
    temporary.mkdir()
    monkeypatch.setattr(video.tempfile, 'tempdir', str(temporary))
    frames = Video(path).frames()
    next(frames)
    assert len(list(temporary.iterdir())) == 1
    frames.close()
    assert not list(temporary.iterdir())


def test_make_bag_keeps_the_times_of_a_video(
    film: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = film('drive.avi', frames=5), tmp_path / 'bag'
    assert main(['make_bag', str(path), '--out', str(out)]) == 0
    assert '5 images on /image' in capsys.readouterr().out
    images = list(read_images(out))
    stamps = [(stamp - START_NS) / 1e9 for stamp, _ in images]
    np.testing.assert_allclose(stamps, np.arange(5) / 25, atol=1e-3)
    assert all(is_shade(image, number) for number, (_, image) in enumerate(images))


def test_make_bag_gives_a_video_another_rate(film: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / 'bag'
    assert main(['make_bag', str(film(frames=3)), '--rate', '2', '--out', str(out)]) == 0
    stamps = [(stamp - START_NS) / 1e9 for stamp, _ in read_images(out)]
    assert stamps == [0.0, 0.5, 1.0]


def test_make_bag_refuses_times_that_no_stamp_holds(
    film: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def frames(self: Video, step: int = 1) -> Iterator[VideoFrame]:
        yield VideoFrame(1e12, np.zeros((*SIZE, 3), np.uint8))

    monkeypatch.setattr(Video, 'frames', frames)
    assert main(['make_bag', str(film()), '--out', str(tmp_path / 'bag')]) == 2
    assert "'drive_00001.png' comes 1e+12 s after the first image" in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize('rate', ['0', '-1', '1e-12'])
def test_make_bag_refuses_a_rate_that_cannot_be(
    rate: str, film: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['make_bag', str(film()), '--rate', rate, '--out', str(tmp_path / 'bag')]) == 2
    assert 'it must lie above 0' in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_the_demo_shows_a_video(film: Callable[..., Path]) -> None:
    images = list(open_frames(str(film()), 4))
    assert [is_shade(image, number) for number, image in enumerate(images)] == [True] * 4


def test_adapt_takes_evenly_spaced_frames_of_a_video(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('anomaly_seg_ros.commands.adapt.MOST', 12)
    total, frames = ordinary_frames(film(), None)
    found = list(frames)
    assert total == len(found) == 10
    assert [frame.name for frame in found[:2]] == ['at 0.00 s', 'at 0.12 s']
    assert found[1].frame is not None
    assert is_shade(found[1].frame.rgb, 3)


def test_adapt_refuses_a_short_video(film: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=re.escape('holds 4 frames; a camera is known by 10')):
        ordinary_frames(film(frames=4), None)
