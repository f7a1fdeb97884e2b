"""Writes images and texts into a rosbag2, with the pure-Python `rosbags`; needs no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
import sqlite3
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE
from anomaly_seg_ros.process.path_errors import system_errors

from .fields import filled
from .mcap_writer import WholeWriter
from .reader import TYPESTORE

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}

# Version 9 spells QoS in a way that Humble cannot read; Jazzy and Kilted read both.
_VERSION: Literal[8] = 8

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]

_FOREVER = QosTime(9223372036, 854775807)
_WRITTEN_ELSEWHERE = frozenset('#?%')
"""What `rosbags` hands to SQLite as it is, as part of an address."""
_PIXEL_BYTES = {'mono8': 1, 'rgb8': 3, 'bgr8': 3, '32FC1': 4}


def _qos(durability: QosDurability) -> list[Qos]:
    return [
        Qos(
            history=QosHistory.KEEP_LAST,
            depth=1,
            reliability=QosReliability.RELIABLE,
            durability=durability,
            deadline=_FOREVER,
            lifespan=_FOREVER,
            liveliness=QosLiveliness.AUTOMATIC,
            liveliness_lease_duration=_FOREVER,
            avoid_ros_namespace_conventions=False,
        )
    ]


class Stamp(NamedTuple):
    """When a message was recorded and what its header says.

    Attributes:
        log_time: Nanoseconds.
        stamp: Of the header, nanoseconds.
        frame_id: Of the header.
    """

    log_time: int
    stamp: int
    frame_id: str


class BagWriter:
    """A new bag; leaving the `with` block closes it in any case, so that it can be read.

    Everything is offered as the node offers it: reliable, the last message, texts optionally
    latched.

    Args:
        path: Folder of the bag, which must not exist.
        storage: A key of `STORAGES`.
        packed: Pack the chunks (mcap only); every reader of mcap unpacks them by itself.

    Raises:
        ValueError: The folder exists, the storage is unknown, or it cannot have such a path.
    """

    def __init__(self, path: Path, storage: str = 'mcap', packed: bool = False):
        if storage not in STORAGES:
            raise ValueError(f'unknown storage {storage!r}; choose one of: {", ".join(STORAGES)}')
        if path.exists():
            raise ValueError(f'{str(path)!r} exists; delete it or choose another folder')
        if storage == 'sqlite3' and (wrong := set(str(path)) & _WRITTEN_ELSEWHERE):
            raise ValueError(
                f'{str(path)!r} holds {min(wrong)!r}, and sqlite3 would write to another file; '
                'take storage mcap or another folder'
            )
        self._writer = WholeWriter(path, version=_VERSION, storage_plugin=STORAGES[storage])
        if packed and storage == 'mcap':
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            with system_errors(path, sqlite3.Error):
                self._writer.open()
        except OSError:
            rmtree(path, ignore_errors=True)  # not even its end has room there
            raise
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Writes the index and `metadata.yaml`."""
        with system_errors(self._writer.path, sqlite3.Error):
            self._writer.close()

    def add_topic(self, topic: str, kind: str, latched: bool = False) -> None:
        """Declares a topic; `kind` is its message type."""
        durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
        self._connections[topic] = self._writer.add_connection(
            topic, kind, typestore=TYPESTORE, offered_qos_profiles=_qos(durability)
        )

    def add_image(self, topic: str, at: Stamp, pixels: Pixels, encoding: str) -> None:
        """Writes a `sensor_msgs/Image`.

        Args:
            topic: Declared as `IMAGE`.
            at: Its times and frame.
            pixels: (H, W) for 'mono8' and '32FC1', (H, W, 3) RGB for 'rgb8' and 'bgr8'.
            encoding: Of the message.
        """
        if encoding == 'bgr8':
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
        height, width = pixels.shape[:2]
        message = TYPESTORE.types[IMAGE](
            header=_header(at),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=width * _PIXEL_BYTES[encoding],
            data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
        )
        self._write(topic, IMAGE, at.log_time, message)

    def add_compressed(self, topic: str, at: Stamp, data: bytes, kind: str) -> None:
        """Writes a `sensor_msgs/CompressedImage`; `kind` is its format field."""
        message = TYPESTORE.types[COMPRESSED_IMAGE](
            header=_header(at), format=kind, data=np.frombuffer(data, np.uint8)
        )
        self._write(topic, COMPRESSED_IMAGE, at.log_time, message)

    def add_fields(self, topic: str, at: Stamp, fields: Mapping[str, Any]) -> None:
        """Writes a message of any type; see `filled`."""
        kind = self._connections[topic].msgtype
        self._write(topic, kind, at.log_time, filled(TYPESTORE, kind, fields, _header(at)))

    def _write(self, topic: str, kind: str, log_time: int, message: object) -> None:
        data = TYPESTORE.serialize_cdr(message, kind)
        with system_errors(self._writer.path, sqlite3.Error):
            self._writer.write(self._connections[topic], log_time, data)


def _header(at: Stamp) -> Any:
    seconds, nanoseconds = divmod(at.stamp, 10**9)
    types = TYPESTORE.types
    return types['std_msgs/msg/Header'](
        stamp=types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds),
        frame_id=at.frame_id,
    )
