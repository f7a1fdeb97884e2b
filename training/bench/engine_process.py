"""An engine in a process of its own, which times frames when it is told to and sleeps otherwise.

`EngineProcess` is the side that tells. Used where one engine's memory or allocator must not be
mixed with another's, and beside the node, whose own process cannot be timed from outside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
import json
import subprocess
import sys
import time
from typing import Any

from anomaly_seg_ros.command_line.tool import ToolError

from .machine import ALLOCATORS, ended, page_faults, process_memory_mb, variables

NETWORK = 'network'
TRAINING = 'training'
CLOSE_TIMEOUT_S = 10.0


class EngineProcess:
    """Starts the process and waits until its engine is open.

    Args:
        call: `EngineCall.to_json()` of the engine.
        source: Of the images.
        image_size: (height, width) of the camera.
        allocator: A key of `ALLOCATORS`.

    Attributes:
        about: What the engine says of itself: 'name', 'precision', 'description', 'score'.

    Raises:
        ToolError: The engine does not open; the text is its error.
    """

    def __init__(
        self, call: str, source: str, image_size: tuple[int, int], allocator: str = 'tuned'
    ):
        command = [sys.executable, '-m', 'training.bench.engine_process', '--call', call]
        command += ['--source', source, '--image', f'{image_size[0]}x{image_size[1]}']
        with variables(ALLOCATORS[allocator]):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        try:
            self.about = self._read()
        except RuntimeError:
            self.close()
            raise

    def run(self, frames: int, work: str = NETWORK, period_s: float = 0.0) -> dict[str, Any]:
        """Times frames.

        Args:
            frames: How many.
            work: 'network', 'training' (torch, two images), or a key of `FRAMES`.
            period_s: From the start of one frame to that of the next; 0 for back to back.

        Returns:
            'wall_ms' and 'cpu_ms' of each frame, 'page_faults' of all of them, 'memory_mb'.
        """
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps({'frames': frames, 'work': work, 'period_s': period_s}) + '\n')
        stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('{'):  # libraries may print what they like
                answer: dict[str, Any] = json.loads(line)
                if 'error' in answer:
                    raise ToolError(answer['error'])
                return answer
        raise ToolError(f'an engine process {ended(self._process.wait())}')

    def close(self) -> None:
        """Ends the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def peak_memory(call: str, source: str, image_size: tuple[int, int]) -> dict[str, float]:
    """Gives the memory in MiB of a process that has opened the engine and run a few frames."""
    with EngineProcess(call, source, image_size) as process:
        memory: dict[str, float] = process.run(3)['memory_mb']
        return memory


def main() -> int:
    """Opens the engine, then answers one line of JSON on stdin with one on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--call', required=True, help='EngineCall as JSON')
    parser.add_argument('--source', required=True)
    parser.add_argument('--image', required=True, help='HxW')
    args = parser.parse_args()
    try:
        answer_all(args.call, args.source, args.image)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        _say({'error': str(error)})
        return 1
    return 0


def answer_all(call_text: str, source: str, image: str) -> None:
    """Answers requests until stdin ends."""
    import cv2

    from anomaly_seg_ros.checkpoint.folder import Checkpoint
    from anomaly_seg_ros.frames.pipeline import build_pipeline
    from anomaly_seg_ros.frames.preprocess import parse_size
    from anomaly_seg_ros.process.cores import picture_threads
    from anomaly_seg_ros.whole_frame.methods import frame_judge

    from .candidates import EngineCall
    from .frame import camera_images, frame_work, FRAMES, network_work

    cv2.setNumThreads(picture_threads())
    call = EngineCall.from_json(call_text)
    engine = call.open()
    checkpoint = Checkpoint.open(call.checkpoint)
    pipeline = build_pipeline(engine, checkpoint.meta, judge=frame_judge(checkpoint))
    images = camera_images(source, parse_size(image))
    works = {NETWORK: network_work(engine, images)}
    for _ in range(2):
        works[NETWORK]()
    _say(
        {
            'name': engine.name,
            'precision': engine.precision,
            'description': engine.description,
            'score': engine.score_name,
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        name = request['work']
        if name not in works:  # only now: its messages would count as the engine's memory
            if name == TRAINING:
                works[name] = training_work(call.checkpoint)
            else:
                works[name] = frame_work(pipeline, images, FRAMES[name])
            works[name]()
        _say(_timed(works[name], request['frames'], request['period_s']))
    engine.close()


def training_work(folder: str) -> Callable[[], None]:
    """Gives a training step of the checkpoint's network on two made images."""
    import torch

    from anomaly_seg_ros.checkpoint.folder import Checkpoint
    from anomaly_seg_ros.models.forward import forward_padded

    checkpoint = Checkpoint.open(folder)
    model, meta = checkpoint.network(), checkpoint.meta
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    images = torch.rand(2, 3, *meta.input_size)
    labels = torch.randint(len(meta.class_names), (2, *meta.input_size))

    def work() -> None:
        logits = forward_padded(model, images).given('logits')
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return work


def _timed(work: Any, frames: int, period_s: float) -> dict[str, Any]:
    wall_ms, cpu_ms = [], []
    faults = page_faults()
    due = time.monotonic()
    for _ in range(frames):
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + period_s, time.monotonic())
        cpu, began = time.process_time(), time.perf_counter()
        work()
        wall_ms.append((time.perf_counter() - began) * 1e3)
        cpu_ms.append((time.process_time() - cpu) * 1e3)
    return {
        'wall_ms': wall_ms,
        'cpu_ms': cpu_ms,
        'page_faults': page_faults() - faults,
        'memory_mb': process_memory_mb() | gpu_memory_mb(),
    }


def gpu_memory_mb() -> dict[str, float]:
    """Gives 'gpu', the MiB in use on the GPU where torch has opened one in this process.

    Of the whole device, because TensorRT and ONNX Runtime allocate past torch: measure on a GPU
    that nobody else uses.
    """
    torch = sys.modules.get('torch')
    if torch is None or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {'gpu': (total - free) / 2**20}


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + '\n')
    sys.stdout.flush()


if __name__ == '__main__':
    sys.exit(main())
