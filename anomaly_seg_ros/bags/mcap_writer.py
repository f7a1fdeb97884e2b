"""Writes an MCAP bag that others can open up to its last whole chunk, whatever fails meanwhile."""

from __future__ import annotations

from collections import defaultdict
from io import BytesIO
import os
from pathlib import Path
import tempfile
from typing import NamedTuple

from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk

ROOM_BYTES = 2**16
"""Set aside on the disk for what a bag ends with: types, topics, counts and `metadata.yaml`."""
CHUNK_ROOM_BYTES = 512
"""Set aside for the entry of a chunk in the index."""
_NEVER = 2**63 - 1


class _Whole(NamedTuple):
    """What the file holds up to the end of a chunk.

    Attributes:
        end: Byte behind it.
        first: Earliest log time so far, in nanoseconds.
        last: Latest one.
        counts: Channel to messages so far.
    """

    end: int
    first: int
    last: int
    counts: dict[int, int]


class _WholeChunks(McapWriter):
    """Ends at its last whole chunk where the next one does not fit."""

    def __init__(self, path: Path, compression: CompressionMode):
        super().__init__(path, compression)
        # Without a name: it goes with the process, even where that is killed.
        self._room = tempfile.TemporaryFile(dir=path, buffering=0)  # noqa: SIM115
        self._whole: list[_Whole] = []
        self._keep(ROOM_BYTES)

    def close_chunk(self) -> None:
        """Writes the chunk that is full; none of it stays where that fails."""
        try:
            super().close_chunk()
            self._keep(CHUNK_ROOM_BYTES)
        except OSError:
            self._go_back()
            raise

    def _keep(self, room: int) -> None:
        self.bio.flush()
        counts = dict(self.channel_stats)
        state = _Whole(self.bio.tell(), self.message_start_time, self.message_end_time, counts)
        self._whole.append(state)
        data = os.urandom(room)  # what can be packed takes no room on some disks
        while data:
            data = data[self._room.write(data) :]

    def _go_back(self) -> None:
        """Makes file and counts those of the last whole chunk."""
        whole = self._whole[-1]
        self.bio.raw.close()  # first, or what it still holds would be written behind the cut
        os.truncate(self.path, whole.end)
        self.bio = self.path.open('ab')
        del self.chunks[len(self._whole) - 1 :]
        self.chunk = PendingChunk(_NEVER, 0, BytesIO(), defaultdict(list))
        self.message_start_time, self.message_end_time = whole.first, whole.last
        self.channel_stats = dict.fromkeys(self.channel_stats, 0) | whole.counts

    def finish(self) -> None:
        """Writes what waits, and gives back the room for the end.

        Raises:
            OSError: It does not fit and is lost.
        """
        try:
            if self.chunk.bio.tell():
                self.close_chunk()
        finally:
            self._room.close()

    def leave_out_a_chunk(self) -> bool:
        """Makes room by the last chunk; False where there is none left."""
        if len(self._whole) == 1:
            return False
        self._whole.pop()
        self._go_back()
        return True


class WholeWriter(Writer):
    """A `Writer` that always leaves an index and `metadata.yaml` of what is in the file.

    Where a disk is full, what was written before stays readable: the end has its room from the
    beginning. Where a file may not become larger, as on FAT, the last chunk makes room.
    """

    STORAGE_PLUGINS = {**Writer.STORAGE_PLUGINS, StoragePlugin.MCAP: _WholeChunks}  # noqa: RUF012

    def close(self) -> None:
        """Ends the bag.

        Raises:
            OSError: Something of what was added is not in it.
        """
        storage = self.storage
        if not isinstance(storage, _WholeChunks):
            super().close()
            return
        failure = None
        try:
            storage.finish()
        except OSError as error:
            failure = error
        while self.storage is not None:
            self.counts = dict(storage.channel_stats)
            self.min_timestamp, self.max_timestamp = (
                storage.message_start_time, storage.message_end_time,
            )  # fmt: skip
            try:
                super().close()
            except OSError as error:
                failure = error
                if self.storage is None or not storage.leave_out_a_chunk():
                    raise
        if failure is not None:
            raise failure
