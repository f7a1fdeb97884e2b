"""Compares the streaming metrics with the usual way: CPU time, peak memory, equal values.

Run as `python -m training.bench.metrics --frames 100`. Each way runs in a process of its own, one
after the other, over the same frames. CPU time is that of the metric alone; making a frame is not
counted. Peak memory is that of the whole process and so holds the interpreter and one frame. The
usual way keeps every pixel: about 80 MB a frame of 1024x2048, 8 GB for 100.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import cProfile
import json
from pathlib import Path
import pstats
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.command_line.tool import run_tool, tool_parser

from .machine import cpu_name

HEIGHT, WIDTH = 1024, 2048
KEYS = ('ap', 'auroc', 'fpr95', 'best_f1')
BYTES_PER_FRAME = 100 << 20
"""What the usual way needs at its peak, measured with scikit-learn 1.9."""

SHARE_OF_MEMORY = 0.75

PARTS = {
    'check': ('check_frame',),
    'keys': ('ordered_keys',),
    'count': ('count', 'widen'),
    'sort': ("<method 'sort' of 'numpy.ndarray' objects>",),
    'join': ('_take_in', '_settle'),
}
"""What of the streaming metric's time is told apart, and the functions that it is spent in."""

ScoreMap = NDArray[np.float32]
Labels = NDArray[np.uint8]
Measured = dict[str, Any]


def make_frame(index: int) -> tuple[ScoreMap, Labels]:
    """Gives a frame like a max-logit map: 1 % anomalies, 5 % ignored, noise in every bit."""
    random = np.random.default_rng(index)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    top, left = random.integers(300, 800), random.integers(100, 1800)
    labels[top : top + 100, left : left + 210] = 1
    labels[-51:] = 255
    score = random.standard_normal((HEIGHT, WIDTH), dtype=np.float32)
    score *= 3
    score -= 15
    score[top : top + 100, left : left + 210] += 9
    return score, labels


def make_regions(index: int) -> tuple[ScoreMap, Labels]:
    """Gives a frame with many blobs in truth and prediction."""
    import cv2

    random = np.random.default_rng(index)
    noise = random.standard_normal((HEIGHT // 8, WIDTH // 8), dtype=np.float32)
    coarse = cv2.GaussianBlur(noise, (0, 0), 2.0)
    score = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    shifted = np.roll(score, 12, axis=1)
    labels = (shifted > 1.6 * shifted.std()).astype(np.uint8)
    labels[-51:] = 255
    return (score / score.std()).astype(np.float32), labels


def ours(frames: int) -> Measured:
    """The streaming metric; also tells how sure its values are."""
    from training.metrics.pixel import PixelMetrics

    metrics, cpu = PixelMetrics(), 0.0
    for index in range(frames):
        score, labels = make_frame(index)
        began = time.process_time()
        metrics.update(score, labels)
        cpu += time.process_time() - began
    began = time.process_time()
    values = metrics.compute()
    cpu += time.process_time() - began
    bounds = {key: list(interval or ()) for key, interval in metrics.bounds().items()}
    return {'cpu_s': cpu, 'bounds': bounds} | {key: values[key] for key in KEYS}


def split(frames: int) -> Measured:
    """Which share of the streaming metric's time each of `PARTS` takes."""
    from training.metrics.pixel import PixelMetrics

    metrics, profile = PixelMetrics(), cProfile.Profile()
    for index in range(frames):
        score, labels = make_frame(index)
        profile.runcall(metrics.update, score, labels)
    profile.runcall(metrics.compute)
    stats = pstats.Stats(profile).get_stats_profile()
    shares = {
        part: sum(stats.func_profiles[name].cumtime for name in names) / stats.total_tt
        for part, names in PARTS.items()
    }
    return shares | {'select, curves and all else': 1 - sum(shares.values())}


def usual(frames: int) -> Measured:
    """Every pixel in one array, then scikit-learn; FPR95 is the first TPR >= 0.95."""
    from sklearn.metrics import average_precision_score, roc_curve

    scores, truths, cpu = [], [], 0.0
    for index in range(frames):
        score, labels = make_frame(index)
        began = time.process_time()
        valid = labels != 255
        scores.append(score[valid])
        truths.append(labels[valid])
        cpu += time.process_time() - began
    began = time.process_time()
    score, truth = np.concatenate(scores), np.concatenate(truths)
    ap = average_precision_score(truth, score)
    fpr, tpr, _ = roc_curve(truth, score)
    fpr95 = fpr[np.argmax(tpr >= 0.95)]
    cpu += time.process_time() - began
    auroc = np.trapezoid(tpr, fpr)  # for the comparison alone, not counted
    return {'cpu_s': cpu, 'ap': float(ap), 'auroc': float(auroc), 'fpr95': float(fpr95)}


def our_components(frames: int) -> Measured:
    """The vectorised component metric."""
    from training.metrics.component import ComponentMetrics, TRACKS

    metrics = ComponentMetrics(1.6, TRACKS['obstacle'])
    return _time_regions(frames, metrics.update) | metrics.compute()


def usual_components(frames: int) -> Measured:
    """A loop that makes a mask of the frame for each component, as the benchmark's code does."""
    siou: list[float] = []
    ppv: list[float] = []

    def update(score: ScoreMap, labels: Labels) -> None:
        _loop_over_masks(score, labels, siou, ppv)

    result = _time_regions(frames, update)
    return result | {'siou_gt': float(np.mean(siou)), 'ppv': float(np.mean(ppv))}


def _time_regions(frames: int, update: Callable[[ScoreMap, Labels], None]) -> Measured:
    cpu = 0.0
    for index in range(frames):
        score, labels = make_regions(index)
        began = time.process_time()
        update(score, labels)
        cpu += time.process_time() - began
    return {'cpu_s': cpu}


def _loop_over_masks(score: ScoreMap, labels: Labels, siou: list[float], ppv: list[float]) -> None:
    """Adds the sIoU of each true and the PPV of each predicted component of a frame."""
    import cv2

    smallest_predicted, smallest_truth = 50, 10
    valid = labels != 255
    _, predicted = cv2.connectedComponents(((score > 1.6) & valid).view(np.uint8))
    _, truth = cv2.connectedComponents((labels == 1).view(np.uint8))
    for k in range(1, int(predicted.max()) + 1):
        mask = predicted == k
        if mask.sum() < smallest_predicted:
            predicted[mask] = 0
    for k in range(1, int(truth.max()) + 1):
        mask = truth == k
        if mask.sum() < smallest_truth:
            valid &= ~mask
            truth[mask] = predicted[mask] = 0
    for k in np.unique(truth[truth > 0]):
        mask = truth == k
        touching = np.unique(predicted[mask & (predicted > 0)])
        covered = np.isin(predicted, touching) & valid
        inside = (mask & covered).sum()
        elsewhere = (covered & (truth > 0) & ~mask).sum()
        siou.append(float(inside / (covered.sum() + mask.sum() - inside - elsewhere)))
    for k in np.unique(predicted[predicted > 0]):
        mask = predicted == k
        ppv.append(float((truth[mask] > 0).mean()))


WAYS: dict[str, Callable[[int], Measured]] = {
    'ours': ours,
    'split': split,
    'usual': usual,
    'our_components': our_components,
    'usual_components': usual_components,
}


def measure(way: str, frames: int) -> Measured:
    """Runs one way in a process of its own.

    Raises:
        RuntimeError: The process failed; the text holds the end of its output.
    """
    command = [sys.executable, '-m', 'training.bench.metrics', '--way', way, '--frames', frames]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f'{way} failed ({done.returncode}): {done.stderr[-500:]}')
    result: Measured = json.loads(done.stdout)
    return result


def frames_that_fit() -> int:
    """Gives how many frames the usual way can hold in the memory that is free now."""
    free_kb = 8 << 20
    for line in Path('/proc/meminfo').read_text(encoding='ascii').splitlines():
        if line.startswith('MemAvailable:'):
            free_kb = int(line.split()[1])
    return int(free_kb * 1024 * SHARE_OF_MEMORY / BYTES_PER_FRAME)


def compare_pixels(frames: int, usual_frames: int) -> Measured:
    """Measures both ways; the usual one at its own size if the full one does not fit."""
    full, shares = measure('ours', frames), measure('split', frames)
    del shares['peak_mb']
    result = {'frames': frames, 'ours': full, 'split': shares}
    print(f'ours:  {frames} frames, {full["cpu_s"]:.2f} s CPU, {full["peak_mb"]:.0f} MB')
    print('       ' + ', '.join(f'{part} {share:.0%}' for part, share in shares.items()))
    if not usual_frames:
        return result
    other = measure('usual', usual_frames)
    same = full if usual_frames == frames else measure('ours', usual_frames)
    print(f'usual: {usual_frames} frames, {other["cpu_s"]:.2f} s CPU, {other["peak_mb"]:.0f} MB')
    print(
        f'at {usual_frames} frames: {other["cpu_s"] / same["cpu_s"]:.1f}x less CPU time, '
        f'{other["peak_mb"] / same["peak_mb"]:.1f}x less peak memory'
    )
    for key in KEYS[:3]:
        print(f'  {key}: {same[key]:.9f}, usual {other[key]:.9f}, {same[key] - other[key]:+.1e}')
    if usual_frames < frames:
        cpu = other['cpu_s'] / usual_frames * frames
        peak = other['peak_mb'] / usual_frames * frames
        print(
            f'at {frames} frames, the usual way scaled linearly (its sort grows faster): '
            f'{cpu / full["cpu_s"]:.1f}x CPU time, {peak / full["peak_mb"]:.1f}x peak memory'
        )
    return result | {'usual_frames': usual_frames, 'usual': other, 'ours_same': same}


def compare_components(frames: int) -> Measured:
    """Measures component metrics against the loop over masks."""
    mine, other = measure('our_components', frames), measure('usual_components', frames)
    for key in ('siou_gt', 'ppv'):
        if abs(mine[key] - other[key]) > 1e-9:
            raise RuntimeError(f'{key} differs: {mine[key]} and {other[key]}')
    print(
        f'components, {frames} frames: {mine["cpu_s"]:.2f} s, loop over masks '
        f'{other["cpu_s"]:.2f} s, {other["cpu_s"] / mine["cpu_s"]:.1f}x less CPU time'
    )
    return {'frames': frames, 'ours': mine, 'usual': other}


def main() -> int:
    """Runs the comparison, or one way of it."""
    parser = tool_parser(__doc__)
    parser.add_argument('--frames', type=int, default=100)
    parser.add_argument(
        '--usual-frames',
        type=int,
        help='frames for the usual way, 0 to leave it out (default: --frames, or what fits in '
        'three quarters of the free memory)',
    )
    parser.add_argument('--component-frames', type=int, default=5)
    parser.add_argument('--out', type=Path, help='JSON file for the numbers')
    parser.add_argument('--way', choices=sorted(WAYS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        result = WAYS[args.way](args.frames)
        result['peak_mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        return 0
    usual_frames = args.usual_frames
    if usual_frames is None:
        usual_frames = min(args.frames, frames_that_fit())
    print(f'{cpu_name()}, numpy {np.__version__}')
    compared: Measured = {'cpu': cpu_name()}
    compared['pixels'] = compare_pixels(args.frames, usual_frames)
    if args.component_frames:
        compared['components'] = compare_components(args.component_frames)
    if args.out:
        args.out.write_text(json.dumps(compared, indent=1), encoding='utf-8')
    return 0


if __name__ == '__main__':
    run_tool(main)
