"""Batch norm over the global batch, so that several processes train like one.

On GPUs that is torch's own `SyncBatchNorm`, which refuses CPU tensors; here is the same for them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn, Tensor
from torch.distributed.nn import functional as differentiable


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` whose batch statistics, while training, are those of all processes together.

    Keys, running statistics and evaluation are the same as its parent's. Every process must bring
    as many pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, D, H, W) by the mean and variance of every process's N x H x W values."""
        if not self.training or self.momentum is None:
            return super().forward(x)
        values = x.float()
        mean = _over_processes(values.mean((0, 2, 3), keepdim=True))
        centred = values - mean
        variance = _over_processes(centred.square().mean((0, 2, 3), keepdim=True))
        count = torch.distributed.get_world_size() * x.numel() // x.shape[1]
        self._follow(mean.flatten(), variance.flatten() * count / max(count - 1, 1))
        normal = centred * torch.rsqrt(variance + self.eps)
        if self.affine:
            normal = normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normal.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def _over_processes(value: Tensor) -> Tensor:
    """Gives the mean over all processes; gradients cross between them too."""
    total: Tensor = differentiable.all_reduce(value)  # type: ignore[no-untyped-call]
    return total / torch.distributed.get_world_size()


def synchronise_norms(model: nn.Module, device: torch.device) -> None:
    """Puts each `BatchNorm2d` inside a network into its form for several processes."""
    if device.type == 'cuda':
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        convert(model)
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _synced(child))


def _synced(norm: nn.BatchNorm2d) -> CpuSyncBatchNorm2d:
    synced = CpuSyncBatchNorm2d(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    synced.load_state_dict(norm.state_dict())
    return synced.train(norm.training)
