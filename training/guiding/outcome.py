"""What a run has learned: its classes in numbers, and frames with what it makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anomaly_seg_ros.frames.images import write_image
from training.checking.drawing import draw_frame, draw_sheet

if TYPE_CHECKING:
    from training.loop.trainer import Trainer

PICTURE = 'val_samples.png'
MOST_FRAMES = 8
COLUMNS = 2


def class_lines(names: tuple[str, ...], row: Mapping[str, float]) -> Iterator[str]:
    """Gives the IoU of each class in the kept row, the best first."""
    found = {name: row[f'iou_{name}'] for name in names if f'iou_{name}' in row}
    width = max(map(len, found), default=0)
    for name in sorted(found, key=lambda name: -np.nan_to_num(found[name], nan=-1.0)):
        value = found[name]
        text = 'not in the validation frames' if np.isnan(value) else f'{value:.3f}'
        yield f'  {name:{width}} {text}'


def draw_validation(trainer: Trainer) -> Path:
    """Draws validation frames: photo, truth and what the kept weights make of it.

    Returns:
        The picture's file.
    """
    import torch

    from anomaly_seg_ros.checkpoint.folder import Checkpoint
    from training.loop.run_folder import KEPT_FOLDER
    from training.loop.validation import at_size

    network = Checkpoint.open(trainer.out / KEPT_FOLDER).network().to(trainer.fabric.device)
    frames = trainer.validate.dataset
    places = np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int))
    tiles = []
    for index in places:
        sample = frames[int(index)]
        with torch.inference_mode():
            output = trainer.validate.output(network, sample.image)
            maps = at_size(output.class_maps, sample.labels.shape)
        found = maps[0].argmax(0).byte().cpu().numpy()
        title = f'{sample.name}: photo, labels, what the network says'
        tiles.append(draw_frame(title, sample.image, [sample.labels, found], frames.classes))
    path = trainer.out / PICTURE
    write_image(path, draw_sheet(tiles, COLUMNS, frames.classes))
    return path
