"""The reference engine: eager torch, on the GPU where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import torch

from anomaly_seg_ros.engines.scored_model import load_scored_model
from anomaly_seg_ros.prediction import check_engine_input, Prediction

_TYPES = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class TorchEngine:
    """Runs a checkpoint with eager torch; 'bf16' and 'fp16' by autocast, the score in float32.

    Raises:
        ValueError: The checkpoint, score or precision does not fit.
    """

    name = 'torch'

    def __init__(
        self,
        checkpoint: Path,
        score: str,
        precision: str,
        input_size: tuple[int, int],
        threads: int,
    ):
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self.precision = 'fp32' if precision == 'auto' else precision
        if self.precision not in _TYPES:
            raise ValueError(
                f"engine 'torch' has no precision {precision!r}; "
                f'choose one of: auto, {", ".join(_TYPES)}'
            )
        self.score_name = score
        self.input_size = input_size
        device = torch.cuda.get_device_name() if self.device.type == 'cuda' else 'CPU'
        self.description = f'torch {torch.__version__}, {device}, {threads} threads'
        torch.set_num_threads(threads)
        self.scored = load_scored_model(checkpoint, score).to(self.device)
        self.scored.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _batch(self, image: NDArray[np.uint8]) -> torch.Tensor:
        check_engine_input(image, self.input_size)
        return torch.from_numpy(np.ascontiguousarray(image))[None].to(self.device)

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        """Gives labels and score of a (H, W, 3) RGB image at `input_size`."""
        kind = _TYPES[self.precision]
        batch = self._batch(image)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, kind, enabled=kind is not None),
        ):
            labels, score = self.scored(batch)
        return Prediction(labels[0].cpu().numpy(), score[0].cpu().numpy())

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Gives (C, H, W) float32 logits in train-id order, void last where there is one."""
        batch = self._batch(image)
        with torch.inference_mode():
            output = self.scored.output(batch)
        parts = (
            [output.logits] if output.void_logit is None else [output.logits, output.void_logit]
        )
        logits: NDArray[np.float32] = torch.cat(parts, 1)[0].float().cpu().numpy()
        return logits

    def close(self) -> None:
        """Frees the network."""
        del self.scored
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()
