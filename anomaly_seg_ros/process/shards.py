"""Which part of many inputs this process is to do, of several that know nothing of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import re
from typing import TypeVar

Item = TypeVar('Item')


@dataclass(frozen=True)
class Shard:
    """One part of several.

    Attributes:
        number: From 1.
        count: How many parts there are.
    """

    number: int = 1
    count: int = 1

    def part(self, items: Sequence[Item]) -> list[Item]:
        """Gives this part: each item is in exactly one, whatever the number of parts.

        >>> [Shard(number, 3).part('abcdefgh') for number in (1, 2, 3)]
        [['a', 'd', 'g'], ['b', 'e', 'h'], ['c', 'f']]
        """
        return list(items[self.number - 1 :: self.count])

    @property
    def suffix(self) -> str:
        """What tells its files apart from those of the others; '' where it is alone."""
        width = len(str(self.count))
        return '' if self.count == 1 else f'-{self.number:0{width}}-of-{self.count}'


def choose_shard(text: str | None, environ: Mapping[str, str]) -> Shard:
    """Reads 'K/N', or what starts many processes says of this one, or takes all.

    Known are torchrun (RANK, WORLD_SIZE), a Slurm array (SLURM_ARRAY_TASK_ID, _MIN, _COUNT) and an
    indexed job of Kubernetes (JOB_COMPLETION_INDEX; its manifest must set JOB_COMPLETIONS).

    Args:
        text: What a user has typed; None for nothing.
        environ: Of the process.

    Raises:
        ValueError: Another form, or a number that is not from 1 to N.

    >>> choose_shard('3/40', {}), choose_shard(None, {'RANK': '0', 'WORLD_SIZE': '2'})
    (Shard(number=3, count=40), Shard(number=1, count=2))
    """
    if text is not None:
        found = re.fullmatch(r'(\d+)/(\d+)', text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f'shard {text!r} is not of the form K/N, K from 1 to N, such as 3/40')
        return Shard(int(found[1]), int(found[2]))
    if 'SLURM_ARRAY_TASK_COUNT' in environ:
        first = environ.get('SLURM_ARRAY_TASK_MIN', '0')
        return _from(environ, 'SLURM_ARRAY_TASK_ID', 'SLURM_ARRAY_TASK_COUNT', first)
    if 'JOB_COMPLETIONS' in environ:
        return _from(environ, 'JOB_COMPLETION_INDEX', 'JOB_COMPLETIONS')
    if 'WORLD_SIZE' in environ:
        return _from(environ, 'RANK', 'WORLD_SIZE')
    return Shard()


def _from(environ: Mapping[str, str], index: str, count: str, first: str = '0') -> Shard:
    """Gives the shard of two variables, the index counted from `first`."""
    try:
        shard = Shard(int(environ[index]) - int(first) + 1, int(environ[count]))
    except (KeyError, ValueError):
        shard = Shard(0, 0)
    if not 1 <= shard.number <= shard.count:
        raise ValueError(
            f'{index} is {environ.get(index)!r} and {count} is {environ[count]!r}, which names no '
            'part; say it with --shard K/N'
        )
    return shard
