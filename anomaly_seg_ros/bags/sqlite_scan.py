"""Reads the messages of a damaged sqlite3 bag file in the order of their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
import sqlite3

from .message import BagMessage, types_of
from .sqlite_rows import connect, message_of, read_channels


class SqliteScan:
    """A bag file whose end is lost, or that SQLite calls malformed.

    Only the table itself is read, none of its indices: those lie at the end of the file.

    Attributes:
        topics: Topic to message type.
        counts: Empty; the number of messages is not known before they are read.
        problem: What of the recording is lost and why; '' until reading has met the damage.

    Raises:
        ValueError: Not even the list of topics can be read.
    """

    def __init__(self, path: Path):
        self.counts: Mapping[str, int] = {}
        self._size = path.stat().st_size
        try:
            self._file = connect(path, damaged=True)
        except sqlite3.DatabaseError as error:
            raise ValueError(f'its list of tables cannot be read: {error}') from None
        try:
            self._channels, self.problem = read_channels(self._file)
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(f'its list of topics cannot be read: {error}') from None
        self.topics = types_of(self._channels.values())

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages of these topics in the order in which they were written."""
        try:
            rows = self._file.execute(
                'SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id'
            )
            while (row := rows.fetchone()) is not None:
                channel = self._channels.get(row[0])
                if channel is not None and channel.topic in topics:
                    yield message_of(channel, row[1], row[2])
        except sqlite3.DatabaseError as error:
            self.problem = f'{error} (the file has {self._size} bytes)'

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
