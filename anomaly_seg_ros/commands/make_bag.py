"""A rosbag2 from a folder of images: `anomaly_seg make_bag`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import math
from pathlib import Path
import shutil

from tqdm import tqdm

from anomaly_seg_ros.bags.message import COMPRESSED, RAW
from anomaly_seg_ros.bags.reader import NAME_SUFFIX, TEXT
from anomaly_seg_ros.bags.writer import BagWriter, Stamp, STORAGES
from anomaly_seg_ros.frames.images import encode_image, find_images, printable, read_image
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.node import topics

START_NS = 1_700_000_000 * 10**9
"""Stamp of the first image; fixed, so that the same folder always gives the same bag."""
LATEST_S = 2**31
"""Seconds that a stamp of ROS cannot hold any more."""

FRAME_ID = 'camera'
FORMATS = {'jpeg': '.jpg', 'png': '.png'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg make_bag` takes."""
    parser.add_argument('images', type=Path, metavar='IMAGE_DIR', help='taken sorted by name')
    parser.add_argument('--out', type=Path, required=True, metavar='BAG', help='a new folder')
    parser.add_argument('--rate', type=float, default=10.0, metavar='HZ', help='default 10')
    parser.add_argument(
        '--topic', default='/image', help="image topic; '/compressed' is added where it is due"
    )
    parser.add_argument('--storage', default='mcap', choices=tuple(STORAGES))
    parser.add_argument('--compressed', choices=tuple(FORMATS), help='write compressed images')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg make_bag`."""
    if not args.images.is_dir():
        raise FileNotFoundError(f'no folder {str(args.images)!r}')
    paths = find_images([args.images])
    check_rate(args.rate, len(paths))
    topic = image_topic(args.topic, args.compressed)
    bits = write_bag(paths, args.out, args.rate, topic, args.storage, args.compressed)
    wide = f' (of 16 bits, {bits.bits} of them significant)' if bits.bits else ''
    print(f'{args.out}: {len(paths)} images{wide} on {topic}; play it: ros2 bag play {args.out}')
    return 0


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
    paths: Sequence[Path],
    out: Path,
    rate_hz: float,
    topic: str,
    storage: str = 'mcap',
    compressed: str | None = None,
) -> SignificantBits:
    """Writes the images, and beside each the name of its file as a text.

    Args:
        paths: Image files.
        out: Folder of the bag, which must not exist; removed again where an image is broken.
        rate_hz: Frames per second of the stamps.
        topic: For the images.
        storage: A key of `STORAGES`.
        compressed: A key of `FORMATS`, or None for raw images.

    Returns:
        What was found of 16-bit images; they become 8-bit ones.

    Raises:
        ValueError: The folder exists, or a file is no image.
    """
    name_topic = topics.uncompressed(topic) + NAME_SUFFIX
    writer, bits = BagWriter(out, storage), SignificantBits()
    try:
        with writer as bag:
            bag.add_topic(topic, COMPRESSED if compressed else RAW)
            bag.add_topic(name_topic, TEXT)
            for number, path in enumerate(tqdm(paths, unit='image', disable=None)):
                stamp = START_NS + round(number * 1e9 / rate_hz)
                at = Stamp(stamp, stamp, FRAME_ID)
                image = read_image(path, bits)
                if compressed:
                    data = encode_image(image, FORMATS[compressed])
                    bag.add_compressed(topic, at, data, f'rgb8; {compressed} compressed bgr8')
                else:
                    bag.add_image(topic, at, image, 'rgb8')
                bag.add_fields(name_topic, at, {'data': printable(path.name)})
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return bits
