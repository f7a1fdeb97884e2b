"""What the files of a folder say of a network: configuration, classes, normalisation, size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import re
from typing import Any

from anomaly_seg_ros.classes import CAMVID, CITYSCAPES, LabelSet, STREETHAZARDS
from anomaly_seg_ros.models.parts.hf_kinds import kind_of
from anomaly_seg_ros.models.parts.public_layout import HALF, IMAGENET
from training.datasets.classes_file import display_colors

CONFIG = 'config.json'
PROCESSORS = ('preprocessor_config.json', 'processor_config.json')
OF_HALF = ('dpt', 'beit', 'vit', 'deit')
"""Image processors of the library that normalise so where their file says nothing."""
OF_SHORT_SIDE = ('mask2former', 'maskformer', 'oneformer', 'eomt')
"""Those that take one number for the shorter side; others take it for both."""
INPUT_SIZE = (512, 1024)
WIDEST = 2
"""Width over height at most, where a folder gives the shorter side alone."""

SEGMENTER = 'Segmentation'
"""In the names of the library's networks that give classes of pixels."""

NOT_KEPT = (
    '_name_or_path', '_commit_hash', 'architectures', 'auto_map', 'dtype', 'id2label', 'label2id',
    'num_labels', 'torch_dtype', 'transformers_version',
)  # fmt: skip
"""Of a configuration: what a checkpoint says itself, or what shapes no network."""


@dataclass(frozen=True)
class HubFacts:
    """What a folder says of its network.

    Attributes:
        config: Of the library, without what a checkpoint says itself.
        classes: Names of `id2label` in their order.
        mean: RGB mean that is subtracted from an image in 0..1; `std` likewise.
        std: What it is divided by.
        input_size: (height, width) of its images.
    """

    config: dict[str, Any]
    classes: LabelSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]


def read_facts(folder: Path) -> HubFacts:
    """Gives what the files of a folder say.

    Raises:
        FileNotFoundError: It has no configuration.
        ValueError: That is not JSON, of another task, or says what cannot be.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f'{str(folder)!r} has no {CONFIG}; give a folder that save_pretrained wrote'
        )
    config = _read(path)
    try:
        kind_of(config)
        _check_task(config)
        processor = _processor(folder)
        kind = str(config['model_type'])
        mean, std = _normalisation(processor, kind)
        size = _input_size(processor, config, kind)
        _check_fixed_size(config, size)
        return HubFacts(
            config={key: value for key, value in config.items() if key not in NOT_KEPT},
            classes=_classes(config),
            mean=mean,
            std=std,
            input_size=size,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{str(path)!r} is no JSON: {error}') from None
    if not isinstance(values, dict):
        raise ValueError(f'{str(path)!r} holds no JSON object')
    return values


def _processor(folder: Path) -> dict[str, Any]:
    """Gives what a folder says of the preparation of images; nothing where it says nothing."""
    for name in PROCESSORS:
        if (folder / name).is_file():
            values = _read(folder / name)
            inner = values.get('image_processor', values)
            return inner if isinstance(inner, dict) else {}
    return {}


def _check_task(config: Mapping[str, Any]) -> None:
    """Checks that a configuration was not saved by a network of another task.

    Raises:
        ValueError: It was.
    """
    given = [str(name) for name in config.get('architectures') or ()]
    if given and not any(SEGMENTER in name for name in given):
        raise ValueError(
            f'it is of {", ".join(given)}, which gives no classes of pixels; take a network '
            f'whose architectures end in {kind_of(config).auto_class.removeprefix("AutoModel")}'
        )


def _check_fixed_size(config: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Checks the size of a network that takes its own alone.

    Raises:
        ValueError: It is of another.
    """
    side = config.get('image_size')
    if config.get('is_hybrid') and size != (side, side):
        raise ValueError(
            f'a DPT with is_hybrid takes images of its image_size {side} alone, and the processor '
            f'gives {size[0]}x{size[1]}; write {side}x{side} as its size'
        )


def _classes(config: Mapping[str, Any]) -> LabelSet:
    """Gives names and colours; those of a known label set where the names are its names."""
    given = config.get('id2label') or {}
    if not isinstance(given, dict) or not given:
        raise ValueError('id2label is missing; it names the classes')
    by_id = {int(key): str(value) for key, value in given.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise ValueError(f'id2label has ids {sorted(by_id)[:8]}...; they must be 0, 1, 2, ...')
    names: list[str] = []
    for number in range(len(by_id)):
        name = by_id[number].strip() or f'class {number}'
        names.append(f'{name} {number}' if name in names else name)
    for known in (CITYSCAPES, CAMVID, STREETHAZARDS):
        if tuple(names) == known.names:
            return known
    colors = dict(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True))
    return LabelSet(tuple(names), display_colors([colors.get(name) for name in names]))


def _normalisation(
    processor: Mapping[str, Any], kind: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gives mean and std for an image in 0..1.

    What a processor leaves out is what its class of the library has.
    """
    factor = float(processor.get('rescale_factor') or 1 / 255)
    scale = 255 * factor if processor.get('do_rescale', True) else 255.0
    if not processor.get('do_normalize', True):
        return (0.0, 0.0, 0.0), (1 / scale,) * 3
    usual = HALF if _processor_of(processor, kind) in OF_HALF else IMAGENET
    mean = _three(processor.get('image_mean') or usual[0])
    std = _three(processor.get('image_std') or usual[1])
    if abs(scale - 1) < 1e-3:
        return mean, std
    return tuple(v / scale for v in mean), tuple(v / scale for v in std)


def _three(values: Any) -> tuple[float, ...]:
    """Gives one value for each colour, of three or of one for all."""
    if isinstance(values, int | float):
        return (float(values),) * 3
    return tuple(float(value) for value in values)


def _processor_of(processor: Mapping[str, Any], kind: str) -> str:
    """Gives the kind of an image processor, in small letters: by its class, or the network's."""
    names = (processor.get(f'{what}_type') for what in ('image_processor', 'feature_extractor'))
    name = str(next(filter(None, names), kind))
    return re.sub(r'(imageprocessor|featureextractor)(fast|pil)?$', '', name.lower())


def _input_size(
    processor: Mapping[str, Any], config: Mapping[str, Any], kind: str
) -> tuple[int, int]:
    """Gives (height, width)."""
    size = processor.get('size') or config.get('image_size') or INPUT_SIZE
    if processor.get('do_center_crop') and processor.get('crop_size'):
        size = processor['crop_size']
    elif isinstance(size, int) and (
        _processor_of(processor, kind) in OF_SHORT_SIDE or processor.get('keep_aspect_ratio')
    ):
        size = {'shortest_edge': size, 'longest_edge': processor.get('max_size')}
    if isinstance(size, Mapping) and 'height' in size and 'width' in size:
        height, width = int(size['height']), int(size['width'])
        # A square that keeps the aspect says how long the shorter side is.
        keeps = processor.get('keep_aspect_ratio') and height == width
        return height, WIDEST * width if keeps else width
    if isinstance(size, Mapping):
        short = int(size.get('shortest_edge') or size.get('longest_edge') or INPUT_SIZE[0])
        return short, min(int(size.get('longest_edge') or WIDEST * short), WIDEST * short)
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)
