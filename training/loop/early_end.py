"""What ends a run early that users can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anomaly_seg_ros.process.out_of_memory import is_out_of_memory

SHARED_MEMORY = ('shared memory', 'Bus error', 'file_descriptor', '</torch_')
"""What torch says where the frames of the loading processes do not fit into /dev/shm."""
ONE_VALUE = 'Expected more than 1 value per channel'
"""What a batch norm says of a single image whose map is a single pixel."""
LOST_PEER = ('closed by peer', 'reset by peer', 'Broken pipe', 'remote process exited')


@contextmanager
def one_line_errors(lower: str, workers: int) -> Iterator[None]:
    """Says in one line what users can mend: memory, too small a batch, another process's end.

    Args:
        lower: The keys that memory depends on, with their values, for the error text.
        workers: Processes that load.

    Raises:
        ValueError: In the place of the library's own error.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        text = str(error)
        if ONE_VALUE in text:
            raise ValueError(
                'the batch norms of this network need 2 images or more on each device; raise '
                'batch_size'
            ) from None
        if isinstance(error, ValueError):
            raise
        if workers and any(part in text for part in SHARED_MEMORY):
            raise ValueError(
                'the shared memory of this machine (/dev/shm) is too small for the loading '
                f'processes; enlarge it (docker run --shm-size=2g), or set workers={workers // 2}'
            ) from None
        if is_out_of_memory(error):
            raise ValueError(f'out of memory; lower {lower}') from None
        if 'DataLoader worker' in text:
            raise ValueError(
                'a loading process has died, mostly for lack of memory; lower workers '
                f'({workers}), {lower}'
            ) from None
        if any(part in text for part in LOST_PEER):
            raise ValueError(
                'another process of this run has ended; what it said before tells why'
            ) from None
        raise
