"""Runs a checkpoint on one image for many scores: one network pass with torch, else one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import resource
import sys
import time
from typing import cast, NamedTuple, Protocol, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.prediction import check_engine_input, Engine

if TYPE_CHECKING:
    from anomaly_seg_ros.engines.torch_engine import TorchEngine

WARM_UP = 2


class PassOutput(NamedTuple):
    """What the network says of one image, all at its own size.

    Attributes:
        labels: (h, w) train ids.
        scores: Score name to (h, w).
        logits: (K, h, w) without void, where engine and network give them.
    """

    labels: NDArray[np.uint8]
    scores: dict[str, NDArray[np.float32]]
    logits: NDArray[np.float32] | None


class NetworkPass(Protocol):
    """A checkpoint with its scores on a device.

    Attributes:
        engine: Name of the engine.
        precision: What it computes in.
        input_size: (height, width) of its images.
        description: Library version and device.
        times_ms: Score name to the milliseconds of each inference, resizing not among them.
    """

    engine: str
    precision: str
    input_size: tuple[int, int]
    description: str
    times_ms: dict[str, list[float]]

    def infer(self, image: NDArray[np.uint8]) -> PassOutput:
        """Gives labels and scores of a (h, w, 3) RGB image at `input_size`."""
        ...

    def close(self) -> None:
        """Frees the device."""
        ...


def open_pass(checkpoint: Checkpoint, engine: str, scores: Sequence[str]) -> NetworkPass:
    """Opens a checkpoint for several scores and warms it up.

    Raises:
        FileNotFoundError: A file is missing.
        ImportError: The engine's library is not installed.
        ValueError: Unknown engine or score, or one that does not fit the checkpoint.
    """
    from anomaly_seg_ros.engines.torch_engine import TorchEngine

    first = open_engine(checkpoint, engine, scores[0])
    network: NetworkPass
    if isinstance(first, TorchEngine):
        network = TorchPass(first, checkpoint, scores)
    else:
        others = [open_engine(checkpoint, engine, score) for score in scores[1:]]
        network = EnginePass([first, *others])
    blank = np.zeros((*network.input_size, 3), np.uint8)
    for _ in range(WARM_UP):
        network.infer(blank)
    for times in network.times_ms.values():
        times.clear()
    return network


def peak_mb() -> float:
    """Gives the peak memory so far in MiB: of the GPU where one is used, else of the process."""
    torch = sys.modules.get('torch')  # who has not imported it has used no GPU of its
    if torch is not None and torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class TorchPass:
    """Eager torch: the network runs once and all scores read its output."""

    def __init__(self, engine: TorchEngine, checkpoint: Checkpoint, scores: Sequence[str]):
        from anomaly_seg_ros.engines.scored_model import score_of

        self.engine, self.precision = engine.name, engine.precision
        self.input_size, self.description = engine.input_size, engine.description
        self.times_ms: dict[str, list[float]] = {score: [] for score in scores}
        self._torch = engine
        self._scores = {}
        for score in scores:
            statistics = checkpoint.statistics(score)
            built = score_of(engine.scored.model, checkpoint.meta, score, statistics)
            self._scores[score] = built.to(engine.scored.mean.device)

    def infer(self, image: NDArray[np.uint8]) -> PassOutput:
        """Gives labels, scores and logits of a (h, w, 3) RGB image at `input_size`."""
        import torch

        check_engine_input(image, self.input_size)
        maps = {}
        with torch.inference_mode():
            start = time.perf_counter()
            batch = torch.from_numpy(np.ascontiguousarray(image))[None].to(
                self._torch.scored.mean.device
            )
            output = self._torch.scored.output(batch)
            labels = output.class_maps.argmax(1)[0].to(torch.uint8).cpu().numpy()
            network_ms = (time.perf_counter() - start) * 1e3
            for name, score in self._scores.items():
                start = time.perf_counter()
                maps[name] = (
                    self._torch.scored.scored(score, batch, output)[0].float().cpu().numpy()
                )
                score_ms = (time.perf_counter() - start) * 1e3
                self.times_ms[name].append(network_ms + score_ms)
            logits = None if output.logits is None else output.logits[0].float().cpu().numpy()
        return PassOutput(labels, maps, logits)

    def close(self) -> None:
        """Frees the network."""
        self._torch.close()


class EnginePass:
    """Engines that hold one score each; the labels are those of the first."""

    def __init__(self, engines: Sequence[Engine]):
        first = engines[0]
        self.engine, self.precision = first.name, first.precision
        self.input_size, self.description = first.input_size, first.description
        self.times_ms: dict[str, list[float]] = {engine.score_name: [] for engine in engines}
        self._engines = list(engines)

    def infer(self, image: NDArray[np.uint8]) -> PassOutput:
        """Gives labels and scores of a (h, w, 3) RGB image at `input_size`."""
        labels, maps = None, {}
        for engine in self._engines:
            start = time.perf_counter()
            prediction = engine.infer(image)
            self.times_ms[engine.score_name].append((time.perf_counter() - start) * 1e3)
            maps[engine.score_name] = prediction.score.astype(np.float32, copy=False)
            labels = prediction.labels if labels is None else labels
        return PassOutput(cast('NDArray[np.uint8]', labels), maps, None)

    def close(self) -> None:
        """Frees the engines."""
        for engine in self._engines:
            engine.close()


def latency(times_ms: Mapping[str, Sequence[float]], score: str) -> dict[str, float] | None:
    """Gives the median and 95th percentile of a score's inferences, None without any."""
    if not times_ms.get(score):
        return None
    p50, p95 = np.percentile(times_ms[score], (50, 95))
    return {'p50': round(float(p50), 3), 'p95': round(float(p95), 3)}


def joined_times(parts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Gives the times of all processes by score."""
    return {score: [time for part in parts for time in part[score]] for score in parts[0]}
