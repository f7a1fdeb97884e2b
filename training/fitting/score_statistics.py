"""Fits the statistics of training frames that some scores need, in one pass over the frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import inspect

import torch
from torch import Tensor
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.engines.scored_model import ImageModel
from anomaly_seg_ros.engines.torch_engine import place
from anomaly_seg_ros.frames.resizing import resize_ids
from anomaly_seg_ros.models.forward import run_fields
from anomaly_seg_ros.process.cores import inference_threads
from anomaly_seg_ros.scores import check_needs, fit_parameters, score_class
from anomaly_seg_ros.scores.score import StatisticsFit
from training.datasets import Dataset
from training.evaluation.resizing import network_input

from .temperature import check_classes


def check_frames(meta: CheckpointMeta, scores: Iterable[str], dataset: Dataset) -> None:
    """Checks that the statistics of scores can be fitted on a dataset.

    Raises:
        ValueError: A score reads labels and the dataset has other classes than the checkpoint.
    """
    for score in scores:
        if fit_of(score).labelled:
            check_classes(meta, dataset, f'score {score!r}')


def fit_of(score: str) -> type[StatisticsFit]:
    """Gives what fits the statistics of a score that has some."""
    fit = score_class(score).fit
    assert fit is not None, f'{score} has no statistics'
    return fit


def new_fit(meta: CheckpointMeta, score: str) -> StatisticsFit:
    """Gives an empty fit of a score, with the options that the checkpoint has for it.

    Raises:
        ValueError: An option does not fit.
    """
    kind, known = fit_of(score), fit_parameters(score)
    options = {k: v for k, v in meta.score_options.get(score, {}).items() if k in known}
    if 'class_names' in inspect.signature(kind).parameters:
        options['class_names'] = meta.class_names
    return kind(len(meta.class_names), **options)


def fit_statistics(
    checkpoint: Checkpoint, scores: Sequence[str], dataset: Dataset
) -> dict[str, dict[str, Tensor]]:
    """Gives the statistics of scores over all pixels of a dataset, at the network's size.

    Raises:
        ValueError: The dataset has other classes than the checkpoint, or nothing to fit, or the
            network lacks what a score reads.
    """
    meta, network = checkpoint.meta, checkpoint.network()
    check_frames(meta, scores, dataset)
    for score in scores:
        check_needs(score, meta.model, run_fields(network, meta.void_index))
    fits = {score: new_fit(meta, score) for score in scores}
    labelled = any(fit.labelled for fit in fits.values())
    model = ImageModel(network, meta).eval()
    for fit in fits.values():
        for layer in getattr(fit, 'layers', ()):
            model.model.tap(layer)
    device = place(model, inference_threads())
    for index in tqdm(range(len(dataset)), desc='statistics', unit='frame', disable=None):
        sample = dataset[index]
        image = torch.from_numpy(network_input(sample.image, meta.input_size, 'exact'))
        with torch.inference_mode():
            output = model.output(image[None].to(device))
        labels = resize_ids(sample.labels, meta.input_size) if labelled else None
        for fit in fits.values():
            fit.update(output, labels)
    return {score: fit.compute() for score, fit in fits.items()}
