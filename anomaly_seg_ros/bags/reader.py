"""Reads camera images from a rosbag2, with the pure-Python `rosbags`; needs no ROS."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.serde import SerdeError
from rosbags.typesys import get_typestore, Stores

from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.image_message import compressed_to_frame, to_frame
from anomaly_seg_ros.frames.significant_bits import SignificantBits
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE, TEXT

from .fields import add_vision_msgs
from .message import BagMessage, Channel, Storage, types_of
from .storage import find_bag_files, open_storage, unpack_message

logger = logging.getLogger(__name__)

NAME_SUFFIX = '/name'
"""Behind an image topic: texts with the source file of each image, at the same log time."""

# These three are the same in every distribution, so what the bag says of them is not needed.
TYPESTORE = get_typestore(Stores.ROS2_HUMBLE)
add_vision_msgs(TYPESTORE)


@dataclass(frozen=True)
class BagImage:
    """One message of an image topic.

    Attributes:
        number: Place among the messages of the topic, from 0; broken ones count.
        log_time: When it was recorded, nanoseconds.
        message: As `sensor_msgs` defines it; None where it cannot be read.
        problem: Why it cannot be read; '' if it can.
        bits: What is known of the topic's 16-bit images.
    """

    number: int
    log_time: int
    message: Any
    problem: str = ''
    bits: SignificantBits = field(default_factory=SignificantBits)

    @property
    def stamp(self) -> int | None:
        """Header stamp in nanoseconds; None where the message cannot be read."""
        if self.message is None:
            return None
        stamp = self.message.header.stamp
        return int(stamp.sec) * 10**9 + int(stamp.nanosec)

    @property
    def frame_id(self) -> str:
        """Of the header; '' where the message cannot be read."""
        return '' if self.message is None else str(self.message.header.frame_id)

    def frame(self) -> CameraFrame:
        """Gives the image with its way to RGB.

        Raises:
            ValueError: The message is broken, or of an encoding that we do not know.
        """
        if self.message is None:
            raise ValueError(self.problem)
        if self.message.__msgtype__ == COMPRESSED_IMAGE:
            return compressed_to_frame(self.message, self.bits)
        return to_frame(self.message, self.bits)


class BagReader:
    """A bag: a folder, with or without `metadata.yaml`, or a single `.mcap` or `.db3` file.

    Damaged files give what can be read of them; `problems()` then says what is lost.

    Args:
        path: The bag.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is no bag, or nothing in it can be read.
    """

    def __init__(self, path: Path):
        self.path = path
        found = find_bag_files(path)
        self._announced = found.announced
        self._problems = list(found.problems)
        self._storages: list[tuple[str, Storage]] = []
        for file in found.files:
            self._open(file)
        if not self._storages:
            raise ValueError('; '.join(self._problems))

    def _open(self, file: Path) -> None:
        try:
            self._storages.append((file.name, open_storage(file)))
        except ValueError as error:
            self._problems.append(str(error))
        log = file.with_name(f'{file.name}-wal')
        if log.is_file() and log.stat().st_size:
            self._problems.append(
                f'{log.name} holds messages that are not in the bag yet; put them there: '
                f"sqlite3 {file} 'PRAGMA wal_checkpoint(TRUNCATE)'"
            )

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all files."""
        for _, storage in self._storages:
            storage.close()

    @property
    def topics(self) -> dict[str, str]:
        """Topic to message type; of several types on one topic that of images."""
        return types_of(
            Channel(name, kind) for _, file in self._storages for name, kind in file.topics.items()
        )

    def count(self, topic: str) -> int | None:
        """Gives the number of messages of a topic that can be read, None if it is not known."""
        total = 0
        for _, storage in self._storages:
            if topic in storage.topics:
                if topic not in storage.counts:
                    return None
                total += storage.counts[topic]
        return total

    def announced(self, topic: str) -> int | None:
        """Gives the number of messages that `metadata.yaml` speaks of, None if it does not."""
        return self._announced.get(topic)

    def problems(self) -> list[str]:
        """Gives what of the recording is lost and why, as far as reading has shown."""
        return self._problems + [
            f'{name}: {storage.problem}' for name, storage in self._storages if storage.problem
        ]

    def messages(self, wanted: Collection[str]) -> Iterator[BagMessage]:
        """Gives all messages of these topics, file by file, by log time within a file.

        Raises:
            ValueError: A message that is packed alone is damaged or too large.
        """
        for message in self._as_recorded(wanted):
            yield message._replace(data=unpack_message(message.data))

    def _as_recorded(self, wanted: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages, packed where the recorder has packed each alone."""
        for _, storage in self._storages:
            yield from storage.messages(wanted)

    def images(self, topic: str, significant_bits: int = 0) -> Iterator[BagImage]:
        """Gives every message of an image topic once, broken ones and other types too.

        Args:
            topic: Of the images.
            significant_bits: What the camera uses of 16-bit images; 0 finds it.
        """
        bits = SignificantBits(significant_bits)
        for number, message in enumerate(self._as_recorded([topic])):
            yield _image(number, message, bits)

    def image_names(self, topic: str) -> dict[int, str]:
        """Gives log time to source file for the images of a bag that `make_bag` has written."""
        name_topic = topics.uncompressed(topic) + NAME_SUFFIX
        if self.topics.get(name_topic) != TEXT:
            return {}
        names: dict[int, str] = {}
        for message in self._as_recorded([name_topic]):
            with suppress(SerdeError, ValueError):
                text: Any = TYPESTORE.deserialize_cdr(unpack_message(message.data), TEXT)
                names[message.log_time] = str(text.data)
        return names


def _image(number: int, recorded: BagMessage, bits: SignificantBits) -> BagImage:
    try:
        if recorded.kind not in (IMAGE, COMPRESSED_IMAGE):
            raise ValueError(f'a message of the type {recorded.kind!r} is no image')
        message = TYPESTORE.deserialize_cdr(unpack_message(recorded.data), recorded.kind)
        return BagImage(number, recorded.log_time, message, bits=bits)
    except (SerdeError, ValueError) as error:
        return BagImage(number, recorded.log_time, None, str(error))


def read_images(bag: Path, topic: str | None = None) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Gives (header stamp in nanoseconds, (H, W, 3) RGB image) of every message, in bag order.

    Args:
        bag: A rosbag2 (sqlite3 or mcap), whole or cut.
        topic: Raw or compressed image topic; None for the only one in the bag.

    Raises:
        FileNotFoundError: There is no such bag.
        ValueError: The bag or a message is broken, or it has no or several image topics, or not
            this one.
    """
    with BagReader(bag) as reader:
        for image in reader.images(choose_topic(reader.topics, topic, bag)):
            frame = image.frame()
            assert image.stamp is not None
            yield image.stamp, frame.rgb
        warn_of_problems(reader)


def warn_of_problems(reader: BagReader) -> None:
    """Says what of a bag is lost, as far as reading has shown."""
    if problems := reader.problems():
        logger.warning('the bag is not whole: %s', '; '.join(problems))


def choose_topic(kinds: Mapping[str, str], asked: str | None, bag: Path) -> str:
    """Gives the image topic to read.

    Args:
        kinds: Topic to message type.
        asked: What the user wants, or None.
        bag: For the error text.

    Raises:
        ValueError: `asked` is no image topic of the bag, or the choice is not clear.
    """
    images = sorted(name for name, kind in kinds.items() if kind in (IMAGE, COMPRESSED_IMAGE))
    if asked is None and len(images) == 1:
        return images[0]
    if asked in images:
        return str(asked)
    what = 'has no image topic' if not images else f'has the image topics {", ".join(images)}'
    way_out = f'{asked!r} is not among them' if asked else 'choose one with --topic'
    raise ValueError(f'bag {str(bag)!r} {what}' + (f'; {way_out}' if images else ''))
