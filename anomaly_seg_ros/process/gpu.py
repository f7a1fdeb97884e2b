"""Whether there is a GPU, and what it says of itself where this process runs on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sys
from typing import Any

DEVICES = (Path('/dev/nvidiactl'), Path('/dev/nvhost-gpu'), Path('/dev/nvgpu'))
"""What NVIDIA's driver makes, the last two on Jetson."""


def has_gpu() -> bool:
    """Whether an NVIDIA GPU can be reached, without asking a library."""
    return any(device.exists() for device in DEVICES)


def gpu_facts() -> dict[str, Any]:
    """Gives name, memory in MB and temperature in degrees Celsius; nothing where none is used.

    A value that cannot be known is None: the temperature needs NVIDIA's management library, and a
    GPU that shares the memory of the processor counts its page cache as used.
    """
    torch = sys.modules.get('torch')
    if torch is None or not torch.cuda.is_initialized():
        return {}
    used = total = None
    if not _asked(lambda: torch.cuda.get_device_properties().is_integrated):
        free, total = _asked(torch.cuda.mem_get_info) or (None, None)
        used = None if total is None else total - free
    return {
        'name': torch.cuda.get_device_name(),
        'memory_used_mb': None if used is None else used >> 20,
        'memory_total_mb': None if total is None else total >> 20,
        'temperature_c': _asked(torch.cuda.temperature),
    }


def _asked(ask: Callable[[], Any]) -> Any:
    """Gives the answer, None where there is none."""
    try:
        return ask()
    except Exception:  # noqa: BLE001 - errors of NVML share no base but Exception
        return None
