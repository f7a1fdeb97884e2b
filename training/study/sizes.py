"""What a network says at several sizes of its input, measured: what `distillation` teaches.

    python -m training.study.sizes default --sizes '1' '0.5, 1, 2'

A row for each checkpoint and each entry of `--sizes`, the mean of whose logits is measured; '1' is
the network as it runs. Images are made smaller and larger from the network's own input, so that
none shows more than another; pixels are pooled at the network's size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

import numpy as np
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.engines.scored_model import load_scored_model
from training.losses import build_loss
from training.objectives.distillation import Distillation
from training.reporting.markdown import markdown_table

from .ingredients import ap_fpr, Fitted, Frame, Image, labelled, miou, Said
from .steps import Data

CAMERAS = ('obstacle21', 'anomaly21', 'static', 'lost_found')
"""How the names of the four parts of other_cameras_val begin."""


def taught(folder: str, sizes: Sequence[float]) -> Fitted:
    """Gives what a checkpoint says of an image at several sizes, as one."""
    checkpoint = Checkpoint.open(folder)
    score = load_scored_model(checkpoint, checkpoint.meta.score).score
    loss = build_loss({'cross_entropy': 1.0}, {})  # which distillation does not use
    teacher = Distillation(loss, teacher=folder, sizes=sizes)

    def maps(image: Image) -> Said:
        planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        output = teacher.taught(planes / 255)
        labels = output.class_maps[0].argmax(0).to(torch.uint8).numpy()
        return Said(labels, score(output)[0].numpy(), np.zeros((1, 1, 1), np.float32))

    return maps


def table(args: argparse.Namespace) -> str:
    """Gives the table of the arguments of `main`."""
    size, data = Checkpoint.open(args.checkpoints[0]).meta.input_size, Data(args.data)
    sets: dict[str, list[Frame]] = {}
    for name, (dataset, root) in data.anomaly_sets.items():
        parts = CAMERAS if name == 'other_cameras_val' else ('',)
        sets |= {part or name: labelled(dataset, root, size, part) for part in parts}
    lines = []
    for folder in args.checkpoints:
        for text in args.sizes:
            maps = taught(folder, [float(factor) for factor in text.split(',')])
            found = [ap_fpr(maps, frames) for frames in sets.values()]
            lines.append([folder, text, miou(maps, data.camvid, size), *found])
            print(' | '.join(lines[-1]), file=sys.stderr, flush=True)
    return markdown_table(
        ['checkpoint', 'sizes', 'mIoU, every fourth of CamVid val', *sets], lines
    )


def main() -> int:
    """Measures and prints the table."""
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT', help='of one input size')
    parser.add_argument('--sizes', nargs='+', default=['1', '0.5, 1, 2'], metavar='FACTOR,...')
    parser.add_argument('--data', type=Path, default=Path('../shared/data'))
    args = parser.parse_args()
    print(table(args))
    return 0


if __name__ == '__main__':
    run_tool(main)
