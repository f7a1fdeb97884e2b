"""How near each search of `dnp` and `cdnp` comes to comparing with the whole bank, and its time.

    python -m training.bench.neighbours --checkpoint C --dataset folder --root DIR

The checkpoint has a bank from `fit_score`. Each search answers for the same features of the same
frames; `exact` is what the others are held against, and MB what the process grows by at most.
`ivf` and `flat` are those of the library faiss (`pip install faiss-cpu`), which no exported graph
can hold. Recall is the share of the found distances that are no larger than the exact k-th; the
rank correlation is over all cells, AP over all labelled pixels at the network's size, of the
distance alone and, for `cdnp`, of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from tqdm import tqdm

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.engines.scored_model import load_scored_model, ScoredModel
from anomaly_seg_ros.engines.torch_engine import place
from anomaly_seg_ros.frames.resizing import resize_ids
from anomaly_seg_ros.process.cores import inference_threads
from anomaly_seg_ros.scores.dnp import DNP
from anomaly_seg_ros.scores.parts.neighbours import exact, FAR, tiled
from training.datasets import build_dataset, Dataset
from training.evaluation.resizing import network_input
from training.metrics.pixel import PixelMetrics
from training.reporting.markdown import markdown_table

from .peak import PeakGrowth

Search = Callable[[Tensor], Tensor]
"""(N, D, h, w) features without the bank's mean to (N, h, w, k) squared distances."""

EXACT = 'exact'
SLACK = 1e-4
"""Share of a distance that rounding may make of it."""


class Found(NamedTuple):
    """What a search gave for one frame.

    Attributes:
        near: (h, w, k) distances.
        pixels: Score at every pixel of the network's size.
    """

    near: NDArray[np.float32]
    pixels: NDArray[np.float32]


def searches(score: DNP) -> dict[str, Search]:
    """Gives the searches of a bank by name.

    Raises:
        ImportError: The library faiss is not installed.
    """
    bank = score.bank.float()
    rows, squares = bank.flatten(0, 1), score.squares.flatten()
    k = score.k
    found: dict[str, Search] = {EXACT: lambda cells: exact(cells, rows, squares, k)}
    if not score.exact:
        found['tiles'] = lambda cells: tiled(
            cells, bank, score.squares, score.ranking, score.probed, k
        )
    import faiss

    faiss.omp_set_num_threads(inference_threads())
    vectors = rows[squares < FAR].numpy()
    lists = max(1, int(4 * len(vectors) ** 0.5) // 2)
    for name, key, probes in (('flat', 'Flat', 0), ('ivf', f'IVF{lists},Flat', 8)):
        index: Any = faiss.index_factory(vectors.shape[1], key)
        index.train(vectors)
        index.add(vectors)
        if probes:
            index.nprobe = probes
        found[f'faiss {name}'] = _by_index(index, k)
    return found


def _by_index(index: Any, k: int) -> Search:
    def search(cells: Tensor) -> Tensor:
        queries = np.ascontiguousarray(cells.flatten(2).transpose(1, 2).flatten(0, 1).numpy())
        near = torch.from_numpy(index.search(queries, k)[0])
        return near.clamp(min=0).view(len(cells), *cells.shape[2:], k)

    return search


def found_by(
    ways: Mapping[str, Search],
    scored: ScoredModel,
    image: Tensor,
    times: dict[str, list[float]],
    peaks: dict[str, list[float]],
) -> dict[str, Found]:
    """Gives what each search finds in one image."""
    score: Any = scored.score
    output = scored.output(image)
    cells, stride = score.cells(output)
    found = {}
    for name, search in ways.items():
        peak, start = PeakGrowth(), time.perf_counter()
        near = search(cells).sqrt()
        times.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
        peaks.setdefault(name, []).append(peak.megabytes())
        pixels = score.joined(output, near.mean(3), stride)
        found[name] = Found(near[0].numpy(), pixels[0].numpy())
    return found


def measure(scored: ScoredModel, dataset: Dataset, size: tuple[int, int]) -> list[list[str]]:
    """Gives a line of the table for each search."""
    score: Any = scored.score
    ways = searches(score)
    metrics = {name: PixelMetrics() for name in ways}
    times: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    hits = dict.fromkeys(ways, 0.0)
    means: dict[str, list[NDArray[np.float32]]] = {name: [] for name in ways}
    for index in tqdm(range(len(dataset)), desc='searches', unit='frame', disable=None):
        sample = dataset[index]
        image = torch.from_numpy(network_input(sample.image, size, 'exact'))[None]
        with torch.inference_mode():
            found = found_by(ways, scored, image, times, peaks)
        furthest = found[EXACT].near.max(2, keepdims=True) * (1 + SLACK)
        for name, (near, pixels) in found.items():
            hits[name] += float((near <= furthest).mean()) / len(dataset)
            means[name].append(near.mean(2).ravel())
            if sample.anomaly is not None:
                metrics[name].update(pixels, resize_ids(sample.anomaly, size), sample.name)
    lines = []
    for name in ways:
        ap = metrics[name].compute()['ap']
        lines.append(
            [
                name,
                f'{100 * hits[name]:.2f}',
                f'{rank_correlation(means[name], means[EXACT]):.5f}',
                '-' if ap is None else f'{100 * ap:.2f}',
                f'{np.median(times[name]):.1f}',
                f'{max(peaks[name]):.0f}',
            ]
        )
    return lines


def rank_correlation(a: list[NDArray[np.float32]], b: list[NDArray[np.float32]]) -> float:
    """Gives Spearman's correlation of values that hardly ever tie."""
    ranks = [np.concatenate(values).argsort().argsort() for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def main() -> int:
    """Measures and prints the table."""
    parser = tool_parser(__doc__)
    parser.add_argument('--checkpoint', required=True, help='folder, fitted for the score')
    parser.add_argument('--score', default='cdnp', choices=['dnp', 'cdnp'])
    parser.add_argument('--dataset', required=True, help='frames with anomaly labels')
    parser.add_argument('--root', type=Path, required=True, help='folder of the dataset')
    args = parser.parse_args()
    checkpoint = Checkpoint.open(args.checkpoint)
    scored = load_scored_model(checkpoint, args.score)
    place(scored, inference_threads())
    scored.cpu()
    dataset = build_dataset(args.dataset, args.root)
    lines = measure(scored, dataset, checkpoint.meta.input_size)
    print(markdown_table(['search', 'recall, %', 'rank correlation', 'AP', 'p50 ms', 'MB'], lines))
    return 0


if __name__ == '__main__':
    run_tool(main)
