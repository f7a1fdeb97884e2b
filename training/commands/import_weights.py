"""Turns a public weights file into a checkpoint; never runs code from the file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.checkpoint.digests import file_sha256
from anomaly_seg_ros.checkpoint.folder import save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.checkpoint.weights import load_state
from anomaly_seg_ros.models import build_model, MODELS
from anomaly_seg_ros.models.parts.public_layout import NORMALISATIONS
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.registry import check_name
from training.hub.source import PREFIX
from training.public_weights.file import guess_model, read_weights_file
from training.public_weights.layouts import (
    drop_last_channel,
    find_layout,
    find_void_index,
    output_channels,
    public_layouts,
    UNKNOWN,
    with_classes,
    with_normalisation,
)

if TYPE_CHECKING:
    from anomaly_seg_ros.models.parts.public_layout import PublicLayout

AUTO = 'auto'
OUTLIER_HEAD = 'logits_ood.conv.weight'
"""A file with this key has DenseHybrid's outlier head."""


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
    if layout.trained_on == UNKNOWN:
        channels = len(layout.classes.names)
        print(f'the {channels} channels are no known classes; --classes FILE names them')
    void_index, reason = find_void_index(content.weights, content.beside, layout, args.void_index)
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
