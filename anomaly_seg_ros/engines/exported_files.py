"""Checks of the files in an engine folder, before a library gives a long error about them."""

from __future__ import annotations

from pathlib import Path

from anomaly_seg_ros.checkpoint import refuse_lfs_pointer


def check_files(*paths: Path) -> None:
    """Refuses files that are missing or not fetched.

    Raises:
        FileNotFoundError: One is missing.
        ValueError: One is a git-lfs pointer.
    """
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f'engine folder has no {str(path)!r}; export again')
        refuse_lfs_pointer(path)
