"""Frames of a dataset, run through a checkpoint."""

from __future__ import annotations

from pathlib import Path
import shutil

import numpy as np

from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import IGNORE
from training.datasets import Dataset, NO_CLASSES, Sample

from .frame import Bytes, Frame
from .network_pass import NetworkPass, PassOutput
from .resizing import classes_at, labels_at, network_input, score_at, truth_size


class CheckpointFrames:
    """A `FrameSource` over a dataset; see there for the attributes.

    Score maps are kept at the network's size in `store`, so that the second pass costs no
    inference: 4 bytes per pixel and score. Other processes have stores of their own.
    """

    has_images = True

    def __init__(
        self,
        dataset: Dataset,
        network: NetworkPass,
        meta: CheckpointMeta,
        protocol: str,
        store: Path,
    ):
        """Takes what belongs together.

        Args:
            dataset: Frames with class labels, anomaly labels, or both.
            network: Of the checkpoint.
            meta: Of the checkpoint.
            protocol: A key of `PROTOCOLS`.
            store: An empty folder.

        Raises:
            ValueError: The dataset has no labels, or its maps do not fit on the disk.
        """
        sample = dataset[0]
        if sample.anomaly is None and sample.train_ids is None:
            raise ValueError(
                f'frame {sample.name!r} has no labels, so there is nothing to evaluate; '
                'choose a split with public labels'
            )
        self.scores = tuple(network.times_ms)
        self.has_anomalies = sample.anomaly is not None
        self.has_classes = sample.train_ids is not None
        comparable = self.has_classes and dataset.classes.names == meta.class_names
        self.classes = dataset.classes if comparable else NO_CLASSES
        self._dataset, self._network, self._protocol = dataset, network, protocol
        self._store = store
        check_room(store, len(dataset), network.input_size, len(self.scores))

    def __len__(self) -> int:
        return len(self._dataset)

    def first(self, index: int) -> Frame:
        """Runs the network on a frame and keeps its maps."""
        sample = self._dataset[index]
        output = self._network.infer(
            network_input(sample.image, self._network.input_size, self._protocol)
        )
        np.save(self._store / f'{index}_labels.npy', output.labels)
        for score, values in output.scores.items():
            np.save(self._store / f'{index}_{score}.npy', values)
        return self._frame(sample, output)

    def again(self, index: int) -> Frame:
        """Gives a frame from the kept maps."""
        scores = {score: np.load(self._store / f'{index}_{score}.npy') for score in self.scores}
        labels = np.load(self._store / f'{index}_labels.npy')
        return self._frame(self._dataset[index], PassOutput(labels, scores, None))

    def _frame(self, sample: Sample, output: PassOutput) -> Frame:
        network_size = self._network.input_size
        truth = truth_size(region(sample), network_size, self._protocol)
        train_ids = logit_labels = None
        if self.classes.names:
            train_ids = truth_size(sample.labels, network_size, self._protocol)
            logit_labels = labels_at(sample.labels, network_size, self._protocol)
        size = (truth.shape[0], truth.shape[1])
        return Frame(
            name=sample.name,
            truth=truth,
            scores={name: score_at(score, size) for name, score in output.scores.items()},
            image=sample.image,
            train_ids=train_ids,
            labels=classes_at(output.labels, size),
            logits=output.logits,
            logit_labels=logit_labels,
            stored=sample.stored,
        )


def check_room(folder: Path, frames: int, size: tuple[int, int], scores: int) -> None:
    """Checks that the kept maps fit on the disk, before hours of work.

    Raises:
        ValueError: They do not; the text says how much is needed.
    """
    needed = frames * size[0] * size[1] * (4 * scores + 1)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f'{needed / 1e9:.1f} GB are needed below --out while it runs, {free / 1e9:.1f} GB '
            'are free; choose another --out or fewer scores'
        )


def region(sample: Sample) -> Bytes:
    """Gives the anomaly truth; without one all pixels of a class are inliers."""
    if sample.anomaly is not None:
        return sample.anomaly
    inlier: Bytes = np.where(sample.labels == IGNORE, np.uint8(IGNORE), np.uint8(0))
    return inlier
