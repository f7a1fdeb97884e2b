"""Reads a whole sqlite3 bag file in the order of its log times."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
import sqlite3

from .message import BagMessage, types_of
from .sqlite_rows import connect, message_of, read_channels


class SqliteFile:
    """A bag file that SQLite calls whole.

    Attributes:
        topics: Topic to message type.
        counts: Topic to number of messages.
        problem: Why reading stopped early, or what is left out; '' if nothing is.

    Raises:
        ValueError: It is no bag file.
        sqlite3.DatabaseError: It is damaged.
    """

    def __init__(self, path: Path):
        self._file = connect(path, damaged=False)
        try:
            self._channels, self.problem = read_channels(self._file)
            rows = self._file.execute('SELECT topic_id, count(*) FROM messages GROUP BY topic_id')
            counts = dict(rows.fetchall())
        except sqlite3.DatabaseError:
            self._file.close()
            raise
        self.topics = types_of(self._channels.values())
        self.counts = dict.fromkeys(self.topics, 0)
        for number, channel in self._channels.items():
            self.counts[channel.topic] += counts.get(number, 0)

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Gives the messages of these topics, by log time."""
        wanted = [number for number, channel in self._channels.items() if channel.topic in topics]
        try:
            rows = self._file.execute(
                'SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN '
                f'({", ".join("?" * len(wanted))}) ORDER BY timestamp, id',
                wanted,
            )
            for number, log_time, data in rows:
                yield message_of(self._channels[number], log_time, data)
        except sqlite3.DatabaseError as error:
            self.problem = f'damaged: {error}'

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
