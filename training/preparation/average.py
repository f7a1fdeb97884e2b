"""Averages the weights of checkpoints of one network: `python -m training.preparation.average`.

    python -m training.preparation.average CHECKPOINT CHECKPOINT... --out DIR

One that is named twice counts twice.

A stage that learns one thing better often forgets another; the mean of the weights before and
behind it keeps most of both, and costs nothing on the vehicle. It needs networks that were trained
from the same start: the mean of strangers is no network. Calibrations do not hold for other
weights and are left out; `fit_score` makes them anew.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022 (WiSE-FT), and "Model
soups", 2022.
"""
# ruff: noqa: T201

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from anomaly_seg_ros.checkpoint.folder import (
    Checkpoint,
    save_checkpoint,
    WEIGHTS_FILE,
)
from anomaly_seg_ros.checkpoint.meta import META_FILE
from anomaly_seg_ros.checkpoint.weights import read_stored
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.process.whole_file import fresh_folder
from anomaly_seg_ros.provenance import code_version

SAME = ('model', 'model_options', 'class_names', 'void_index', 'mean', 'std', 'gamma')
"""What checkpoints must have in common."""


def average(checkpoints: Sequence[Checkpoint], out: Path) -> Checkpoint:
    """Writes the checkpoint of mean weights; the rest is as in the last.

    Args:
        checkpoints: Two or more; each counts as often as it stands there.
        out: A new folder, or one of a checkpoint, which is replaced.

    Raises:
        ValueError: There is one alone, they are of different networks, or `out` holds something
            else.
    """
    if len(checkpoints) < 2:
        raise ValueError(f'{len(checkpoints)} checkpoint to average; give two or more')
    last = checkpoints[-1]
    for other in checkpoints[:-1]:
        different = [k for k in SAME if getattr(other.meta, k) != getattr(last.meta, k)]
        if different:
            raise ValueError(
                f'{str(other.folder)!r} and {str(last.folder)!r} have other {different}; '
                'average checkpoints of one network'
            )
    means = mean_weights([checkpoint.network_weights() for checkpoint in checkpoints])
    stored = read_stored(last.folder / WEIGHTS_FILE, means)
    recipe = {key: value for key, value in last.meta.training.items() if key == 'recipe'}
    meta = replace(
        last.meta,
        temperature=1.0,
        fitted={},
        fitted_network={},
        frame=None,
        frame_cameras={},
        calibrations={},
        calibrated_on={},
        thresholds={},
        cameras={},
        trained_on=tuple(dict.fromkeys(n for c in checkpoints for n in c.meta.trained_on)),
        training=recipe | {'averaged': [checkpoint.weights_sha256 for checkpoint in checkpoints]},
        commit=code_version(),
    )
    weights = {key: mean.to(stored[key].dtype) for key, mean in means.items()}
    with fresh_folder(out, META_FILE) as fresh:
        return replace(save_checkpoint(fresh, meta, weights), folder=out)


def mean_weights(all_weights: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Gives the mean of each tensor, computed in float64; counters are those of the last."""
    means = dict(all_weights[-1])
    for key, value in means.items():
        if value.is_floating_point():
            means[key] = torch.stack([weights[key].double() for weights in all_weights]).mean(0)
    return means


def main(argv: list[str] | None = None) -> int:
    """Averages and writes."""
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT', help='folder')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    args = parser.parse_args(argv)
    made = average([Checkpoint.open(name) for name in args.checkpoints], args.out)
    print(f'the mean of {len(args.checkpoints)} checkpoints: {made.folder}')
    return 0


if __name__ == '__main__':
    run_tool(main)
