"""What the GPU says of itself, asked only where this process runs on one already."""

from __future__ import annotations

import sys
from typing import Any


def gpu_facts() -> dict[str, Any]:
    """Gives name, memory in MB and temperature in degrees Celsius; nothing where none is used.

    A value that cannot be known is None: the temperature needs NVIDIA's management library.
    """
    torch = sys.modules.get('torch')
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        'name': torch.cuda.get_device_name(),
        'memory_used_mb': (total - free) >> 20,
        'memory_total_mb': total >> 20,
        'temperature_c': _temperature(torch),
    }


def _temperature(torch: Any) -> int | None:
    try:
        degrees: int = torch.cuda.temperature()
    except (ImportError, RuntimeError, AttributeError):
        return None
    return degrees
