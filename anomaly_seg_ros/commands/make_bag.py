"""A rosbag2 from a folder of images or from a video: `anomaly_seg make_bag`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
import math
from pathlib import Path
import shutil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.bags.reader import NAME_SUFFIX
from anomaly_seg_ros.bags.writer import BagWriter, Stamp, STORAGES
from anomaly_seg_ros.frames.images import encode_image, find_images, printable, read_image
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.frames.video import Video, video_begins
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE, TEXT

START_NS = 1_700_000_000 * 10**9
"""Stamp of the first image; fixed, so that the same folder always gives the same bag."""
LATEST_S = 2**31
"""Seconds that a stamp of ROS cannot hold any more."""

FRAME_ID = 'camera'
FORMATS = {'jpeg': '.jpg', 'png': '.png'}
RATE_HZ = 10.0
"""Of the images of a folder, which have no times of their own."""


class BagPicture(NamedTuple):
    """An image that goes into a bag.

    Attributes:
        name: File name that results are called after.
        time_s: Since the first one.
        image: (H, W, 3) RGB uint8.
    """

    name: str
    time_s: float
    image: NDArray[np.uint8]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg make_bag` takes."""
    parser.add_argument(
        'images', type=Path, metavar='IMAGE_DIR|VIDEO', help='images are taken sorted by name'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='BAG', help='a new folder')
    parser.add_argument(
        '--rate',
        type=float,
        metavar='HZ',
        help=f"default: {RATE_HZ:g} for images, a video's own times",
    )
    parser.add_argument(
        '--topic', default='/image', help="image topic; '/compressed' is added where it is due"
    )
    parser.add_argument('--storage', default='mcap', choices=tuple(STORAGES))
    parser.add_argument('--compressed', choices=tuple(FORMATS), help='write compressed images')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg make_bag`."""
    bits = SignificantBits()
    topic = image_topic(args.topic, args.compressed)
    count, pictures = open_pictures(args.images, args.rate, bits)
    shown = tqdm(pictures, total=count or None, unit='image', disable=None)
    written = write_bag(shown, args.out, topic, args.storage, args.compressed)
    wide = f' (of 16 bits, {bits.bits} of them significant)' if bits.bits else ''
    print(f'{args.out}: {written} images{wide} on {topic}; play it: ros2 bag play {args.out}')
    return 0


def open_pictures(
    source: Path, rate_hz: float | None, bits: SignificantBits
) -> tuple[int, Iterator[BagPicture]]:
    """Gives how many images a folder or a video promises, and the images.

    Args:
        source: The folder or the video file.
        rate_hz: Images per second; None: see `RATE_HZ`, and a video's own times.
        bits: Learns what 16-bit images hold; they become 8-bit ones.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        ValueError: The rate cannot be, or the video cannot be read.
    """
    if video_begins(source):
        video = Video(source)
        check_rate(video.rate_hz or RATE_HZ if rate_hz is None else rate_hz, video.count)
        return video.count, of_video(video, printable(source.stem), rate_hz)
    if not source.is_dir():
        raise FileNotFoundError(f'no folder or video {str(source)!r}')
    paths = find_images([source])
    rate_hz = RATE_HZ if rate_hz is None else rate_hz
    check_rate(rate_hz, len(paths))
    return len(paths), of_files(paths, rate_hz, bits)


def of_files(
    paths: Sequence[Path], rate_hz: float = RATE_HZ, bits: SignificantBits | None = None
) -> Iterator[BagPicture]:
    """Reads image files, so many a second."""
    for number, path in enumerate(paths):
        yield BagPicture(printable(path.name), number / rate_hz, read_image(path, bits))


def of_video(video: Video, stem: str, rate_hz: float | None) -> Iterator[BagPicture]:
    """Gives the frames of a video, counted from 1 as ffmpeg does, at their own times or a rate."""
    for number, frame in enumerate(video.frames()):
        time_s = frame.time_s if rate_hz is None else number / rate_hz
        yield BagPicture(f'{stem}_{number + 1:05d}.png', time_s, frame.image)


def check_rate(rate_hz: float, images: int) -> None:
    """Checks that so many images have stamps of their own, and that the last one's can be written.

    Raises:
        ValueError: They have not.
    """
    latest_s = START_NS / 1e9 + images / rate_hz if rate_hz > 0 else math.inf
    if not (rate_hz <= 1e9 and latest_s < LATEST_S):
        raise ValueError(
            f'rate is {rate_hz:g}; it must lie above 0 and not above 1e9, and {images} images may '
            f'not last until a stamp of {LATEST_S} s'
        )


def image_topic(name: str, compressed: str | None) -> str:
    """Gives the absolute topic; a compressed one ends as `image_transport` wants it.

    Raises:
        ValueError: ROS knows no such name.

    >>> image_topic('front/image', 'jpeg')
    '/front/image/compressed'
    """
    topic = '/' + name.strip('/')
    if not all(part.isidentifier() and part.isascii() for part in topic[1:].split('/')):
        raise ValueError(
            f'{name!r} is no topic; use letters, digits and _, parted by /, as in /front/image'
        )
    return topics.compressed(topic) if compressed else topic


def write_bag(
    pictures: Iterable[BagPicture],
    out: Path,
    topic: str,
    storage: str = 'mcap',
    compressed: str | None = None,
) -> int:
    """Writes the images, and beside each the name of its file as a text; gives how many.

    Args:
        pictures: The images.
        out: Folder of the bag, which must not exist; removed again where an image is broken.
        topic: For the images.
        storage: A key of `STORAGES`.
        compressed: A key of `FORMATS`, or None for raw images.

    Raises:
        ValueError: The folder exists, or a file is no image.
    """
    name_topic = topics.uncompressed(topic) + NAME_SUFFIX
    writer, written = BagWriter(out, storage), 0
    try:
        with writer as bag:
            bag.add_topic(topic, COMPRESSED_IMAGE if compressed else IMAGE)
            bag.add_topic(name_topic, TEXT)
            for picture in pictures:
                stamp = START_NS + round(picture.time_s * 1e9)
                if stamp >= LATEST_S * 10**9:
                    raise ValueError(
                        f'{picture.name!r} comes {picture.time_s:g} s after the first image; give '
                        'the images times of their own by --rate'
                    )
                at = Stamp(stamp, stamp, FRAME_ID)
                if compressed:
                    data = encode_image(picture.image, FORMATS[compressed])
                    bag.add_compressed(topic, at, data, f'rgb8; {compressed} compressed bgr8')
                else:
                    bag.add_image(topic, at, picture.image, 'rgb8')
                bag.add_fields(name_topic, at, {'data': picture.name})
                written += 1
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return written
