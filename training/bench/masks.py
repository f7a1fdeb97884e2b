"""Times what is listed of a mask, and ways to send it: `python -m training.bench.masks`.

On made-up masks of round blobs, which move a few pixels from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.images import encode_image
from anomaly_seg_ros.frames.label_tables import LabelTables
from anomaly_seg_ros.frames.maps import Maps, Memory, PipelineSettings
from anomaly_seg_ros.frames.persistence import Persistence
from anomaly_seg_ros.frames.regions import find_regions
from anomaly_seg_ros.frames.resizing import resize_ids
from anomaly_seg_ros.frames.result import Prepared, Result
from anomaly_seg_ros.node.outputs import stamped_text
from anomaly_seg_ros.node.regions import regions_text, rle_content
from anomaly_seg_ros.prediction import Prediction
from anomaly_seg_ros.process.allocator import tune_allocator
from training.reporting.markdown import markdown_table

from .timing import interleave

Mask = NDArray[np.uint8]

SHARES = (0.005, 0.03, 0.2)
NETWORK_SIZES = ((448, 576), (512, 1024))
CAMERA_SIZES = ((360, 480), (1080, 1920))
BLOB = 6.0
STEP = 3
FRAMES = 8
OF_FIVE = Persistence(1, 5)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints both tables."""
    parser = tool_parser(__doc__)
    parser.add_argument('--rounds', type=int, default=50)
    args = parser.parse_args(argv)
    tune_allocator()
    cv2.setNumThreads(1)
    cases = [(size, share) for size in NETWORK_SIZES for share in SHARES]
    print(regions_table(cases, args.rounds), '\n')
    cases = [(size, share) for size in CAMERA_SIZES for share in SHARES]
    print(sending_table(cases, args.rounds))
    return 0


def masks(size: tuple[int, int], share: float) -> list[Mask]:
    """Gives (height, width) masks of some frames, with this share of their pixels set."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).standard_normal(size), (0, 0), BLOB)
    first = np.where(noise >= np.quantile(noise, 1 - share), 255, 0).astype(np.uint8)
    return [np.ascontiguousarray(np.roll(first, STEP * i, 1)) for i in range(FRAMES)]


def regions_table(cases: Sequence[tuple[tuple[int, int], float]], rounds: int) -> str:
    """Gives the times of all that is listed of a frame, and of OpenCV's statistics alone."""
    lines = []
    for size, share in cases:
        frames = masks(size, share)
        again = cycle(frames)

        def opencv(again: cycle[Mask] = again) -> None:
            cv2.connectedComponentsWithStats(next(again), connectivity=8)

        ours, theirs = medians([MovingMasks(frames), opencv], rounds)
        count = str(len(find_regions(frames[0])))
        lines.append([of(size), f'{share:.1%}', count, f'{ours:.2f}', f'{theirs:.2f}'])
    head = ['mask', 'anomalous', 'regions', 'found, followed, listed ms', 'OpenCV, found alone ms']
    return markdown_table(head, lines)


class MovingMasks:
    """Finds and follows the regions of masks in turn, lists them and writes their text."""

    def __init__(self, frames: Sequence[Mask]):
        size = frames[0].shape
        self._table = Calibration.fit(np.linspace(-5, 5, 100_001)).table()
        labels = np.zeros(size, np.uint8)
        scores = [np.where(mask, 5, -5).astype(np.float16) for mask in frames]
        predictions = [Prediction(labels, score) for score in scores]
        self._frames = cycle(list(zip(frames, predictions, strict=True)))
        self._prepared = Prepared(CameraFrame(np.zeros((*size, 3), np.uint8)), labels, 0.0, {})
        self._settings = PipelineSettings(0.99, persistence=OF_FIVE)
        self._memory = Memory()

    def __call__(self) -> None:
        """Takes the next mask."""
        mask, prediction = next(self._frames)
        maps = Maps(prediction, self._settings, 0, self._table, self._memory)
        # Every frame has these made, for /diagnostics.
        maps.__dict__.update(above=mask, judged=0.0)
        self._memory = maps.anomalies.memory
        result = Result(self._prepared, maps, LabelTables(((0, 0, 0),)))
        stamped_text(regions_text(result), 0, 0, 'camera')


def sending_table(cases: Sequence[tuple[tuple[int, int], float]], rounds: int) -> str:
    """Gives times and sizes of a mask as runs and as PNG."""
    lines = []
    for size, share in cases:
        mask = resize_ids(masks(NETWORK_SIZES[0], share)[0], size)
        runs, png = partial(as_runs, mask), partial(encode_image, mask, '.png')
        times = medians([runs, png], rounds)
        sizes = [len(runs()), len(png())]
        pairs = zip(times, sizes, strict=True)
        cells = [text for ms, size_b in pairs for text in (f'{ms:.2f}', f'{size_b / 1000:.1f}')]
        lines.append([of(size), f'{share:.1%}', *cells])
    return markdown_table(['mask', 'anomalous', 'runs ms', 'kB', 'PNG ms', 'kB'], lines)


def as_runs(mask: Mask) -> str:
    """Gives the text of `~/rle_mask`."""
    return stamped_text(rle_content(mask), 0, 0, 'camera')


def medians(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Gives the median processor time of each in ms, one thread, measured in turns."""

    def quiet(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            work()

        return run

    samples = interleave({str(i): quiet(work) for i, work in enumerate(works)}, rounds)
    return [float(np.median(found.cpu_ms)) for found in samples.values()]


def of(size: tuple[int, int]) -> str:
    """Gives a size as people read it."""
    return f'{size[0]}x{size[1]}'


if __name__ == '__main__':
    run_tool(main)
