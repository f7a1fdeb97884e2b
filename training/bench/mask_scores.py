"""Memory and time of each score of masks, labels among it, each in a process of its own.

    python -m training.bench.mask_scores --size 1024x2048 --queries 100

Made class and mask logits, masks at a quarter of the size. Memory is what the process grows by at
its peak beyond those, with glibc's allocator as the node has it: the semantics that labels are
made of count in. All masks at the size of the image would be 839 MB alone.
"""

from __future__ import annotations

from multiprocessing import get_context
import time

from tqdm import tqdm

from anomaly_seg_ros.command_line.tool import run_tool, tool_parser
from anomaly_seg_ros.frames.preprocess import parse_size
from training.reporting.markdown import markdown_table

from .peak import PeakGrowth

SCORES = ('mask_msp', 'rba', 'eam', 'uno', 'mask2anomaly', 'msp', 'entropy')
CLASSES = 19


def main(argv: list[str] | None = None) -> int:
    """Prints a table."""
    parser = tool_parser(__doc__)
    parser.add_argument('--size', default='1024x2048', help='HxW of the image')
    parser.add_argument('--queries', type=int, default=100)
    parser.add_argument('--score', default=','.join(SCORES), help='names with commas between')
    args = parser.parse_args(argv)
    size = parse_size(args.size)
    rows = []
    for score in tqdm(args.score.split(','), disable=None):
        # Each in a process of its own: what one has freed would hide what the next takes.
        with get_context('spawn').Pool(1) as pool:
            megabytes, seconds = pool.apply(measure, (score, size, args.queries))
        rows.append([score, f'{megabytes:.0f}', f'{seconds:.2f}'])
    print(markdown_table(['score', 'MB', 's'], rows))
    return 0


def measure(score: str, size: tuple[int, int], queries: int) -> tuple[float, float]:
    """Gives the growth at the peak in MB (10^6 bytes), and the seconds.

    Args:
        score: A key of `SCORES`.
        size: (height, width) of the image.
        queries: Of the network.
    """
    from anomaly_seg_ros.process.allocator import tune_allocator

    tune_allocator()
    import torch

    from anomaly_seg_ros.model_output import Extent, ModelOutput, with_semantics
    from anomaly_seg_ros.scores import build_score

    generator = torch.Generator().manual_seed(0)
    masks = (1, queries, size[0] // 4, size[1] // 4)
    output = ModelOutput(
        class_logits=torch.randn(1, queries, CLASSES + 1, generator=generator),
        void_class_logit=torch.randn(1, queries, 1, generator=generator),
        mask_logits=torch.randn(masks, generator=generator),
        extent=Extent(size, size),
    )
    fields = ('class_logits', 'void_class_logit', 'mask_logits', 'semantics')
    options = {'refine': list(range(2, 11))} if score == 'mask2anomaly' else None
    built = build_score(score, 'made', fields, options=options)
    peak = PeakGrowth()
    start = time.perf_counter()
    with torch.inference_mode():
        whole = with_semantics(output)
        built(whole)
        whole.class_maps.argmax(1)
    seconds = time.perf_counter() - start
    return peak.megabytes(), seconds


if __name__ == '__main__':
    run_tool(main)
