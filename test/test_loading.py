from collections.abc import Iterator
import multiprocessing
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.classes import LabelSet
from training.datasets import build_dataset, Sample
from training.feeding.loading import (
    AugmentedFrames,
    Batch,
    checked,
    EpochSampler,
    training_loader,
)
from training.feeding.pasting import build_paster
from training.feeding.transforms import Augmentation

WHOLE = Augmentation((72, 96), (1.0, 1.0), flip=0.0, color=0.0)


def paste_corner(image, labels, random):
    """An outlier of 4 by 5 pixels at the top left, and the rule of pasting: label 255."""
    outlier = np.zeros(labels.shape, bool)
    outlier[:4, :5] = True
    return image, np.where(outlier, np.uint8(255), labels), outlier


def test_every_frame_comes_once_an_epoch_over_all_ranks() -> None:
    samplers = [EpochSampler(12, 4, seed=1, rank=rank, ranks=2) for rank in range(2)]
    keys = [key for sampler in samplers for batch in sampler for key in batch]
    assert sorted(index for _, index in keys) == list(range(12))


def test_two_ranks_share_each_batch_of_one() -> None:
    whole = list(EpochSampler(12, 4, seed=1))
    ranks = [list(EpochSampler(12, 4, seed=1, rank=rank, ranks=2)) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert sorted(ranks[0][step] + ranks[1][step]) == sorted(batch)


def test_the_order_differs_between_epochs_and_not_between_runs() -> None:
    first, second = EpochSampler(50, 5, seed=1), EpochSampler(50, 5, seed=1)
    assert list(first) == list(second)
    second.epoch = 1
    orders = [[index for batch in s for _, index in batch] for s in (first, second)]
    assert orders[0] != orders[1]
    first.first_step = 8
    assert len(list(first)) == 2


def test_a_batch_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match='batch_size 3 is not divisible by 2 devices'):
        EpochSampler(10, 3, 0, 0, 2)
    with pytest.raises(ValueError, match='batch_size 8 is above the 2 frames'):
        EpochSampler(2, 8, 0)


def test_samples_do_not_depend_on_the_number_of_workers(camvid_root, tmp_path, save) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    save(tmp_path / 'photos', list(noise))
    options = {'kind': 'folder', 'root': tmp_path / 'photos', 'short_side': 40, 'crop': 24}
    dataset = build_dataset('camvid', camvid_root, 'train')
    augmentation = Augmentation((64, 64), class_balance=0.5)
    batches = []
    for workers in (0, 2):
        sampler = EpochSampler(len(dataset), 2, seed=3)
        frames = AugmentedFrames(dataset, augmentation, 3, build_paster(options))
        loader = training_loader(frames, sampler, workers)
        batches.append(list(checked(iter(loader))))
    for one, other in zip(*batches, strict=True):
        assert isinstance(one, Batch)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert float(batches[0][0].images.float().std()) > 0


def test_a_batch_has_the_agreed_types_and_pasted_pixels_are_ignored(camvid_root) -> None:
    dataset = build_dataset('camvid', camvid_root, 'train')
    frames = AugmentedFrames(dataset, WHOLE, 0, paste_corner)
    loader = training_loader(frames, EpochSampler(6, 2, 0), 0)
    batch = next(checked(iter(loader)))
    assert (batch.images.shape, batch.images.dtype) == ((2, 3, 72, 96), torch.uint8)
    assert (batch.labels.shape, batch.labels.dtype) == ((2, 72, 96), torch.int64)
    assert (batch.outlier.shape, batch.outlier.dtype) == ((2, 72, 96), torch.bool)
    assert int(batch.outlier.sum()) == 2 * 20
    assert set(batch.labels[batch.outlier].tolist()) == {255}
    assert set(batch.labels[~batch.outlier].tolist()) == {0, 3, 255}


def test_without_pasting_nothing_is_an_outlier(camvid_root) -> None:
    sample = AugmentedFrames(build_dataset('camvid', camvid_root, 'train'), WHOLE, 0)[0, 0]
    assert isinstance(sample, Batch)
    assert not sample.outlier.any()


def test_void_takes_unlabelled_and_pasted_pixels_but_no_padding(camvid_root) -> None:
    dataset = build_dataset('camvid', camvid_root, 'train')
    larger = Augmentation((80, 96), (1.0, 1.0), flip=0.0, color=0.0)
    sample = AugmentedFrames(dataset, larger, 0, paste_corner, void_label=11)[0, 0]
    assert isinstance(sample, Batch)
    labels = sample.labels
    # The made frames: sky above, road below left, unlabelled below right; 8 rows of padding.
    assert set(labels[36:72, 48:].flatten().tolist()) == {11}
    assert set(labels[:4, :5].flatten().tolist()) == {11}
    assert set(labels[72:].flatten().tolist()) == {255}
    assert int((labels == 11).sum()) == 36 * 48 + 20


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('folder', ['train', 'trainannot'])
def test_a_truncated_file_is_named_without_a_traceback(camvid_root, workers, folder) -> None:
    broken = camvid_root / folder / '004.png'
    broken.write_bytes(broken.read_bytes()[:100])
    frames = AugmentedFrames(build_dataset('camvid', camvid_root, 'train'), WHOLE, 0)
    before = set(multiprocessing.active_children())
    loader = training_loader(frames, EpochSampler(6, 2, 0), workers)
    with pytest.raises(ValueError, match=rf'{folder}/004\.png.*is it truncated') as caught:
        list(checked(iter(loader)))
    assert '\n' not in str(caught.value)
    # The error that somebody holds keeps no loading process.
    del loader
    assert set(multiprocessing.active_children()) == before


@pytest.fixture
def loading_processes(camvid_root) -> Iterator[list[Any]]:
    """Two processes that have loaded a batch each and wait for the next wish."""
    frames = AugmentedFrames(build_dataset('camvid', camvid_root, 'train'), WHOLE, 0)
    before = set(multiprocessing.active_children())
    batches = iter(training_loader(frames, EpochSampler(6, 2, 0), 2))
    next(batches)
    yield [child for child in multiprocessing.active_children() if child not in before]
    del batches  # ends them


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_loading_process_leaves_what_ends_the_group_to_its_parent(
    loading_processes, number
) -> None:
    script = 'import os, sys; [os.kill(int(pid), int(sys.argv[1])) for pid in sys.argv[2:]]'
    pids = [str(process.pid) for process in loading_processes]
    subprocess.run([sys.executable, '-c', script, str(int(number)), *pids], check=True)
    time.sleep(1.5)
    assert [process.is_alive() for process in loading_processes] == [True, True]


def test_a_loading_process_ends_when_its_parent_asks(loading_processes) -> None:
    for process in loading_processes:
        process.terminate()
    for process in loading_processes:
        process.join(5)
    assert [process.exitcode for process in loading_processes] == [0, 0]


def test_each_epoch_draws_anew_and_the_same_each_time() -> None:
    image = np.arange(64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    one = OneFrame([Sample('a', image, np.zeros((64, 64), np.uint8))])
    frames = AugmentedFrames(one, Augmentation((32, 32)), 0)  # type: ignore[arg-type]
    assert torch.equal(frames[0, 0].images, frames[0, 0].images)
    assert not torch.equal(frames[0, 0].images, frames[1, 0].images)


class OneFrame(list[Sample]):
    """A dataset of samples that are there."""

    classes = LabelSet(('road',), ((0, 0, 0),))
