"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    r"""Gives a table of cells that are text already.

    >>> markdown_table(['a', 'b'], [['1', '']])
    '| a | b |\n| --- | --- |\n| 1 |  |'
    """
    rule = ['---'] * len(head)
    return '\n'.join(f'| {" | ".join(line)} |' for line in (head, rule, *lines))
