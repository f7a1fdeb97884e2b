"""No memory left: libraries say it in errors of a kind that they also use for faults of ours."""

from __future__ import annotations

_SAID = ('out of memory', 'DefaultCPUAllocator', 'not enough memory')

OUT_OF_MEMORY_SAID = 'out of memory; end other programs, or take smaller images or another engine'
"""What a user can do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that no memory is left, of the machine or of its GPU.

    >>> is_out_of_memory(RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB'))
    True
    """
    if isinstance(error, MemoryError):
        return True
    # A `ValueError` is ours, and says already what to lower.
    return not isinstance(error, ValueError) and any(part in str(error) for part in _SAID)
