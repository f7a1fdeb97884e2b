"""Turns a public weights file into a checkpoint; never runs code from the file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
import pickle
import re
from typing import Any, TYPE_CHECKING
import warnings

from anomaly_seg_ros.checkpoint.digests import file_sha256, refuse_lfs_pointer
from anomaly_seg_ros.checkpoint.folder import save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.checkpoint.weights import finite_float, load_state
from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.models import build_model, MODELS
from anomaly_seg_ros.models.parts.public_layout import NORMALISATIONS
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.registry import check_name, lookup
from training.datasets.classes_file import display_colors, read_classes_file
from training.hub.source import PREFIX

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly_seg_ros.models.network import Network
    from anomaly_seg_ros.models.parts.public_layout import PublicLayout

AUTO = 'auto'
WRAPPERS = ('state_dict', 'model_state_dict', 'model_state', 'model', 'net')
"""Keys under which training scripts keep the weights."""
PREFIXES = ('module.', '_orig_mod.', 'model.', 'net.')
"""What training scripts and `torch.compile` put before all keys, perhaps several of them."""
PROFILED = ('total_ops', 'total_params')
"""Last part of the keys that the profiler thop leaves in a network."""
OUTLIER_HEAD = 'logits_ood.conv.weight'
"""A file with this key has DenseHybrid's outlier head."""


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds: the state dict, and the names of what lay beside it."""

    weights: dict[str, Tensor]
    beside: frozenset[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg import_weights` takes."""
    parser.add_argument(
        'file',
        type=Path,
        nargs='?',
        metavar='FILE',
        help=".pth file with a state dict, or Detectron2's .pkl; none where the model is "
        'hf:FOLDER_OR_REPO',
    )
    parser.add_argument(
        '--model',
        required=True,
        help=f'one of: {", ".join(sorted(MODELS))}; auto: the one that has such weights; '
        'hf:FOLDER_OR_REPO: a segmenter of transformers with its weights',
    )
    parser.add_argument(
        '--void-index',
        type=int,
        metavar='N',
        help='channel that was trained as void, where the file does not tell it rightly',
    )
    parser.add_argument(
        '--repair-phase',
        action='store_true',
        help='enet: repair the logits at even rows and columns of a half-migrated void file',
    )
    parser.add_argument(
        '--expansion-activation',
        action='store_true',
        help='enet, davidtvs keys: the weights were trained by his code of before March 2021, '
        'which has one activation more in the blocks that double the size; the file does not '
        'tell, and all his public files of today are without it',
    )
    parser.add_argument(
        '--classes',
        type=Path,
        metavar='FILE',
        help='classes.yaml with the names of the channels, in their order; default: those that '
        'the public files have',
    )
    parser.add_argument(
        '--normalisation',
        choices=sorted(NORMALISATIONS),
        help='what the images were normalised with, where others than the public files were '
        'trained: mean and std of ImageNet, half (0.5 each), plain (0..1), of the public BiSeNets',
    )
    parser.add_argument('--out', type=Path, required=True, help='checkpoint folder to write')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg import_weights`."""
    if args.model.startswith(PREFIX):
        return import_folder(args)
    if args.file is None:
        raise ValueError(f'model {args.model!r} needs FILE, its weights; only hf:... needs none')
    if args.model == AUTO:
        args.model = guess_model(args.file)
    check_name('model', MODELS, args.model)
    check_name('model', [model for model in MODELS if public_layouts(model)], args.model)
    content = read_weights_file(args.file, args.model)
    layout = find_layout(content.weights, args.model, args.file)
    layout = with_normalisation(layout, content.weights, args.normalisation)
    layout = with_classes(layout, output_channels(content.weights, layout), args.classes)
    void_index, reason = find_void_index(content, layout, args.void_index)
    weights = content.weights
    if void_index is None and output_channels(weights, layout) > len(layout.classes.names):
        weights = drop_last_channel(weights, layout)
    channels = output_channels(weights, layout)
    options = dict(layout.options)
    if layout.sized is not None:
        options |= layout.sized(weights)
    if args.repair_phase:
        options['repair_phase'] = True
    if args.expansion_activation:
        options['expansion_activation'] = True
    if OUTLIER_HEAD in weights:
        options['outlier_head'] = True
    model = build_model(args.model, channels, options)
    weights = dict(model.named_as_own(weights))
    fresh = model.new_head_prefixes if layout.new_classes else ()
    load_state(model, weights, repr(str(args.file)), fresh)
    own = model.state_dict()
    meta = make_meta(args.file, args.model, layout, options, void_index)
    save_checkpoint(args.out, meta, own)
    matched = len(own.keys() & weights.keys())
    print(
        f'{args.model}, layout {layout.name}: {matched} of {len(own)} tensors matched, '
        f'void index {"none" if void_index is None else void_index} ({reason}); wrote {args.out}'
    )
    return 0


def import_folder(args: argparse.Namespace) -> int:
    """Runs the command for `hf:FOLDER_OR_REPO`.

    Raises:
        FileNotFoundError: There is no such folder, or something in it is missing.
        ValueError: Options that do not go with it, or what it holds cannot be used.
    """
    given = [args.file, args.void_index, args.classes, args.normalisation]
    given += [args.repair_phase or None]
    if any(value is not None for value in [*given, args.expansion_activation or None]):
        raise ValueError(
            f'model {args.model!r} names its own weights and classes; give it and --out alone'
        )
    from training.hub.importing import import_network

    _, line = import_network(args.model, args.out)
    print(f'{line}; wrote {args.out}')
    return 0


def make_meta(
    path: Path, model: str, layout: PublicLayout, options: dict[str, Any], void_index: int | None
) -> CheckpointMeta:
    """Gives what must travel with the weights of a public file."""
    mean, std = layout.mean_std
    return CheckpointMeta(
        model=model,
        model_options=options,
        class_names=layout.classes.names,
        class_colors=layout.classes.colors,
        dynamic_classes=layout.classes.dynamic,
        mean=mean,
        std=std,
        input_size=layout.input_size,
        void_index=void_index,
        trained_on=(layout.trained_on,),
        training={
            'imported_from': path.name,
            'sha256': file_sha256(path),
        },
        commit=code_version(),
    )


def with_normalisation(
    layout: PublicLayout, weights: Mapping[str, Tensor], name: str | None
) -> PublicLayout:
    """Gives a layout with what the images of the file were normalised with, or a name's."""
    if name is not None:
        return replace(layout, mean_std=NORMALISATIONS[name])
    if layout.normalised is not None:
        return replace(layout, mean_std=layout.normalised(weights))
    return layout


def with_classes(layout: PublicLayout, channels: int, file: Path | None) -> PublicLayout:
    """Gives a layout whose classes are those of a file, or have no names where they are others.

    Raises:
        FileNotFoundError: There is no such file of classes.
        ValueError: It does not follow its form.
    """
    if file is not None:
        return replace(layout, classes=read_classes_file(file).classes, trained_on='own classes')
    if channels - len(layout.classes.names) in (0, 1) or channels < 1:
        return layout
    names = tuple(f'class {index}' for index in range(channels))
    print(f'the {channels} channels are no known classes; --classes FILE names them')
    colors = display_colors([None] * channels)
    return replace(layout, classes=LabelSet(names, colors), trained_on='unknown classes')


def guess_model(path: Path) -> str:
    """Gives the network that a public weights file is of.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or no network has such keys.
    """
    for model in MODELS:
        weights = read_weights_file(path, model).weights
        if any(layout.classifier in weights for layout in public_layouts(model)):
            return model
    raise ValueError(
        f'{str(path)!r} holds weights of no network that is known here; choose a model among: '
        f'{", ".join(sorted(model for model in MODELS if public_layouts(model)))}'
    )


def read_weights_file(path: Path, model: str) -> WeightsFile:
    """Reads the state dict of a torch file as float32 on the CPU, by the network's own keys.

    Args:
        path: The file.
        model: A key of `MODELS`; what other parts of a training script left is taken out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a git-lfs pointer, truncated, no torch file, needs code to be read,
            holds no state dict, or a weight is not finite.
    """
    from torch import Tensor

    content = _load(path)
    beside: frozenset[str] = frozenset()
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            beside = frozenset(str(name) for name in content if name != key)
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{str(path)!r} holds no state dict; give a file of named tensors')
    weights: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f'{str(path)!r} holds no state dict: {key!r} is no tensor; the weights are looked '
                f'for at the top and under {", ".join(WRAPPERS)}'
            )
        value = finite_float(path, key, value)
        if key.rpartition('.')[2] not in PROFILED:
            weights[key] = value
    classifiers = tuple(layout.classifier for layout in public_layouts(model))
    return WeightsFile(part_of_network(without_prefixes(weights), classifiers), beside)


def part_of_network(
    weights: Mapping[str, Tensor], classifiers: tuple[str, ...]
) -> dict[str, Tensor]:
    """Gives the weights of the one part of a training script that holds the network.

    Lightning and others keep losses, metrics and averages beside it, each under its name.

    >>> import torch
    >>> one = torch.zeros(1)
    >>> list(part_of_network({'loss.w': one, 'nets.0._orig_mod.a.b': one}, ('a.b',)))
    ['a.b']
    """
    plain = {key.replace('_orig_mod.', ''): value for key, value in weights.items()}
    if any(name in plain for name in classifiers):
        return plain
    before = {
        key.removesuffix(name) for key in plain for name in classifiers if key.endswith(f'.{name}')
    }
    if not before:
        return plain
    prefix = min(before, key=len)
    return {k.removeprefix(prefix): v for k, v in plain.items() if k.startswith(prefix)}


def without_prefixes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the weights without what stands before all of their keys.

    >>> import torch
    >>> list(without_prefixes({'module.net.a': torch.zeros(1), 'module.net.b': torch.zeros(1)}))
    ['a', 'b']
    """
    kept = dict(weights)
    while prefix := next((p for p in PREFIXES if kept and all(k.startswith(p) for k in kept)), ''):
        kept = {key.removeprefix(prefix): value for key, value in kept.items()}
    return kept


class _Unread:
    """Stands for a numpy number beside the weights; takes its data and keeps nothing."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, _: object) -> None:
        pass


# The davidtvs script saves its mIoU as a numpy number, which torch refuses to read by default.
NUMBERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Unread, 'numpy.dtype'),
    (_Unread, 'numpy.dtypes.Float64DType'),
    (_Unread, 'numpy.core.multiarray.scalar'),
    (_Unread, 'numpy._core.multiarray.scalar'),
]


FORBIDDEN = re.compile(r'GLOBAL ([\w.]+)|(?:class|global|function) ([\w.]+\.[\w.]+)')
"""Where torch's refusal names what a file wants to call."""


def _load(path: Path) -> Any:
    import torch

    from training.hub.detectron2 import BEGINS, read_arrays

    if not path.is_file():
        raise FileNotFoundError(f'no weights file {str(path)!r}')
    refuse_lfs_pointer(path)
    with path.open('rb') as file:
        head = file.read(64)
    if head.startswith(BEGINS):
        with suppress(pickle.UnpicklingError):
            return read_arrays(path)
    try:
        # The warnings are about pickle dialects; what comes of them is said below.
        with torch.serialization.safe_globals(NUMBERS), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # noqa: BLE001 - damaged bytes raise whatever they lead to
        problem = error
    needs = isinstance(problem, pickle.UnpicklingError) and re.search(FORBIDDEN, str(problem))
    if needs:
        raise ValueError(
            f'{str(path)!r} holds more than tensors ({needs[1] or needs[2]}); reading that '
            'could run code, so it is refused; save model.state_dict() alone where it was made'
        ) from None
    if head.startswith(b'PK'):
        raise ValueError(
            f'cannot read {str(path)!r}: the file is truncated or damaged; copy it again'
        ) from problem
    raise ValueError(
        f'{str(path)!r} is no torch file, or truncated; give the .pth file of the weights, or '
        "Detectron2's .pkl"
    ) from problem


def public_layouts(model: str) -> tuple[PublicLayout, ...]:
    """Gives the families of public files of a network, a key of `MODELS`."""
    network: type[Network] = lookup('model', MODELS, model)
    return network.public_layouts


def find_layout(weights: Mapping[str, Tensor], model: str, path: Path) -> PublicLayout:
    """Gives the key layout of the weights.

    Raises:
        ValueError: They are of another network; the text names it where it is known.
    """
    fitting = [layout for layout in public_layouts(model) if layout.classifier in weights]
    for layout in fitting:
        if layout.new_classes:
            if _fits(weights, model, layout):
                return layout
        elif output_channels(weights, layout) == len(layout.classes.names):
            return layout
    if fitting:
        return fitting[0]
    for other in MODELS:
        if any(layout.classifier in weights for layout in public_layouts(other)):
            raise ValueError(
                f'{str(path)!r} holds weights of {other!r}, not {model!r}; use --model {other}'
            )
    expected = ' or '.join(dict.fromkeys(layout.classifier for layout in public_layouts(model)))
    raise ValueError(
        f'{str(path)!r} holds no weights of {model!r}: no key {expected} among its '
        f'{len(weights)}; is --model right?'
    )


def _fits(weights: Mapping[str, Tensor], model: str, layout: PublicLayout) -> bool:
    """Whether the network of a layout has tensors of these shapes, its head apart."""
    network = build_model(model, len(layout.classes.names), layout.options)
    kept = {key: value.shape for key, value in network.named_as_own(weights).items()}
    heads = network.new_head_prefixes
    own = network.state_dict()
    return kept == {key: value.shape for key, value in own.items() if not key.startswith(heads)}


def output_channels(weights: Mapping[str, Tensor], layout: PublicLayout) -> int:
    """Gives the number of output channels that the weights were made for.

    Where the classes of a file are left out it is the one that the network has.
    """
    if layout.new_classes:
        return len(layout.classes.names)
    classifier = weights[layout.classifier]
    rows = classifier.shape[layout.axis] if classifier.ndim > layout.axis else 0
    return rows - layout.no_object


def find_void_index(
    content: WeightsFile, layout: PublicLayout, asked: int | None
) -> tuple[int | None, str]:
    """Gives the place of the void channel, None without one, and how that is known.

    The two kinds of 20-channel files in ENet's layout 'a' have the same keys and shapes. The
    public one was written by a training script that always saves epoch and mIoU along, and counts
    'unlabeled' as class 0; whoever fine-tunes to train ids has void last.

    Raises:
        ValueError: Neither 19 nor 20 channels, or `asked` does not fit them.
    """
    channels = output_channels(content.weights, layout)
    classes = len(layout.classes.names)
    if channels not in (classes, classes + 1):
        raise ValueError(
            f'the weights have {channels} output channels; expected the {classes} classes '
            f'({layout.classes.names[0]}, ...), or {classes + 1} with void'
        )
    if asked is not None:
        if channels == classes or not 0 <= asked < channels:
            raise ValueError(
                f'--void-index {asked} does not fit {channels} output channels; '
                + (f'give 0..{classes}' if channels > classes else 'leave it out')
            )
        return asked, 'as asked'
    if channels == classes:
        return None, f'{classes} channels'
    if not layout.void_trained:
        return None, f'channel {classes} is untrained and was dropped'
    if layout.script and content.beside >= layout.beside:
        return 0, f'saved by the {layout.script} script'
    return classes, 'last channel'


def drop_last_channel(weights: Mapping[str, Tensor], layout: PublicLayout) -> dict[str, Tensor]:
    """Gives the weights without their last output channel; the others' logits stay the same."""
    kept = dict(weights)
    for key, axis in layout.per_class:
        if key in kept and kept[key].ndim > axis:
            kept[key] = kept[key].narrow(axis, 0, len(layout.classes.names)).clone()
    return kept
