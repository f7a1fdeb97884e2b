"""Fills in what a recipe leaves to the machine and to the frames: keys whose value is `auto`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.frames.image_bytes import claimed_size
from anomaly_seg_ros.frames.images import read_bytes
from anomaly_seg_ros.frames.orientation import orientation
from anomaly_seg_ros.models import MODELS, stride_of
from anomaly_seg_ros.process.cores import usable_cores
from anomaly_seg_ros.process.gpu import has_gpu
from anomaly_seg_ros.registry import read_fact
from training.datasets import build_dataset, Dataset
from training.negatives.coco import ROAD_CATEGORIES

from .typed_values import convert

AUTO = 'auto'

BATCH = 8
"""Crops a step; fewer where there are fewer frames or little memory."""

GIGABYTES_A_CROP = 0.6
"""Of a training step, for 256x320 pixels in float32; EfficientNet-Lite0 takes 0.4."""

STEPS = 45
"""Of the optimiser for one frame; with more they grow as the root of their number."""

VALIDATIONS = 20
CROP = 0.72
"""Share of the input's sides; the smallest enlargement of a frame still fills a crop."""

SAMPLED = 50
"""Frames whose size is looked at."""

SAME_SHAPE = 0.03
SIDEWAYS = 5


@dataclass(frozen=True)
class SetFacts:
    """What must be known of a dataset: how many frames are learned, their shape, the classes."""

    frames: int
    aspect: float
    names: tuple[str, ...]


def fill_in(values: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Gives a recipe's values with a value in the place of each `auto`.

    Args:
        values: As `read_recipe` gives them; `outliers` may also be a folder.
        stored: Values of the run that is resumed: what was chosen once stays.

    Raises:
        FileNotFoundError: The dataset, the checkpoint `init` or a folder of outliers is missing.
        ValueError: A key has no `auto`, or what it is found from is missing.
    """
    filled = dict(values)
    for key, kind in _TYPES.items():
        if filled.get(key, AUTO) != AUTO:
            filled[key] = convert(key, kind, filled[key])
    wanted = [key for key, value in filled.items() if value == AUTO]
    folder = filled.get('outliers')
    if stored is not None:
        filled |= {key: stored[key] for key in wanted if key in stored}
        if isinstance(folder, str) and folder and 'outliers' in stored:
            filled['outliers'] = stored['outliers']
        return filled
    if unknown := [key for key in wanted if key not in _START + _FRAMES + _MACHINE]:
        known = ', '.join(sorted(_START + _FRAMES + _MACHINE))
        raise ValueError(f'{unknown[0]} has no value auto; those that have: {known}')
    facts = None
    if (isinstance(folder, str) and folder) or any(key in _FRAMES for key in wanted):
        facts = look_at(filled)
    if isinstance(folder, str):
        filled['outliers'] = find_outliers(folder, facts.names if facts else ())
    _fill_start(filled, wanted)
    for key in (key for key in _MACHINE if key in wanted):
        filled[key] = _OF_THE_MACHINE[key]()
    if facts is not None:
        _fill_frames(filled, wanted, facts)
    return filled


def look_at(values: Mapping[str, Any]) -> SetFacts:
    """Gives what must be known of the train split that a recipe names."""
    dataset = build_dataset(
        str(values.get('dataset')),
        Path(str(values.get('root'))).expanduser(),
        str(values.get('train_split', 'train')),
    )
    places = np.unique(np.linspace(0, len(dataset) - 1, SAMPLED).round().astype(int))
    sizes = [_size(dataset, int(index)) for index in places]
    aspect = float(np.median([width / height for height, width in sizes]))
    return SetFacts(len(dataset), aspect, dataset.classes.names)


def _size(dataset: Dataset, index: int) -> tuple[int, int]:
    """Gives the size of a frame, from the head of its file where it stands there."""
    files = dataset.files(index)
    if files is not None:
        data = read_bytes(files[0])
        if (size := claimed_size(data)) is not None:
            return size[::-1] if orientation(data) >= SIDEWAYS else size
    shape = dataset[index].image.shape
    return shape[0], shape[1]


def find_outliers(folder: str, names: Sequence[str]) -> dict[str, Any]:
    """Gives the options of `outliers` for a folder: COCO, ADE20K, or photos at any depth.

    Args:
        folder: As it was typed; empty for none.
        names: Classes that are learned; COCO's photos of such are left out.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if not folder:
        return {}
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {folder!r} of photos for outliers')
    pasting: dict[str, Any] = {
        'root': str(root), 'count': [0, 2], 'feather': 1.5, 'color_match': 0.3,
    }  # fmt: skip
    if instances := sorted((root / 'annotations').glob('instances*.json')):
        year = instances[0].stem.rpartition('_')[2]
        images = next((name for name in (year, 'images') if (root / name).is_dir()), 'images')
        return pasting | {
            'kind': 'coco',
            'annotations': f'annotations/{instances[0].name}',
            'images': images,
            'exclude': sorted({*ROAD_CATEGORIES, *names}),
            'min_side': 200,
            'short_side': 100,
            'scale': [0.3, 1.4],
        }
    if (root / 'annotations' / 'training').is_dir():
        return pasting | {'kind': 'ade20k', 'short_side': 140, 'scale': [0.4, 1.6], 'crop': 160}
    shapes = {'blob': 0.7, 'rectangle': 0.3}
    sizes = {'short_side': 140, 'scale': [0.4, 1.6], 'crop': 160}
    return pasting | sizes | {'kind': 'folder', 'shapes': shapes}


def _fill_start(values: dict[str, Any], wanted: Sequence[str]) -> None:
    """Fills in what follows from the checkpoint `init` and from whether outliers are pasted."""
    outliers = bool(values.get('outliers'))
    if 'objective' in wanted:
        values['objective'] = 'dense_hybrid' if outliers else 'segmentation'
    if 'objective_options' in wanted:
        hybrid = values.get('objective') == 'dense_hybrid'
        values['objective_options'] = {'beta': 0.03, 'floor': -10} if hybrid else {}
    if 'keep' in wanted:
        values['keep'] = 'last' if outliers else 'best'
    of_init = [key for key in ('model', 'model_options', 'mean', 'std') if key in wanted]
    if not of_init and 'lr_multipliers' not in wanted:
        return
    if of_init and not values.get('init'):
        raise ValueError(f'{of_init[0]} is auto, which is that of init, but init is empty')
    start = Checkpoint.open(str(values['init'])) if values.get('init') else None
    if start is not None:
        values |= {key: _of_start(key, start.meta, values) for key in of_init}
    if 'lr_multipliers' in wanted:
        values['lr_multipliers'] = dict.fromkeys(_heads(values, start), HEAD_RATE)


HEAD_RATE = 5.0
"""Factor on the learning rate of the last layer, some of whose rows begin afresh."""


def _of_start(key: str, meta: CheckpointMeta, values: Mapping[str, Any]) -> Any:
    if key != 'model_options':
        value = getattr(meta, key)
        return list(value) if isinstance(value, tuple) else value
    options = {k: v for k, v in meta.model_options.items() if k != 'outlier_head'}
    return options | ({'outlier_head': True} if values['objective'] == 'dense_hybrid' else {})


def _heads(values: Mapping[str, Any], start: Checkpoint | None) -> list[str]:
    """Gives the beginnings of the names of the last layers' weights that the network has."""
    model = str(values['model'])
    prefixes: tuple[str, ...] = read_fact('model', MODELS, model, 'classifier_prefixes', ())
    has = {'logits_ood.': bool(values.get('model_options', {}).get('outlier_head'))}
    if start is not None:  # of two published layouts it has the last layer of one
        names = start.weight_names
        has = {p: any(name.startswith(p) for name in names) for p in prefixes} | has
    return [prefix for prefix in prefixes if has.get(prefix, True)]


def _fill_frames(values: dict[str, Any], wanted: Sequence[str], facts: SetFacts) -> None:
    """Fills in what follows from the number of frames and their shape."""
    stride = stride_of(str(values['model']))
    if 'input_size' in wanted:
        meta = Checkpoint.open(str(values['init'])).meta if values.get('init') else None
        size = meta.input_size if meta is not None else (360, 480)
        values['input_size'] = list(fit_size((size[0], size[1]), facts.aspect))
    if 'crop' in wanted:
        sides = values['input_size']
        values['crop'] = [max(int(CROP * side) // stride, 2) * stride for side in sides]
    if 'batch_size' in wanted:
        pixels = math.prod(values['crop']) / (256 * 320)
        room = int(available_gigabytes() / 2 / (GIGABYTES_A_CROP * pixels))
        values['batch_size'] = max(2, min(BATCH, facts.frames, room))
    batch = convert('batch_size', 'int', values.get('batch_size', BATCH))
    per_epoch = max(facts.frames // max(batch, 1), 1)
    steps = round(STEPS * math.sqrt(facts.frames))
    if 'epochs' in wanted:
        values['epochs'] = math.ceil(steps / per_epoch)
    epochs = convert('epochs', 'int', values['epochs'])
    if 'val_every' in wanted:
        values['val_every'] = max(1, round(epochs / VALIDATIONS))
    if 'warmup_steps' in wanted:
        values['warmup_steps'] = min(50, epochs * per_epoch // 10)


def fit_size(size: tuple[int, int], aspect: float) -> tuple[int, int]:
    """Gives a size of as many pixels in another shape, sides multiples of 8.

    Args:
        size: (height, width) that a network was trained at.
        aspect: Width / height of the new frames.

    >>> fit_size((360, 480), 4 / 3), fit_size((360, 480), 16 / 9)
    ((360, 480), (312, 552))
    """
    height, width = size
    if abs(aspect / (width / height) - 1) < SAME_SHAPE:
        return size
    new_height = math.sqrt(height * width / aspect)
    return max(round(new_height / 8), 4) * 8, max(round(new_height * aspect / 8), 4) * 8


def available_gigabytes() -> float:
    """Gives the memory that a new program may take."""
    try:
        text = Path('/proc/meminfo').read_text(encoding='ascii')
        kilobytes = next(line for line in text.splitlines() if line.startswith('MemAvailable'))
        free = int(kilobytes.split()[1]) / 1e6
    except (OSError, StopIteration):
        free = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2e9
    limits = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')
    texts = [Path(name).read_text(encoding='ascii') for name in limits if Path(name).is_file()]
    return min([free, *(int(text) / 1e9 for text in texts if text.strip().isdecimal())])


def _precision() -> str:
    """Gives bf16 where the processor or the GPU computes in it; else it takes longer."""
    if has_gpu():
        import torch

        if torch.cuda.is_available():
            computes = torch.cuda.is_bf16_supported(including_emulation=False)
            return 'bf16-mixed' if computes else '16-mixed'
    try:
        flags = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return '32-true'
    return 'bf16-mixed' if 'avx512_bf16' in flags or 'amx_bf16' in flags else '32-true'


def _workers() -> int:
    return min(usable_cores(), 8)


_OF_THE_MACHINE = {'precision': _precision, 'workers': _workers}
_START = (
    'objective', 'objective_options', 'keep', 'model', 'model_options', 'mean', 'std',
    'lr_multipliers',
)  # fmt: skip
_FRAMES = ('input_size', 'crop', 'batch_size', 'epochs', 'val_every', 'warmup_steps')
_MACHINE = tuple(_OF_THE_MACHINE)
_TYPES = {
    'input_size': 'tuple[int, int]', 'crop': 'tuple[int, int]', 'model_options': 'dict[str, Any]',
}  # fmt: skip
"""Of what the others follow from."""
