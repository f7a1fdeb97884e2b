"""Labels, scores, masks and overlays of image files: `anomaly_seg predict`."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
import sys
from typing import cast, TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.engines import ENGINES, open_engine, precisions
from anomaly_seg_ros.frames.images import find_images, read_image, write_image
from anomaly_seg_ros.frames.pipeline import build_pipeline, Pipeline
from anomaly_seg_ros.frames.result import Result
from anomaly_seg_ros.frames.significant_bits import SignificantBits

if TYPE_CHECKING:
    from anomaly_seg_ros.engines.torch_engine import TorchEngine

OUTPUTS = ('overlay', 'labels', 'score', 'mask', 'logits')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg predict` takes."""
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE|DIR')
    parser.add_argument('--checkpoint', default='default', help="folder, or 'default'")
    parser.add_argument('--score', help="anomaly score; default: the checkpoint's own")
    parser.add_argument('--engine', default='auto', help=f'auto, {", ".join(ENGINES)}')
    parser.add_argument('--precision', default='auto', help=', '.join(precisions()))
    parser.add_argument(
        '--save', default='overlay', metavar='WHAT[,WHAT]', help=f'of: {", ".join(OUTPUTS)}'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')


def parse_outputs(text: str) -> tuple[str, ...]:
    """Reads a list such as 'overlay,mask'.

    Raises:
        ValueError: An unknown output.
    """
    outputs = tuple(part.strip() for part in text.split(',') if part.strip())
    for output in outputs:
        if output not in OUTPUTS:
            raise ValueError(f'unknown output {output!r}; choose of: {", ".join(OUTPUTS)}')
    if not outputs:
        raise ValueError(f'nothing to save; choose of: {", ".join(OUTPUTS)}')
    return outputs


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg predict`.

    Returns:
        0 done, 1 some images could not be read.

    Raises:
        ValueError: None could be read, or the arguments do not fit.
    """
    outputs = parse_outputs(args.save)
    paths = find_images(args.images)
    check_stems(paths)
    checkpoint = Checkpoint.open(args.checkpoint)
    wants_logits = 'logits' in outputs
    if wants_logits and args.engine not in ('auto', 'torch'):
        raise ValueError(f'logits come from engine torch only, not {args.engine!r}')
    engine = open_engine(
        checkpoint, 'torch' if wants_logits else args.engine, args.score, args.precision
    )
    pipeline = build_pipeline(engine, checkpoint.meta)
    check_calibration(outputs, checkpoint.meta, engine.score_name)
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    bits: defaultdict[Path, SignificantBits] = defaultdict(SignificantBits)
    for path in tqdm(paths, unit='image', disable=None):
        failed += not predict_one(path, bits[path.parent], pipeline, args.out, outputs)
    engine.close()
    if failed == len(paths):
        raise ValueError(f'none of the {failed} images could be read')
    for folder, found in bits.items():
        if found.bits:
            print(f'{folder}: images of 16 bits, {found.bits} of them significant')
    print(
        f'{args.out}: {", ".join(outputs)} of {len(paths) - failed} images; score '
        f'{engine.score_name}, engine {engine.name}, precision {engine.precision}'
    )
    return 1 if failed else 0


def predict_one(
    path: Path, bits: SignificantBits, pipeline: Pipeline, out: Path, outputs: Sequence[str]
) -> bool:
    """Writes the outputs of one image; one that cannot be read is said on stderr, gives False."""
    try:
        result = pipeline(read_image(path, bits))
    except (OSError, ValueError) as error:
        print(f'anomaly_seg predict: {error}', file=sys.stderr)
        return False
    save(result, pipeline, out / path.stem, outputs)
    return True


def check_stems(paths: Sequence[Path]) -> None:
    """Refuses two images whose results would have the same name.

    Raises:
        ValueError: Two paths share a stem.
    """
    files = [path for path in paths if path.is_file()]
    counts = Counter(path.stem for path in files).most_common(1)
    if counts and counts[0][1] > 1:
        stem, count = counts[0]
        first, second = [str(path) for path in files if path.stem == stem][:2]
        raise ValueError(
            f'{count} images are named {stem!r}, as {first!r} and {second!r}; their results would '
            'overwrite each other: run each folder with an --out of its own'
        )


def check_calibration(outputs: Sequence[str], meta: CheckpointMeta, score: str) -> None:
    """Refuses masks of an uncalibrated score, and warns where an overlay will lack them.

    Raises:
        ValueError: A mask is asked for and the score has no calibration.
    """
    if score in meta.calibrations:
        return
    text = f'score {score!r} of this checkpoint has no calibration; run fit_score first'
    if 'mask' in outputs:
        raise ValueError(text)
    if 'overlay' in outputs:
        print(f'warning: {text}; the overlays show classes only', file=sys.stderr)


def save(result: Result, pipeline: Pipeline, stem: Path, outputs: Sequence[str]) -> None:
    """Writes the wanted outputs of one frame as `STEM_<output>.*`."""

    def path(suffix: str) -> Path:
        return stem.with_name(stem.name + suffix)

    if 'overlay' in outputs:
        write_image(path('_overlay.png'), result.overlay)
    if 'labels' in outputs:
        write_image(path('_labels.png'), result.labels)
    if 'score' in outputs:
        np.save(path('_score.npy'), result.score)
    if 'mask' in outputs:
        write_image(path('_mask.png'), result.mask)
    if 'logits' in outputs:
        engine = cast('TorchEngine', pipeline.engine)
        np.save(path('_logits.npy'), engine.logits(result.network_input))
