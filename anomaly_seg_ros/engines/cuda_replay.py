"""A function of one tensor on a GPU: copied in, run and copied out on a stream of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Outputs = dict[str, Tensor]
WARM_UP = 3


class CudaReplay:
    """Copies a batch to the GPU, runs it and copies its outputs back.

    Through pinned host memory, so that nothing waits for other work on the GPU and one wait
    serves all three steps.

    Args:
        run: From (N, H, W, 3) uint8 on the GPU to outputs there, by name.
        batch: A batch on the CPU, of the shape that all others have.
        record: Whether to record `run` as a CUDA graph; False where it does that by itself.
    """

    def __init__(self, run: Callable[[Tensor], Outputs], batch: Tensor, record: bool = True):
        self._run = run
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._host_in = torch.empty_like(batch).pin_memory()
        self._image = batch.to('cuda')
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):  # libraries choose their kernels, which a graph cannot
                self._outputs = run(self._image)
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph() if record else None
        if self._graph is not None:
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._outputs = run(self._image)
        self._host_out = {
            name: torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
            for name, part in self._outputs.items()
        }

    def compute(self) -> None:
        """Runs on the image that lies on the GPU; to be waited for by `stream`."""
        if self._graph is None:
            self._outputs = self._run(self._image)
        else:
            self._graph.replay()

    @property
    def stream(self) -> torch.cuda.Stream:
        """The stream that everything here runs on."""
        return self._stream

    def __call__(self, batch: Tensor) -> Outputs:
        """Gives the outputs on the CPU, all the caller's."""
        self._host_in.copy_(batch)
        with torch.cuda.stream(self._stream):
            self._image.copy_(self._host_in, non_blocking=True)
            self.compute()
            for name, host in self._host_out.items():
                host.copy_(self._outputs[name], non_blocking=True)
        self._stream.synchronize()
        return {name: host.clone() for name, host in self._host_out.items()}
