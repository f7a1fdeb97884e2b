"""What the outlier head, each score, and judging frames as a whole add to a network's time.

    python -m training.bench.scores --score max_logit,dense_hybrid,dense_hybrid.step=4

All are timed in one run. The first row is the network without outlier head, its labels, and one
channel of its logits in the place of a score: what any score has to write. The second adds what
whole frames take: the output of the graph, the checkpoint's method on it, and the camera's health.
A network that has no outlier head gets an untrained one where a score needs it; weights do not
change the time.

Two builds of the same graph differ by up to 4 %, for as long as they live, by where their memory
happens to lie: each is built anew `--builds` times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anomaly_seg_ros.process.allocator import tune_allocator

tune_allocator()  # before torch comes

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import conv2d  # noqa: E402

from anomaly_seg_ros.checkpoint.folder import Checkpoint  # noqa: E402
from anomaly_seg_ros.command_line.options import add_checkpoint  # noqa: E402
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser  # noqa: E402
from anomaly_seg_ros.demo.frame_source import SYNTHETIC  # noqa: E402
from anomaly_seg_ros.engines.openvino_engine import convert, OpenVinoEngine  # noqa: E402
from anomaly_seg_ros.engines.scored_model import ScoredModel  # noqa: E402
from anomaly_seg_ros.engines.torch_engine import choose_layout  # noqa: E402
from anomaly_seg_ros.frames.preprocess import parse_size  # noqa: E402
from anomaly_seg_ros.model_output import ModelOutput  # noqa: E402
from anomaly_seg_ros.models import build_model  # noqa: E402
from anomaly_seg_ros.prediction import FRAME  # noqa: E402
from anomaly_seg_ros.process.cores import inference_threads  # noqa: E402
from anomaly_seg_ros.scores import check_options, score_class  # noqa: E402
from anomaly_seg_ros.scores.parts.pooled_features import PooledFeatures  # noqa: E402
from anomaly_seg_ros.scores.score import AnomalyScore  # noqa: E402
from anomaly_seg_ros.whole_frame.health import CameraHealth, HealthSettings  # noqa: E402
from anomaly_seg_ros.whole_frame.methods import frame_judge, FrameJudge  # noqa: E402
from training.fitting.score_option import parse_option  # noqa: E402
from training.reporting.markdown import markdown_table  # noqa: E402

from .frame import camera_images, Image  # noqa: E402
from .timing import interleave, percentiles, ratio, Samples, Work  # noqa: E402

BARE, WHOLE = 'the network', 'with whole frames judged'
HEAD, OPTION = 'ood_logits', 'outlier_head'
"""What an outlier head gives, and the option of networks that may have one."""

ENGINES = ('openvino', 'torch')


class FirstLogit(AnomalyScore):
    """The least that can stand in the place of a score."""

    needs = frozenset({'logits'})

    def forward(self, output: ModelOutput) -> Tensor:
        """Gives (N, H, W)."""
        logits = output.given('logits')
        first = logits.new_zeros(1, int(logits.shape[1]), 1, 1)
        first[0, 0] = 1
        return conv2d(logits, first)[:, 0].float()


class FirstPixel(PooledFeatures):
    """The least that can stand in the place of what is pooled of a whole frame."""

    def forward(self, output: ModelOutput) -> Tensor:
        """Gives (N, K)."""
        return torch.zeros(1, 1)


def parse_score(text: str) -> tuple[str, dict[str, Any]]:
    """Reads 'SCORE' or 'SCORE.KEY=VALUE'.

    Raises:
        ValueError: Another form, or an unknown score or option.
    """
    if '.' in text or '=' in text:
        return parse_option(text)
    check_options(text, {})
    return text, {}


def build_variants(checkpoint: Checkpoint, scores: Sequence[str]) -> dict[str, ScoredModel]:
    """Gives the bare network, that with whole frames, and one for each score as it was typed.

    Raises:
        FileNotFoundError: Its weights are missing.
        ValueError: A score is unknown or does not fit the network.
    """
    trained, meta = checkpoint.network(), checkpoint.meta
    asked = [(text, *parse_score(text)) for text in scores]
    headed = {name for _, name, _ in asked if HEAD in score_class(name).needs}
    networks = {}
    for head in {False, bool(headed)}:
        options = {k: v for k, v in meta.model_options.items() if k != OPTION}
        options |= {OPTION: True} if head else {}
        networks[head] = build_model(meta.model, meta.channels, options).eval()
        networks[head].load_state_dict(trained.state_dict(), strict=False)
    variants = {
        name: ScoredModel(networks[False], meta, 'max_logit').eval() for name in (BARE, WHOLE)
    }
    for scored in variants.values():
        scored.score = FirstLogit()
    for text, name, chosen in asked:
        options = {name: {**meta.score_options.get(name, {}), **chosen}}
        how = replace(meta, score_options=options)
        statistics = checkpoint.statistics(name)
        variants[text] = ScoredModel(networks[name in headed], how, name, statistics).eval()
    for name, scored in variants.items():
        if name != WHOLE:
            scored.pooled = FirstPixel(())
    return variants


Pool = Callable[[Image], NDArray[np.float32] | None]
"""One frame; gives what is pooled of it."""


def builders(
    variants: Mapping[str, ScoredModel], engine: str, size: tuple[int, int]
) -> dict[str, Callable[[], Pool]]:
    """Gives what builds each variant for an engine; only the building itself is done anew."""
    found: dict[str, Callable[[], Pool]] = {}
    for name, scored in variants.items():
        if engine == 'torch':
            choose_layout(scored)
            found[name] = partial(torch_pool, scored)
        else:
            found[name] = partial(openvino_pool, convert(scored, size), name)
    return found


def works(
    built: Mapping[str, Callable[[], Pool]], images: Sequence[Image], judge: FrameJudge | None
) -> dict[str, Work]:
    """Gives one frame of each variant, newly built and warm; `judge` is for `WHOLE`."""
    found = {}
    for name, build in built.items():
        found[name] = judged_work(build(), images, judge if name == WHOLE else None)
        found[name]()
    return found


def torch_pool(scored: ScoredModel) -> Pool:
    """Gives a frame of eager torch, as its engine runs it on a CPU."""

    def pool(image: Image) -> NDArray[np.float32]:
        with torch.inference_mode():
            pooled: NDArray[np.float32] = scored(torch.from_numpy(image)[None])[FRAME][0].numpy()
        return pooled

    return pool


def openvino_pool(model: Any, name: str) -> Pool:
    """Gives a frame of OpenVINO."""
    engine = OpenVinoEngine(model, name, 'auto', inference_threads())
    return lambda image: engine.infer(image).frame


def judged_work(pool: Pool, images: Sequence[Image], judge: FrameJudge | None) -> Work:
    """Gives one frame, judged as the node does it where there is a judge."""
    ready, settings = cycle(images), HealthSettings()
    health = CameraHealth()

    def work() -> None:
        nonlocal health
        image = next(ready)
        pooled = pool(image)
        if judge is not None and pooled is not None:
            health = health.after(image, judge.score(pooled), settings)

    return work


def table(found: dict[str, dict[str, Samples]]) -> str:
    """Gives a Markdown table: milliseconds, and their ratio to the bare network."""
    engines = list(found)
    head = ['score', *(f'{engine} {what}' for engine in engines for what in ('p50 ms', 'ratio'))]
    lines = []
    for name in found[engines[0]]:
        cells = [name]
        for samples in found.values():
            p50 = percentiles(samples[name].wall_ms)['p50']
            cells += [f'{p50:.2f}', f'{ratio(samples[name], samples[BARE]):.3f}']
        lines.append(cells)
    return markdown_table(head, lines)


def main() -> int:
    """Measures and prints the table."""
    parser = tool_parser(__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        '--score',
        default='max_logit,ood_posterior,dense_hybrid,dense_hybrid.step=4,dense_hybrid.step=8',
        metavar='S[.KEY=VALUE],...',
        help='default: %(default)s',
    )
    parser.add_argument('--engine', default=','.join(ENGINES), help='default: %(default)s')
    parser.add_argument('--size', default='360x480', metavar='HxW', help='default: %(default)s')
    parser.add_argument('--rounds', type=int, default=10, help='of a build (%(default)s)')
    parser.add_argument('--builds', type=int, default=5, help='of each (%(default)s)')
    args = parser.parse_args()
    engines = args.engine.split(',')
    if unknown := sorted(set(engines) - set(ENGINES)):
        raise ValueError(f'unknown engine {unknown[0]!r}; choose among: {", ".join(ENGINES)}')
    images = camera_images(SYNTHETIC, parse_size(args.size))
    images = [np.ascontiguousarray(image) for image in images]
    torch.set_num_threads(inference_threads())
    checkpoint = Checkpoint.open(args.checkpoint)
    judge = frame_judge(checkpoint)
    found = {}
    for engine in engines:
        variants = build_variants(checkpoint, args.score.split(','))
        found[engine] = {name: Samples() for name in variants}
        turns = args.builds * args.rounds * len(variants)
        with tqdm(total=turns, desc=engine, unit='turn', disable=None) as bar:
            built = builders(variants, engine, images[0].shape[:2])
            for _ in range(args.builds):
                ready = works(built, images, judge)
                timed = interleave(ready, args.rounds, progress=bar.update)
                for name, samples in timed.items():
                    found[engine][name].rounds_ms += samples.rounds_ms
    print(table(found))
    return 0


if __name__ == '__main__':
    run_tool(main)
