"""What could be fitted to a camera beside its calibration, measured on data that show it.

    python -m training.study.ingredients --checkpoint default --table out/ingredients.md

Each row fits one thing to the first frames of a camera, without labels. Its gain is looked for on
other frames of that camera with outlined objects pasted in; what it costs, on labelled frames of
other cameras and, by mIoU, on CamVid val. Nothing of this goes into a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
import fnmatch
from pathlib import Path
import time
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn
from torch.nn import functional

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.engines.scored_model import load_scored_model, ScoredModel
from anomaly_seg_ros.frames.images import find_images, read_image
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.frames.resizing import resize_ids
from training.datasets import build_dataset
from training.feeding.pasting import build_paster
from training.metrics.confusion import ConfusionMatrix
from training.metrics.pixel import PixelMetrics
from training.reporting.markdown import markdown_table

Image: TypeAlias = NDArray[np.uint8]
Map: TypeAlias = NDArray[np.float32]
Frame: TypeAlias = tuple[Image, NDArray[np.uint8]]
"""An image at the network's size, and what is anomalous in it."""
Fitted: TypeAlias = Callable[[Image], 'Said']


class Said(NamedTuple):
    """What is said of an image: labels (h, w), score (h, w), features (D, h / s, w / s)."""

    labels: NDArray[np.uint8]
    score: Map
    features: Map


def plain(model: ScoredModel, frames: Sequence[Image]) -> Fitted:
    """The network as it is."""

    def maps(image: Image) -> Said:
        with torch.inference_mode():
            output = model.output(torch.from_numpy(np.ascontiguousarray(image))[None])
            labels = output.given('logits')[0].argmax(0).to(torch.uint8)
            score = model.score(output)[0].float()
            features = next(iter((output.features or {}).values()), torch.zeros(1, 1, 1, 1))
        return Said(labels.numpy(), score.numpy(), features[0].float().numpy())

    return maps


def norm_statistics(model: ScoredModel, frames: Sequence[Image]) -> Fitted:
    """A tenth of the batch norms' statistics from the camera's frames."""
    model, share = deepcopy(model), 0.1
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = share  # the new statistics' share of one pass over all frames
        norm.train()
    with torch.inference_mode():
        model.output(torch.from_numpy(np.stack(frames)))
    for norm in norms:
        norm.eval()
    return plain(model, frames)


def self_training(model: ScoredModel, frames: Sequence[Image]) -> Fitted:
    """Five steps towards the network's own labels where its probability is above 0.9."""
    model = deepcopy(model)
    images = torch.from_numpy(np.stack(frames))
    with torch.no_grad():
        sure, labels = torch.cat(
            [model.output(image[None]).given('logits').softmax(1) for image in images]
        ).max(1)
    labels[sure < 0.9] = IGNORE
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0)
    random = np.random.default_rng(0)
    for _ in range(5):
        chosen = torch.from_numpy(random.choice(len(frames), 3, replace=False))
        logits = model.output(images[chosen]).given('logits')
        loss = functional.cross_entropy(logits, labels[chosen], ignore_index=IGNORE)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return plain(model, frames)


def place_prior(model: ScoredModel, frames: Sequence[Image], of_rows: bool = False) -> Fitted:
    """A quarter of the mean score of a pixel's place is taken off."""
    maps = plain(model, frames)
    mean = np.stack([maps(image).score for image in frames]).mean(axis=0)
    if of_rows:
        mean = np.repeat(mean.mean(1)[:, None], mean.shape[1], axis=1)
    prior = cv2.GaussianBlur(mean, (0, 0), 12)

    def fitted(image: Image) -> Said:
        found = maps(image)
        return found._replace(score=(found.score - prior / 4).astype(np.float32))

    return fitted


def row_prior(model: ScoredModel, frames: Sequence[Image]) -> Fitted:
    """A quarter of the mean score of a pixel's row is taken off."""
    return place_prior(model, frames, of_rows=True)


def class_prior(model: ScoredModel, frames: Sequence[Image]) -> Fitted:
    """A quarter of the mean score of a pixel's class is taken off."""
    maps = plain(model, frames)
    known = [maps(image) for image in frames]
    scores = np.concatenate([found.score.ravel() for found in known])
    labels = np.concatenate([found.labels.ravel() for found in known])
    sums, counts = np.bincount(labels, scores, 256), np.bincount(labels, minlength=256)
    prior = np.where(counts > 500, sums / np.maximum(counts, 1), scores.mean())

    def fitted(image: Image) -> Said:
        found = maps(image)
        score = found.score - prior[found.labels] / 4
        return found._replace(score=score.astype(np.float32))

    return fitted


def feature_bank(model: ScoredModel, frames: Sequence[Image]) -> Fitted:
    """A quarter of the distance to the nearest of 2000 normal features is added, both scaled."""
    maps, random = plain(model, frames), np.random.default_rng(0)

    def directions(found: Said) -> Map:
        flat = found.features.reshape(len(found.features), -1).T
        unit: Map = flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-6)
        return unit

    known = [maps(image) for image in frames]
    every = 2000 // len(frames)
    bank = np.concatenate([random.permutation(directions(found))[:every] for found in known])

    def distance(found: Said) -> Map:
        rows, columns = found.features.shape[1:]
        near = 1 - (directions(found) @ bank.T).max(1).reshape(rows, columns)
        height, width = found.score.shape
        scale = width / columns  # the network's input was padded below and to the right
        whole = cv2.resize(near, (round(columns * scale), round(rows * scale)))
        cut: Map = whole[:height, :width].astype(np.float32)
        return cut

    spread = np.std([distance(found) for found in known[:4]])
    unit = np.std([found.score for found in known[:4]])

    def fitted(image: Image) -> Said:
        found = maps(image)
        score = found.score / unit + distance(found) / spread / 4
        return found._replace(score=score.astype(np.float32))

    return fitted


def unchanged(model: ScoredModel, frames: Sequence[Image]) -> Fitted:
    """Pixels that never change by more than six grey levels are ignored, as an own bonnet."""
    maps, stack = plain(model, frames), np.stack(frames)
    change = (stack.max(0).astype(np.int16) - stack.min(0)).max(2)
    fixed = cv2.morphologyEx((change <= 6).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))

    def fitted(image: Image) -> Said:
        found = maps(image)
        score = np.where(fixed, np.float32(-1e4), found.score)
        return found._replace(score=score.astype(np.float32))

    return fitted


INGREDIENTS: dict[str, Callable[[ScoredModel, Sequence[Image]], Fitted]] = {
    'none: calibration alone': plain,
    'batch-norm statistics, a tenth': norm_statistics,
    'pixels that never change ignored': unchanged,
    'prior of the row, a quarter': row_prior,
    'prior of the place, a quarter': place_prior,
    'prior of the class, a quarter': class_prior,
    'bank of normal features, a quarter': feature_bank,
    'self-training, five steps': self_training,
}


def camera_frames(folder: Path, size: tuple[int, int], given: int) -> tuple[list[Image], ...]:
    """Gives the frames that are given, and the rest."""
    images = [to_input_size(read_image(path), size) for path in find_images([folder])]
    if len(images) < given + 1:
        raise ValueError(f'{str(folder)!r} holds {len(images)} images, not more than {given}')
    return images[:given], images[given:]


def pasted(images: Iterable[Image], objects: Path) -> list[Frame]:
    """Gives the images with outlined objects pasted in, in two ways each."""
    paste = build_paster(
        {
            'kind': 'coco', 'root': str(objects), 'annotations': 'annotations/instances.json',
            'images': 'images', 'min_side': 100, 'min_object': 24, 'count': [1, 3],
            'short_side': 100, 'scale': [0.2, 1.2], 'feather': 1.0,
        }
    )  # fmt: skip
    frames: list[Frame] = []
    for index, image in enumerate(images):
        for way in range(2):
            blank = np.zeros(image.shape[:2], np.uint8)
            mixed, _, outlier = paste(image, blank, np.random.default_rng(100 * way + index))
            frames.append((mixed, outlier.astype(np.uint8)))
    return frames


def labelled(dataset: str, root: Path, size: tuple[int, int], beginning: str = '') -> list[Frame]:
    """Gives the frames of a dataset with anomalies whose names begin so."""
    frames: list[Frame] = []
    data = build_dataset(dataset, root, 'all')
    for index in range(len(data)):
        sample = data[index]
        if not sample.name.startswith(beginning):
            continue
        assert sample.anomaly is not None
        frames.append((to_input_size(sample.image, size), resize_ids(sample.anomaly, size)))
    return frames


def ap_fpr(fitted: Fitted, frames: Sequence[Frame]) -> str:
    """Gives 'AP / FPR95' in percent, pixels pooled at the network's size."""
    metrics = PixelMetrics()
    for image, anomaly in frames:
        metrics.update(fitted(image).score, anomaly)
    values = metrics.compute()
    return ' / '.join(f'{100 * float(values[key] or 0):.1f}' for key in ('ap', 'fpr95'))


def miou(fitted: Fitted, root: Path, size: tuple[int, int]) -> str:
    """Gives the mIoU on every fourth frame of CamVid val, in percent."""
    data = build_dataset('camvid', root, 'val')
    matrix = ConfusionMatrix(len(data.classes.names))
    for index in range(0, len(data), 4):
        sample = data[index]
        predicted = fitted(to_input_size(sample.image, size)).labels
        matrix.update(predicted, resize_ids(sample.labels, size))
    return f'{100 * np.nanmean(matrix.iou()):.1f}'


def row(
    fit: Callable[[ScoredModel, Sequence[Image]], Fitted],
    model: ScoredModel,
    given: Sequence[Image],
    sets: Mapping[str, Sequence[Frame]],
    camvid: Path,
) -> list[str]:
    """Fits one ingredient and measures it."""
    began = time.monotonic()
    fitted = fit(model, given)
    took = f'{time.monotonic() - began:.0f}'
    size = (given[0].shape[0], given[0].shape[1])
    return [
        *(ap_fpr(fitted, frames) for frames in sets.values()),
        miou(fitted, camvid, size),
        took,
    ]


def main() -> int:
    """Measures all ingredients and writes the table, row by row."""
    parser = tool_parser(__doc__)
    add_checkpoint(parser)
    parser.add_argument('--data', type=Path, default=Path('../shared/data'))
    parser.add_argument('--given', type=int, default=10, help='frames of the camera to fit to')
    parser.add_argument('--only', default='*', metavar='PATTERN', help='rows, such as "prior*"')
    parser.add_argument('--table', type=Path, required=True)
    args = parser.parse_args()
    checkpoint = Checkpoint.open(args.checkpoint)
    size, data = checkpoint.meta.input_size, args.data
    model = load_scored_model(checkpoint, checkpoint.meta.score).eval()
    given, rest = camera_frames(data / 'dashcam_normal' / 'highway', size, args.given)
    sets = {
        'own camera, pasted': pasted(rest, data / 'outlier_objects'),
        'other_cameras_val': labelled('folder', data / 'other_cameras_val', size),
        'road_anomaly_val': labelled('road_anomaly', data / 'road_anomaly_val', size),
    }
    head, lines = ['fitted', *sets, 'mIoU', 's to fit'], []
    args.table.parent.mkdir(parents=True, exist_ok=True)
    for name in fnmatch.filter(INGREDIENTS, args.only):
        fit = INGREDIENTS[name]
        lines.append([name, *row(fit, model, given, sets, data / 'camvid')])
        args.table.write_text(markdown_table(head, lines) + '\n', encoding='utf-8')
    print(args.table)
    return 0


if __name__ == '__main__':
    run_tool(main)
