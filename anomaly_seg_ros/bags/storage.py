"""Finds the files of a rosbag2 and opens each, damaged or not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
import logging
from pathlib import Path, PurePath
import re
import shutil
import tempfile
from typing import NamedTuple

from anomaly_seg_ros.bags import packing
from anomaly_seg_ros.frames.image_bytes import is_video, VIDEO_HEAD
from anomaly_seg_ros.process.yaml_text import parse_yaml

from .mcap_file import McapFile
from .mcap_records import MAGIC as MCAP_MAGIC
from .mcap_scan import McapScan
from .message import BagMessage, Storage
from .sqlite_file import SqliteFile
from .sqlite_rows import MAGIC as SQLITE_MAGIC
from .sqlite_scan import SqliteScan

METADATA = 'metadata.yaml'
SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
_PACKED = '.zstd'
_logger = logging.getLogger(__name__)

_ROS1_MAGIC = b'#ROSBAG V'


class BagFiles(NamedTuple):
    """What a bag consists of.

    Attributes:
        files: In the order of the recording.
        announced: Topic to number of messages that `metadata.yaml` speaks of.
        problems: What is wrong with the folder.
    """

    files: list[Path]
    announced: dict[str, int]
    problems: list[str]


def find_bag_files(path: Path) -> BagFiles:
    """Lists the files of a bag: of its folder, with or without `metadata.yaml`, or of one file.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is no bag.
    """
    if path.is_file():
        return BagFiles([path], {}, [])
    if not path.is_dir():
        raise FileNotFoundError(f'no bag {str(path)!r}; give a rosbag2 folder or file')
    here = _without_copies(p for p in path.iterdir() if _is_bag_file(p))
    if not here:
        raise ValueError(f'{str(path)!r} is no rosbag2 folder: it holds no .mcap and no .db3 file')
    metadata = path / METADATA
    if not metadata.is_file():
        why = f'there is no {METADATA}; was the recorder killed?'
        return BagFiles(sorted(here, key=_split_number), {}, [why])
    try:
        names, announced = _read_metadata(metadata)
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError):
        why = f'{METADATA} is damaged; the files are read without it'
        return BagFiles(sorted(here, key=_split_number), {}, [why])
    files = {name: _file_or_copy(path / name) for name in names}
    found = _without_copies(file for file in files.values() if file is not None)
    missing = [name for name, file in files.items() if file is None]
    problems = [f'{METADATA} names files that are not there: {", ".join(missing)}']
    return BagFiles(found, announced, problems if missing else [])


def is_bag(path: Path) -> bool:
    """Whether a path looks like a rosbag2: one of its files, or a folder that holds one."""
    if path.is_dir():
        return any(_is_bag_file(p) for p in path.iterdir())
    return path.is_file() and path.name.endswith(SUFFIXES)


def _is_bag_file(path: Path) -> bool:
    """Whether a file in a folder is one of a bag; hidden ones, as '._NAME', are no data."""
    return path.is_file() and path.name.endswith(SUFFIXES) and not path.name.startswith('.')


def _without_copies(files: Iterable[Path]) -> list[Path]:
    """Leaves out a packed file whose unpacked form is there as well, as `zstd -k` leaves it."""
    names = dict.fromkeys(files)
    return [f for f in names if f.suffix != _PACKED or f.with_suffix('') not in names]


def _file_or_copy(file: Path) -> Path | None:
    """Gives a file that `metadata.yaml` names, or what packing or unpacking it has made of it."""
    name = file.name
    other = name.removesuffix(_PACKED) if name.endswith(_PACKED) else name + _PACKED
    return next((f for f in (file, file.with_name(other)) if f.is_file()), None)


def _split_number(path: Path) -> tuple[int, str]:
    """Sorts `bag_10.mcap` behind `bag_9.mcap`."""
    number = re.search(r'_(\d+)$', path.name.split('.')[0])
    return int(number[1]) if number else -1, path.name


def _read_metadata(path: Path) -> tuple[list[str], dict[str, int]]:
    """Gives the names of the files, and topic to number of messages."""
    content = parse_yaml(path.read_text(encoding='utf-8'), METADATA)
    values = content['rosbag2_bagfile_information']
    # Up to version 3 the names start with the folder of the recording.
    names = [PurePath(name).name for name in values['relative_file_paths']]
    if not names:
        raise ValueError('no files')
    counts: dict[str, int] = {}
    for topic in values['topics_with_message_count']:
        name = topic['topic_metadata']['name']
        counts[name] = counts.get(name, 0) + int(topic['message_count'])
    return names, counts


def open_storage(path: Path) -> Storage:
    """Opens one file of a bag; a damaged one by a scan that finds what there is.

    Raises:
        ValueError: It is no file of a bag, or nothing in it can be read.
    """
    if path.name.endswith(_PACKED):
        return PackedFile(path)
    with path.open('rb') as file:
        start = file.read(VIDEO_HEAD)
    if is_video(start):
        raise ValueError(
            f'{str(path)!r} is a video; make a bag of it: anomaly_seg make_bag {path} --out BAG'
        )
    if start.startswith(_ROS1_MAGIC):
        raise ValueError(
            f'{str(path)!r} is a ROS 1 bag; make a rosbag2 of it: '
            f'rosbags-convert --src {path} --dst {path.with_suffix("")}'
        )
    if not start.startswith((MCAP_MAGIC, SQLITE_MAGIC)):
        what = 'no mcap or sqlite3 file' if start else 'empty'
        raise ValueError(f'{str(path)!r} is no file of a rosbag2: it is {what}')
    is_mcap = start.startswith(MCAP_MAGIC)
    try:
        return McapFile(path) if is_mcap else SqliteFile(path)
    except Exception as error:  # noqa: BLE001 - damage surfaces in any step of the decoding
        _logger.info('%s is read without its index: %s', path, error)
    try:
        return McapScan(path) if is_mcap else SqliteScan(path)
    except ValueError as error:
        raise ValueError(f'nothing of {str(path)!r} can be read: {error}') from None


class PackedFile:
    """A file that the recorder packed as a whole (`--compression-mode file`).

    It is unpacked into a temporary folder, as far as it goes and at most to half of what is free
    there.

    Raises:
        ValueError: It is too large, or what is in it is no bag file.
    """

    def __init__(self, path: Path):
        self._folder = tempfile.TemporaryDirectory(prefix='anomaly_seg_bag_')
        unpacked = Path(self._folder.name, path.name.removesuffix(_PACKED))
        try:
            self._cut = _unpack_file(path, unpacked)
            self._file = open_storage(unpacked)
        except ValueError:
            self._folder.cleanup()
            raise
        self.topics, self.counts = self._file.topics, self._file.counts

    @property
    def problem(self) -> str:
        """What of the recording is lost and why; '' if nothing is."""
        return '; '.join(filter(None, (self._cut, self._file.problem)))

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages of these topics."""
        return self._file.messages(topics)

    def close(self) -> None:
        """Closes and removes the unpacked file."""
        self._file.close()
        self._folder.cleanup()


def _unpack_file(path: Path, unpacked: Path) -> str:
    """Unpacks a file; gives why it stopped before the end, '' if it did not.

    Raises:
        ValueError: It takes more than half of what is free.
    """
    most = shutil.disk_usage(unpacked.parent).free // 2
    try:
        return packing.unpack_file(path, unpacked, most)
    except packing.TooLargeError as error:
        raise ValueError(
            f'{str(path)!r} {error}, half of what is free in {str(unpacked.parent.parent)!r}; '
            f'unpack it where there is room: zstd -d {path}'
        ) from None


def unpack_message(data: bytes) -> bytes:
    """Unpacks a message that the recorder packed alone (`--compression-mode message`).

    CDR starts with a zero, so the two cannot be confused.

    Raises:
        ValueError: It is damaged, or larger than `packing.MOST_BYTES`.
    """
    if not data.startswith(packing.ZSTD_MAGIC):
        return data
    try:
        unpacked = packing.unpack(data, 'zstd')
    except ValueError as error:
        raise ValueError(f'the packed message: {error}') from None
    if not unpacked.whole:
        raise ValueError(f'the packed message of {len(data)} bytes is cut short')
    return unpacked.data
