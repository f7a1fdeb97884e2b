"""The physical floor of a network: its arithmetic and traffic at what this machine can do.

`python -m training.bench.floor CHECKPOINT HxW` prints it as JSON. It needs torch, so `measure`
runs it as a process of its own, and gives None where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
import json
import subprocess
import sys
import time
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser, ToolError

if TYPE_CHECKING:
    import torch

BYTES = {'fp32': 4, 'fp16': 2, 'bf16': 2, 'int8': 1}
"""Of one number."""
SIDE = {'cpu': 1536, 'cuda': 8192}
"""Of the matrices that are multiplied: 7 GFLOP, and on a GPU, where starting takes time, 1100."""
COPY_BYTES = 256 << 20
TRIES = 8


def measure(checkpoint: Checkpoint, size: tuple[int, int]) -> dict[str, Any] | None:
    """Gives 'gflop', 'numbers' and, of each device, its 'peaks'; None without torch.

    'numbers' counts what the convolutions read and write. A peak is GFLOP/s of a large matrix
    product or convolution per precision, and 'copy': GB/s read plus written.
    """
    if find_spec('torch') is None:
        return None
    command = [sys.executable, '-m', 'training.bench.floor', str(checkpoint.folder)]
    result = subprocess.run(
        [*command, f'{size[0]}x{size[1]}'], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ToolError(f'the floor could not be measured: {result.stderr.strip()}')
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def floor_of(
    found: dict[str, Any] | None, precision: str, description: str, quickest_ms: float
) -> dict[str, Any] | None:
    """Gives the floor of one engine; None where something for it is unknown.

    Args:
        found: From `measure`.
        precision: What the engine computes in.
        description: Of the engine; it names its GPU, if it uses one.
        quickest_ms: Its best measured latency: the peaks are the best of a few too.

    Returns:
        'gflop', 'mbytes', 'gflop_s', 'gb_s', 'floor_ms' and 'efficiency', its share of the
        quickest frame.
    """
    if found is None:
        return None
    device = next((name for name in found['peaks'] if name in description), 'cpu')
    peaks = found['peaks'][device]
    if peaks.get(precision) is None:
        return None
    mbytes = found['numbers'] * BYTES[precision] / 1e6
    # GFLOP over GFLOP/s is seconds; so are MB over GB/s milliseconds.
    floor_ms = max(found['gflop'] / peaks[precision] * 1e3, mbytes / peaks['copy'])
    return {
        'gflop': found['gflop'],
        'mbytes': mbytes,
        'gflop_s': peaks[precision],
        'gb_s': peaks['copy'],
        'floor_ms': floor_ms,
        'efficiency': floor_ms / quickest_ms,
    }


def count(checkpoint: Checkpoint, size: tuple[int, int]) -> tuple[float, int]:
    """Gives GFLOP of a frame (a multiply-add is two) and the numbers its convolutions move."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from anomaly_seg_ros.engines.scored_model import load_scored_model

    scored = load_scored_model(checkpoint, checkpoint.meta.score)
    numbers = 0

    def add(module: nn.Module, given: tuple[torch.Tensor, ...], gave: torch.Tensor) -> None:
        nonlocal numbers
        weights = sum(parameter.numel() for parameter in module.parameters())
        numbers += given[0].numel() + gave.numel() + weights

    for module in scored.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(add)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        scored(torch.zeros(1, *size, 3, dtype=torch.uint8))
    return counter.get_total_flops() / 1e9, numbers


def device_peaks(device: str, precisions: tuple[str, ...]) -> dict[str, float]:
    """Gives the best of a few large matrix products or convolutions, and of copies."""
    import torch

    types = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
    torch.manual_seed(0)
    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    peaks = {}
    for precision in precisions:
        side = SIDE[torch.device(device).type]
        a = torch.randn(side, side, device=device).to(types[precision])
        out = torch.empty_like(a)
        product = 2 * side**3 / _best(_matmul(a, out), wait)
        flops, convolve = _convolution(device, types[precision])
        # A library may be good at only one of them: the machine can do what the better one shows.
        peaks[precision] = max(product, flops / _best(convolve, wait)) / 1e9
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    peaks['copy'] = 2 * COPY_BYTES / _best(lambda: target.copy_(source), wait) / 1e9
    return peaks


def _convolution(device: str, kind: torch.dtype) -> tuple[float, Callable[[], object]]:
    """Gives the operations of a 3x3 convolution of 256 channels, and the convolution."""
    import torch

    images, channels, height, width = (32 if device == 'cuda' else 1), 256, 90, 120
    values = torch.randn(images, channels, height, width, device=device).to(kind)
    weight = torch.randn(channels, channels, 3, 3, device=device).to(kind)
    values = values.contiguous(memory_format=torch.channels_last)
    weight = weight.contiguous(memory_format=torch.channels_last)
    flops = 2.0 * images * channels * channels * 9 * height * width
    return flops, lambda: torch.nn.functional.conv2d(values, weight, padding=1)


def _matmul(a: torch.Tensor, out: torch.Tensor) -> Callable[[], object]:
    import torch

    return lambda: torch.mm(a, a, out=out)


def _best(work: Callable[[], object], wait: Callable[[], object]) -> float:
    """Gives the seconds of the quickest of a few runs, after one to warm up."""
    times = []
    for _ in range(TRIES + 1):
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def main() -> int:
    """Prints what `measure` gives."""
    parser = tool_parser(__doc__)
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('size', metavar='HxW')
    args = parser.parse_args()
    import torch

    from anomaly_seg_ros.frames.preprocess import parse_size
    from anomaly_seg_ros.process.cores import inference_threads

    torch.set_num_threads(inference_threads())
    gflop, numbers = count(Checkpoint.open(args.checkpoint), parse_size(args.size))
    peaks = {'cpu': device_peaks('cpu', ('fp32', 'bf16'))}
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        peaks[name] = device_peaks('cuda', ('fp32', 'fp16', 'bf16'))
    print(json.dumps({'gflop': gflop, 'numbers': numbers, 'peaks': peaks}))
    return 0


if __name__ == '__main__':
    run_tool(main)
