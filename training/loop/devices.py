"""The devices that a run is on, and the processes that share it."""

from __future__ import annotations

import logging
import os
from typing import Any, cast

from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
import torch


def make_fabric(devices: int, precision: str) -> Fabric:
    """Gives what runs on one device or several.

    Under torchrun the numbers of processes and machines are those that it was started with.

    Raises:
        ValueError: No such number of devices.
    """
    machines = 1
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        devices = int(os.environ['LOCAL_WORLD_SIZE'])
        machines = int(os.environ['WORLD_SIZE']) // devices
    if devices < 1:
        raise ValueError(f'devices is {devices}; it must be 1 or more')
    if devices > torch.cuda.device_count() > 0:
        raise ValueError(f'devices is {devices}; this machine has {torch.cuda.device_count()}')
    for name in ('lightning.fabric', 'lightning.pytorch'):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Some networks hold weights that a recipe leaves unused, as ERFNet's encoder output.
    several = DDPStrategy(find_unused_parameters=True)
    return Fabric(
        devices=devices,
        num_nodes=machines,
        strategy=several if devices * machines > 1 else 'auto',
        precision=cast('Any', precision),
    )
