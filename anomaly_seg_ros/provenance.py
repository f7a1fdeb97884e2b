"""Which commit the running code is."""

from __future__ import annotations

from pathlib import Path
import subprocess

from anomaly_seg_ros import __version__


def code_version() -> str:
    """Gives the commit of the source tree ('-dirty' where changed), or the package version."""
    root = Path(__file__).resolve().parent.parent
    if not (root / '.git').exists():
        return f'version {__version__}'
    try:
        result = subprocess.run(
            ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return f'version {__version__}'
    return result.stdout.strip()
