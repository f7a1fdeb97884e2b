"""How the cores are shared between inference, pictures and middleware."""

import os

import pytest

from anomaly_seg_ros.process.cores import inference_threads, picture_threads


@pytest.mark.parametrize(
    ('cores', 'inference', 'pictures'), [(1, 1, 1), (2, 2, 2), (3, 2, 2), (8, 7, 2)]
)
def test_threads_by_usable_cores(
    cores: int, inference: int, pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(cores)))
    assert (inference_threads(), picture_threads()) == (inference, pictures)
