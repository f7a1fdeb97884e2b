"""The rows of a sqlite3 bag file, of whatever types they are."""

from __future__ import annotations

import os
from pathlib import Path
import sqlite3
import sys
from typing import Any
from urllib.parse import quote

from anomaly_seg_ros.bags import packing

from .message import BagMessage, Channel

MAGIC = b'SQLite format 3\0'

# What stands in the schema of a bag; a view could make rows without end of a few bytes.
_COMPUTED = """
SELECT name FROM sqlite_master WHERE sql NOT LIKE 'CREATE TABLE %'
AND sql NOT LIKE 'CREATE INDEX %' AND sql NOT LIKE 'CREATE UNIQUE INDEX %'
UNION ALL
SELECT tables.name FROM sqlite_master AS tables, pragma_table_xinfo(tables.name) WHERE hidden
"""


def connect(path: Path, damaged: bool) -> sqlite3.Connection:
    """Opens a bag file for reading what is stored in it.

    Args:
        path: The file.
        damaged: Whether it may be shorter than its header says.

    Raises:
        ValueError: It holds what is computed: a view, a virtual table, a generated column.
        sqlite3.DatabaseError: It cannot be read.
    """
    file = sqlite3.connect(
        f'file:{quote(os.fsencode(path))}?mode=ro&immutable=1', uri=True, check_same_thread=False
    )
    try:
        if sys.version_info >= (3, 11):
            file.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, packing.MOST_BYTES)
        if damaged:
            file.execute('PRAGMA writable_schema = ON')
        file.execute('PRAGMA trusted_schema = OFF')
        computed = file.execute(_COMPUTED).fetchone()
        if computed is not None:
            raise ValueError(f'{computed[0]!r} in it is no plain table')
    except BaseException:
        file.close()
        raise
    return file


def read_channels(file: sqlite3.Connection) -> tuple[dict[Any, Channel], str]:
    """Gives topics by their ids, and what is wrong with the others, '' if there are none.

    Raises:
        sqlite3.DatabaseError: They cannot be read.
    """
    rows = file.execute('SELECT id, name, type FROM topics ORDER BY id').fetchall()
    found = {
        number: Channel(name, kind)
        for number, name, kind in rows
        if isinstance(name, str) and isinstance(kind, str)
    }
    lost = len(rows) - len(found)
    return found, f'{lost} topics are left out (they have no name or no type)' if lost else ''


def message_of(channel: Channel, log_time: Any, data: Any) -> BagMessage:
    """Gives the message of a row; without time or data where that is no number or no bytes."""
    timed = isinstance(log_time, int) and log_time >= 0
    return BagMessage(*channel, log_time if timed else 0, data if isinstance(data, bytes) else b'')
