"""Whether a checkpoint can learn to be int8, measured: `python -m training.study.int8`.

Prints a row each for OpenVINO's own precision, for int8 as `export` makes it, and for int8 after a
fine-tune that is aware of it: while it learns, weights and activations are rounded as they will
be, and the network itself, unrounded, says what should come out. No labels and no outliers are
read. Nothing of this goes into a checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn, Tensor
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.engines.openvino_engine import convert, OpenVinoEngine
from anomaly_seg_ros.engines.quantization import FRAMES, quantize
from anomaly_seg_ros.engines.scored_model import load_scored_model, ScoredModel
from anomaly_seg_ros.frames.images import find_images, read_image
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.process.cores import usable_cores
from training.reporting.markdown import markdown_table

from .ingredients import ap_fpr, Fitted, Frame, Image, labelled, miou, Said
from .steps import Data

BATCH = 4
CROP = (256, 320)
ZOOM = (0.7, 1.3)
BRIGHTNESS = (0.8, 1.2)
GAMMA = (0.7, 1.4)
OOD_WEIGHT = 4.0
"""Of the outlier head's squared error beside that of the logits, which are larger."""


class Outputs(nn.Module):
    """Gives the maps that labels and score are made of, as a tuple: what NNCF can follow."""

    def __init__(self, scored: ScoredModel):
        super().__init__()
        self.network = scored.model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Takes (N, 3, H, W) normalised RGB, sides multiples of the network's stride."""
        output = self.network(images)
        return tuple(found for found in (output.logits, output.ood_logits) if found is not None)


def crops(images: Sequence[Image], scored: ScoredModel, seed: int) -> Iterator[Tensor]:
    """Gives batches of normalised crops, each zoomed, mirrored and lit at random."""
    chance = np.random.default_rng(seed)
    height, width = CROP
    while True:
        batch = []
        for _ in range(BATCH):
            zoom = chance.uniform(*ZOOM)
            image = cv2.resize(images[int(chance.integers(len(images)))], None, fx=zoom, fy=zoom)
            y, x = (chance.integers(a - b + 1) for a, b in zip(image.shape, CROP, strict=False))
            crop = image[y : y + height, x : x + width][:, :: chance.choice((-1, 1))] / 255
            lit = (crop ** chance.uniform(*GAMMA) * chance.uniform(*BRIGHTNESS)).clip(0, 1)
            batch.append(torch.from_numpy(lit.astype(np.float32)).permute(2, 0, 1))
        yield (torch.stack(batch) - scored.mean) / scored.std


def fine_tuned(
    scored: ScoredModel, images: Sequence[Image], steps: int, rate: float, seed: int
) -> ScoredModel:
    """Gives a copy whose weights have learned to be rounded.

    Args:
        scored: In evaluation mode.
        images: (H, W, 3) RGB at the network's size.
        steps: Of Adam.
        rate: Its learning rate at the first step; at the end it is 0.
        seed: Of crops and light.
    """
    import nncf

    learning = deepcopy(scored)
    teacher, student = Outputs(scored).eval(), Outputs(learning).eval()
    every = images[:: -(-len(images) // FRAMES)]
    whole = [
        (torch.from_numpy(i).permute(2, 0, 1)[None] / 255 - scored.mean) / scored.std
        for i in every
    ]
    rounded: Any = nncf.quantize(
        student,
        nncf.Dataset(whole),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(whole),
    )
    rounded.eval()  # statistics of batch norms stay
    optimizer = torch.optim.Adam(rounded.parameters(), rate)
    batches = crops(images, scored, seed)
    with tqdm(range(steps), unit='step', disable=None) as bar:
        for step in bar:
            optimizer.param_groups[0]['lr'] = rate * (1 - step / steps)
            batch = next(batches)
            with torch.no_grad():
                wanted = teacher(batch)
            errors = [(a - b).square().mean() for a, b in zip(rounded(batch), wanted, strict=True)]
            loss = errors[0] + OOD_WEIGHT * sum(errors[1:])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            bar.set_postfix(error=f'{float(loss.detach()):.3f}')
    learned = rounded.state_dict()
    own = student.state_dict()
    student.load_state_dict({key: learned[key] for key in own})
    return learning


def engine_maps(engine: OpenVinoEngine) -> Fitted:
    """Gives what an engine says of an image."""

    def maps(image: Image) -> Said:
        found = engine.infer(image)
        return Said(found.labels, found.score.astype(np.float32), np.zeros((1, 1, 1), np.float32))

    return maps


def main() -> int:
    """Measures the three and prints the table."""
    parser = tool_parser(__doc__)
    add_checkpoint(parser)
    parser.add_argument('--data', type=Path, default=Path('../shared/data'))
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--rate', type=float, default=1e-5)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    print(table(args))
    return 0


def table(args: argparse.Namespace) -> str:
    """Gives the table of the arguments of `main`."""
    checkpoint, data = Checkpoint.open(args.checkpoint), Data(args.data)
    size, score = checkpoint.meta.input_size, checkpoint.meta.score
    scored = load_scored_model(checkpoint, score).eval()
    ranges = data.camvid / 'train'
    places = find_images([ranges, data.folder / 'dashcam_normal'])
    images = [to_input_size(read_image(place), size) for place in places]
    learned = fine_tuned(scored, images, args.steps, args.rate, args.seed)
    models = {
        'auto': (convert(scored, size), 'auto'),
        'int8': (quantize(convert(scored, size), ranges, size), 'int8'),
        f'int8, {args.steps} steps': (quantize(convert(learned, size), ranges, size), 'int8'),
    }
    sets: dict[str, list[Frame]] = {
        name: labelled(dataset, root, size) for name, (dataset, root) in data.anomaly_sets.items()
    }
    lines = []
    for name, (model, precision) in models.items():
        maps = engine_maps(OpenVinoEngine(model, score, precision, usable_cores()))
        found = [ap_fpr(maps, frames) for frames in sets.values()]
        lines.append([name, miou(maps, data.camvid, size), *found])
    return markdown_table(['engine', 'mIoU, every fourth of CamVid val', *sets], lines)


if __name__ == '__main__':
    run_tool(main)
