"""Reads the messages of a damaged sqlite3 bag file in the order of their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
import os
from pathlib import Path
import sqlite3
from urllib.parse import quote

from .message import BagMessage, Channel, types_of

MAGIC = b'SQLite format 3\0'


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
        self.problem = ''
        self._size = path.stat().st_size
        self._file = sqlite3.connect(
            f'file:{quote(os.fsencode(path))}?mode=ro&immutable=1',
            uri=True,
            check_same_thread=False,
        )
        try:
            # Else SQLite refuses a file that is shorter than its header says.
            self._file.execute('PRAGMA writable_schema = ON')
            rows = self._file.execute('SELECT id, name, type FROM topics ORDER BY id').fetchall()
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(f'its list of topics cannot be read: {error}') from None
        self._channels = {row[0]: Channel(row[1], row[2]) for row in rows}
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
                    yield BagMessage(*channel, row[1], row[2])
        except sqlite3.DatabaseError as error:
            self.problem = f'{error} (the file has {self._size} bytes)'

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
