"""What a figure was measured on, said beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
import os
from pathlib import Path
import platform
import signal
from typing import Any

from anomaly_seg_ros.process.allocator import tune_allocator
from anomaly_seg_ros.process.cores import inference_threads

ALLOCATORS = {
    'default': {},
    'tuned': {
        'MALLOC_MMAP_MAX_': '0',
        'MALLOC_TRIM_THRESHOLD_': str(2**31 - 1),
        'MALLOC_ARENA_MAX': '1',
    },
    'thresholds': {
        'MALLOC_MMAP_THRESHOLD_': str(32 << 20),
        'MALLOC_TRIM_THRESHOLD_': str(256 << 20),
        'MALLOC_TOP_PAD_': str(64 << 20),
    },
}
"""Settings of glibc by environment: as it comes, as `tune_allocator` sets it, and another that
keeps its size classes and arenas but raises their thresholds."""

LIBRARIES = (
    'numpy', 'opencv-python-headless', 'openvino', 'onnxruntime', 'torch', 'torch-tensorrt',
    'tensorrt',
)  # fmt: skip


def describe_machine() -> dict[str, Any]:
    """Gives CPU, cores, threads of an inference, allocator setting, load and versions.

    The commands that measure have tuned the allocator before; here that is only said.
    """
    return {
        'cpu': cpu_name(),
        'cores': len(os.sched_getaffinity(0)),
        'threads': inference_threads(),
        'allocator': 'tuned' if tune_allocator() else 'default',
        'load': round(os.getloadavg()[0], 2),
        'versions': {'python': platform.python_version(), **library_versions()},
    }


def cpu_name(cpuinfo: Path = Path('/proc/cpuinfo')) -> str:
    """Gives the CPU's own name, or its architecture where the kernel tells none."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding='utf-8', errors='replace').splitlines():
            key, _, value = line.partition(':')
            if key.strip() == 'model name':
                return value.strip()
    return platform.machine()


def library_versions() -> dict[str, str]:
    """Gives the versions of what is installed of the libraries that matter for speed."""
    installed = {d.metadata['Name'].lower(): d.version for d in metadata.distributions()}
    return {name: installed[name] for name in LIBRARIES if name in installed}


@contextmanager
def variables(settings: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the processes started inside; no other allocator setting."""
    before = dict(os.environ)
    for name in {name for setting in ALLOCATORS.values() for name in setting}:
        os.environ.pop(name, None)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def process_memory_mb(pid: int | str = 'self') -> dict[str, float]:
    """Gives resident memory of a process in MiB: 'rss' now, 'peak' ever, 'uss' its own alone.

    From /proc and not from `getrusage`, whose peak starts at that of the process that forked.
    """
    status = _kilobytes(Path(f'/proc/{pid}/status'))
    rollup = _kilobytes(Path(f'/proc/{pid}/smaps_rollup'))
    own = rollup.get('Private_Clean', 0) + rollup.get('Private_Dirty', 0)
    return {
        'rss': status['VmRSS'] / 1024,
        'peak': status['VmHWM'] / 1024,
        'uss': own / 1024,
    }


def page_faults(pid: int | str = 'self') -> int:
    """Gives the minor page faults of a process so far, all threads added."""
    text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8', errors='replace')
    # The name, in brackets, may hold blanks; minflt is the eighth field behind it.
    return int(text.rpartition(')')[2].split()[7])


def _kilobytes(path: Path) -> dict[str, int]:
    pairs = (line.partition(':') for line in path.read_text(encoding='ascii').splitlines())
    return {key: int(value.split()[0]) for key, _, value in pairs if value.endswith(' kB')}


def ended(status: int) -> str:
    """Gives how a process has ended.

    >>> ended(1), ended(-9)
    ('ended with status 1', 'was killed by signal 9; perhaps memory was full')
    """
    if status >= 0:
        return f'ended with status {status}'
    full = '; perhaps memory was full' if status == -signal.SIGKILL else ''
    return f'was killed by signal {-status}{full}'
