"""How much CPU time a container or a systemd unit is given: the quota of its control groups."""

from __future__ import annotations

from collections.abc import Iterator
import math
from pathlib import Path

SELF = Path('/proc/self')


def cpu_quota(proc: Path = SELF) -> float:
    """Gives the CPUs' worth of time that this process may use, infinite without a limit.

    A limit on a group holds for those below it too, so the smallest on the way up counts.

    Args:
        proc: What the kernel tells of a process: `cgroup` and `mountinfo`.
    """
    try:
        groups = (proc / 'cgroup').read_text(encoding='utf-8')
        mounts = (proc / 'mountinfo').read_text(encoding='utf-8')
    except OSError:
        return math.inf
    found = [
        _quota(folder)
        for mount, version, root in _mounts(mounts)
        for folder in _upwards(mount, _below(_group(groups, version), root))
    ]
    return min(found, default=math.inf)


def _mounts(mountinfo: str) -> Iterator[tuple[Path, int, str]]:
    """Gives (where, version, which group is there) of the mounts that may hold quotas."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(' - ')
        kind, _, options = (*after.split(' ', 2), '', '')[:3]
        if kind == 'cgroup2' or (kind == 'cgroup' and 'cpu' in options.split(',')):
            fields = before.split(' ')
            yield Path(fields[4]), 2 if kind == 'cgroup2' else 1, fields[3]


def _group(groups: str, version: int) -> str:
    """Gives the path of the process's group in the tree of one version."""
    for line in groups.splitlines():
        number, controllers, path = line.split(':', 2)
        if (number == '0') if version == 2 else ('cpu' in controllers.split(',')):
            return path
    return '/'


def _below(group: str, root: str) -> str:
    """Gives the group's path below a mount that shows the tree from `root` on.

    >>> _below('/docker/a/b', '/docker/a'), _below('/', '/docker/a')
    ('b', '')
    """
    return group.removeprefix(root.rstrip('/')).strip('/')


def _upwards(mount: Path, below: str) -> Iterator[Path]:
    folder = mount / below
    yield folder
    while folder != mount:
        folder = folder.parent
        yield folder


def _quota(folder: Path) -> float:
    try:
        if (file := folder / 'cpu.max').is_file():
            quota, period = file.read_text(encoding='utf-8').split()
        else:
            quota = (folder / 'cpu.cfs_quota_us').read_text(encoding='utf-8')
            period = (folder / 'cpu.cfs_period_us').read_text(encoding='utf-8')
        # 'max' in version 2 and -1 in version 1: there is no limit.
        return int(quota) / int(period) if quota != 'max' and int(quota) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf
