"""The reference engine: eager torch, on the GPU where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.prediction import Prediction, split_outputs, stack_images

from .facts import EngineFacts, TORCH

if TYPE_CHECKING:
    import torch

    from .cuda_replay import CudaReplay
    from .scored_model import ImageModel

FACTS = EngineFacts(
    library='torch',
    install=' '.join(TORCH.values()),
    precisions=('auto', 'fp32', 'bf16', 'fp16'),
    exports=False,
)

_TYPES = {'bf16': 'bfloat16', 'fp16': 'float16'}

UNRECORDED = frozenset({'mask2anomaly', 'hf'})
"""Networks that no CUDA graph can hold: transformers' decoder of masks copies lists to the GPU."""


def versions() -> dict[str, str]:
    """Gives the version of torch."""
    import torch

    return {'torch': str(torch.__version__)}


def device() -> str:
    """Gives the GPU's name, 'CPU' without one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'


def runs(precision: str) -> bool:
    """Whether this device can run a precision: each can."""
    return True


def build(
    checkpoint: Checkpoint, score: str, precision: str, input_size: tuple[int, int], threads: int
) -> TorchEngine:
    """Loads a checkpoint.

    Raises:
        ValueError: The checkpoint, score or precision does not fit.
    """
    return TorchEngine(checkpoint, score, precision, input_size, threads)


def choose_layout(model: ImageModel) -> None:
    """Puts the weights into the memory layout that this network is fastest in."""
    import torch

    if model.model.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def place(model: ImageModel, threads: int, exact: bool = True) -> torch.device:
    """Puts a model where it runs fastest, the GPU where there is one, and gives that device.

    Args:
        model: In any mode.
        threads: Of the CPU, for all that torch does from now on.
        exact: Whether a GPU must not round factors to half precision.
    """
    import torch

    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.set_num_threads(threads)
    choose_layout(model.to(device))
    if device.type == 'cuda' and exact:
        torch.backends.cudnn.allow_tf32 = False
    return device


class TorchEngine:
    """Runs a checkpoint with eager torch; 'bf16' and 'fp16' by autocast, the score in float32.

    On a GPU each batch size becomes a CUDA graph at its first use, but of `UNRECORDED`.
    `torch.compile` is left out: on the CPU it costs 5 to 100 s at start, needs a C++ compiler and
    gains nothing over OpenVINO.

    Raises:
        ValueError: The checkpoint, score or precision does not fit.
    """

    name = 'torch'

    def __init__(
        self,
        checkpoint: Checkpoint,
        score: str,
        precision: str,
        input_size: tuple[int, int],
        threads: int,
    ):
        import torch

        from .scored_model import load_scored_model

        self.precision = 'fp32' if precision == 'auto' else precision
        if self.precision not in FACTS.precisions:
            raise ValueError(
                f"engine 'torch' has no precision {precision!r}; "
                f'choose one of: {", ".join(FACTS.precisions)}'
            )
        self.score_name, self.input_size, self.reason = score, input_size, ''
        self.device = device()
        self.description = f'torch {torch.__version__}, {self.device}, {threads} threads'
        self.scored = load_scored_model(checkpoint, score)
        # In float32 it is the reference.
        self._device = place(self.scored, threads, exact=self.precision == 'fp32')
        self._records = checkpoint.meta.model not in UNRECORDED
        self._replays: dict[int, CudaReplay] = {}

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`."""
        return self.infer_batch([image])[0]

    def infer_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Gives labels and score of each (H, W, 3) RGB image at `input_size`."""
        import torch

        batch = torch.from_numpy(stack_images(images, self.input_size))
        outputs = self._on_gpu(batch) if self._device.type == 'cuda' else self._run(batch)
        return split_outputs({name: part.numpy() for name, part in outputs.items()})

    def _run(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        import torch

        with torch.inference_mode(), self._autocast():
            outputs: dict[str, torch.Tensor] = self.scored(batch)
        return outputs

    def _autocast(self) -> torch.autocast:
        """Gives the context of the engine's precision."""
        import torch

        kind = getattr(torch, _TYPES[self.precision]) if self.precision in _TYPES else None
        # No cache of cast weights in a CUDA graph: its memory would be freed behind it.
        cached = self._device.type == 'cpu'
        return torch.autocast(
            self._device.type, kind, enabled=kind is not None, cache_enabled=cached
        )

    def _on_gpu(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        from .cuda_replay import CudaReplay

        if (replay := self._replays.get(len(batch))) is None:
            replay = self._replays[len(batch)] = CudaReplay(self._run, batch, self._records)
        return replay(batch)

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Gives (C, H, W) float32 logits in train-id order, void last where there is one.

        Raises:
            ValueError: The network gives none.
        """
        import torch

        batch = torch.from_numpy(stack_images([image], self.input_size)).to(self._device)
        with torch.inference_mode(), self._autocast():
            output = self.scored.output(batch)
        if output.logits is None:
            raise ValueError(
                'this network gives no logits, masks show its classes; leave logits out of --save'
            )
        parts = [output.logits]
        if output.void_logit is not None:
            parts.append(output.void_logit)
        logits: NDArray[np.float32] = torch.cat(parts, 1)[0].float().cpu().numpy()
        return logits

    def close(self) -> None:
        """Frees the network."""
        import torch

        self._replays.clear()
        del self.scored
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
