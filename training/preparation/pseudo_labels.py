"""Labels frames with what a checkpoint is sure of, as a set of `dataset: classes`.

    python -m training.preparation.pseudo_labels --checkpoint TEACHER FRAMES... --out DIR

A pixel gets the class whose probability, the mean over the frame and its mirror image, reaches
`--confidence`; all others are void. The set is learned beside labelled frames by `also:` of a
recipe, so that roads of other cameras become roads.
"""
# ruff: noqa: T201

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
import yaml

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.engines.torch_engine import TorchEngine
from anomaly_seg_ros.frames.images import find_images, read_image, write_image
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.process.cores import usable_cores


class Teacher:
    """A checkpoint's class probabilities, averaged over a frame and its mirror image.

    Args:
        checkpoint: Its void class, where it has one, takes no part.
    """

    def __init__(self, checkpoint: Checkpoint):
        meta = self.meta = checkpoint.meta
        threads = usable_cores()
        self.engine = TorchEngine(checkpoint, meta.score, 'fp32', meta.input_size, threads)

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """Gives (K, H, W) probabilities of a (H, W, 3) RGB frame, at the frame's size."""
        frame = to_input_size(image, self.meta.input_size)
        mirrored = self._probabilities(np.ascontiguousarray(frame[:, ::-1])).flip(-1)
        mean = (self._probabilities(frame) + mirrored) / 2
        return functional.interpolate(mean[None], image.shape[:2], mode='bilinear')[0]

    def _probabilities(self, frame: NDArray[np.uint8]) -> Tensor:
        logits = torch.from_numpy(self.engine.logits(frame))
        return logits[: len(self.meta.class_names)].softmax(0)


def sure_labels(probabilities: Tensor, confidence: float) -> NDArray[np.uint8]:
    """Gives (H, W) ids of the likeliest class, 255 where its probability is below `confidence`.

    Args:
        probabilities: (K, H, W).
        confidence: 0..1.
    """
    highest, ids = probabilities.max(0)
    labels: NDArray[np.uint8] = ids.byte().where(highest >= confidence, IGNORE).numpy()
    return labels


def label_frames(
    teacher: Teacher, paths: list[Path], confidence: float, out: Path
) -> Iterator[float]:
    """Writes the set frame by frame; gives the share of each frame's pixels that got a class.

    Raises:
        ValueError: A frame is no image.
    """
    for folder in ('images', 'labels'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    names = teacher.meta.class_names
    classes = [
        {'name': name, 'id': number, 'color': list(color)}
        for number, (name, color) in enumerate(zip(names, teacher.meta.class_colors, strict=True))
    ]
    # All of them are to be learned.
    content = {'classes': classes, 'void': [IGNORE], 'splits': {'val': 0}}
    text = yaml.safe_dump(content, sort_keys=False)
    (out / 'classes.yaml').write_text(text, encoding='utf-8')
    for number, path in enumerate(paths):
        image = read_image(path)
        labels = sure_labels(teacher(image), confidence)
        # Frames of several folders may be of one name.
        stem = f'{number:05d}_{path.stem}'
        write_image(out / 'images' / f'{stem}.png', image)
        write_image(out / 'labels' / f'{stem}.png', labels)
        yield float((labels != IGNORE).mean())


def main() -> int:
    """Labels and writes."""
    parser = tool_parser(__doc__)
    parser.add_argument('frames', nargs='+', type=Path, metavar='FRAMES')
    add_checkpoint(parser, required=True)
    parser.add_argument('--confidence', type=float, default=0.9, help='default: %(default)s')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    args = parser.parse_args()
    paths = find_images(args.frames)
    teacher = Teacher(Checkpoint.open(args.checkpoint))
    with tqdm(total=len(paths), unit='frame', leave=False, disable=None) as bar:
        shares = []
        for share in label_frames(teacher, paths, args.confidence, args.out):
            shares.append(share)
            bar.update()
    print(
        f'{len(shares)} frames, {100 * np.mean(shares):.0f} % of pixels have a class: {args.out}'
    )
    return 0


if __name__ == '__main__':
    run_tool(main)
