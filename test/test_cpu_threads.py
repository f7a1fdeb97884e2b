"""How the cores are shared between inference, pictures, middleware and other jobs."""

import math
import os
from pathlib import Path

import pytest

from anomaly_seg_ros.process import cores
from anomaly_seg_ros.process.cores import (
    inference_threads,
    picture_threads,
    shared_cores,
    THREADS,
    usable_cores,
)
from anomaly_seg_ros.process.cpu_quota import cpu_quota


@pytest.fixture(autouse=True)
def no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, 'cpu_quota', lambda: math.inf)
    for name in (THREADS, 'OMP_NUM_THREADS', 'OMP_WAIT_POLICY'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ('cores', 'inference', 'pictures'), [(1, 1, 1), (2, 2, 2), (3, 2, 2), (8, 7, 2)]
)
def test_threads_by_usable_cores(
    cores: int, inference: int, pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(cores)))
    assert (inference_threads(), picture_threads()) == (inference, pictures)


@pytest.mark.parametrize(('quota', 'usable'), [(math.inf, 8), (0.3, 1), (1.5, 2), (12.0, 8)])
def test_a_quota_counts_like_cores(
    quota: float, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(8)))
    monkeypatch.setattr(cores, 'cpu_quota', lambda: quota)
    assert usable_cores() == usable


def test_what_torch_reads_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(8)))
    before = dict(os.environ)
    with shared_cores():
        assert os.environ['OMP_WAIT_POLICY'] == 'passive'
        assert (os.environ['OMP_NUM_THREADS'], inference_threads()) == ('8', 7)
    assert dict(os.environ) == before
    for processes, share in ((3, '2'), (9, '1'), (0, '8')):  # 0 is refused later, by name
        with shared_cores(processes=processes):
            assert os.environ['OMP_NUM_THREADS'] == share
    with shared_cores(3):
        assert (os.environ['OMP_NUM_THREADS'], inference_threads()) == ('3', 3)
    assert dict(os.environ) == before
    monkeypatch.setenv('OMP_NUM_THREADS', '5')  # as torchrun does
    monkeypatch.setenv('OMP_WAIT_POLICY', 'active')
    with shared_cores():
        assert (os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY']) == ('5', 'active')
    with shared_cores(3):
        assert os.environ['OMP_NUM_THREADS'] == '3'
    assert os.environ['OMP_NUM_THREADS'] == '5'


def test_threads_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match='threads is 0; it must be 1 or more'), shared_cores(0):
        pass


def proc(folder: Path, cgroup: str, *mounts: str) -> Path:
    """What the kernel tells of a process whose control groups lie in a folder."""
    (folder / 'cgroup').write_text(cgroup)
    lines = ['22 1 0:21 / / rw - ext4 /dev/sda rw', *(m.format(folder) for m in mounts)]
    (folder / 'mountinfo').write_text('\n'.join(lines))
    return folder


V2 = '30 22 0:26 / {}/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate'
V1 = '31 22 0:27 {} {{}}/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct'


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace('__', '.')).write_text(text + '\n')


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    write(tmp_path / 'unified')
    write(tmp_path / 'unified/system.slice', cpu__max='150000 100000')
    write(tmp_path / 'unified/system.slice/job', cpu__max='max 100000')
    assert cpu_quota(proc(tmp_path, '0::/system.slice/job\n', V2)) == 1.5


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    write(tmp_path / 'cpu', cpu__cfs_quota_us='50000', cpu__cfs_period_us='100000')
    groups = '4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/\n'
    assert cpu_quota(proc(tmp_path, groups, V1.format('/docker/a'))) == 0.5


def test_without_a_limit_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / 'nowhere') == math.inf
    write(tmp_path / 'cpu/job', cpu__cfs_quota_us='-1', cpu__cfs_period_us='100000')
    write(tmp_path / 'unified', cpu__max='max 100000')
    groups = '3:cpu,cpuacct:/job\n0::/\n'
    assert cpu_quota(proc(tmp_path, groups, V1.format('/'), V2)) == math.inf
    (tmp_path / 'cpu/job/cpu.cfs_quota_us').write_text('strange')
    assert cpu_quota(tmp_path) == math.inf


def test_this_machine_can_be_asked() -> None:
    assert cpu_quota() > 0
