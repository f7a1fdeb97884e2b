"""What of a dataset is not there: a split, all of its files, partners, published frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
import logging

LOGGER = 'training.datasets'

_LEFT_OUT: ContextVar[list[str] | None] = ContextVar('_LEFT_OUT', default=None)


class UnknownSplitError(ValueError):
    """A dataset has no such split.

    Attributes:
        splits: Those that it has.
    """

    def __init__(self, text: str, splits: Sequence[str]):
        super().__init__(text)
        self.splits = tuple(splits)


class NothingThereError(FileNotFoundError):
    """No file of a split lies below the root."""


def check_split(dataset: str, split: str, splits: Sequence[str]) -> None:
    """Checks the split of a dataset that has one label rule.

    Raises:
        UnknownSplitError: The text lists those that are known.
    """
    if split not in splits:
        raise UnknownSplitError(
            f'unknown split {split!r} of {dataset}; choose one of: {", ".join(splits)}', splits
        )


@contextmanager
def lone_files_left_out() -> Iterator[list[str]]:
    """Lets datasets leave out files without partner, and gives what they would have refused."""
    found: list[str] = []
    token = _LEFT_OUT.set(found)
    try:
        yield found
    finally:
        _LEFT_OUT.reset(token)


def refuse_lone_files(text: str) -> None:
    """Tells of files without partner, which the caller then leaves out.

    Raises:
        FileNotFoundError: With this text, but within `lone_files_left_out`.
    """
    found = _LEFT_OUT.get()
    if found is None:
        raise FileNotFoundError(text)
    found.append(text)


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """Gives the warnings that datasets log meanwhile, for the reader of the numbers."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        yield heard
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)
