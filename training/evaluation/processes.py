"""Shares the frames of a set among the processes that torchrun starts."""

from __future__ import annotations

from collections.abc import Mapping
import os
from types import TracebackType
from typing import TypeVar

Part = TypeVar('Part')


class Processes:
    """This process among all; alone where WORLD_SIZE is 1 or not set.

    Attributes:
        rank: 0 is the process that writes.
        size: How many processes there are.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ):
        """Meets the other processes.

        Raises:
            ValueError: The environment is not the one that torchrun sets.
        """
        self.size = int(environment.get('WORLD_SIZE', '1'))
        self.rank = int(environment.get('RANK', '0')) if self.size > 1 else 0
        if self.size > 1:
            import torch
            from torch import distributed

            if torch.cuda.is_available():
                local = int(environment.get('LOCAL_RANK', '0'))
                torch.cuda.set_device(local % torch.cuda.device_count())
            distributed.init_process_group('gloo', rank=self.rank, world_size=self.size)

    @property
    def leads(self) -> bool:
        """Whether this process writes and talks for all."""
        return self.rank == 0

    def indices(self, length: int) -> range:
        """Gives the frames that are this process's part."""
        return range(self.rank, length, self.size)

    def gather(self, part: Part) -> list[Part]:
        """Gives what all processes have, in order of their rank, to each of them."""
        if self.size == 1:
            return [part]
        from torch import distributed

        parts: list[Part | None] = [None] * self.size
        distributed.all_gather_object(parts, part)
        return [found for found in parts if found is not None]

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.size > 1:
            from torch import distributed

            distributed.destroy_process_group()
