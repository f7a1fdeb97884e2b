"""Makes a checkpoint of a folder or a repository; never runs code that comes with it."""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.checkpoint.folder import Checkpoint, save_checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.checkpoint.weights import load_state
from anomaly_seg_ros.classes import first_names
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.parts.hf_kinds import kind_of
from anomaly_seg_ros.provenance import code_version

from .facts import read_facts
from .recipe import MODEL
from .source import find_folder

if TYPE_CHECKING:
    from torch import Tensor

BESIDE = ('criterion.', 'auxiliary_head.')
"""Beginnings of the names of weights that only the library's own training has."""

DERIVED = ('relative_position_index', 'relative_coords_table', 'position_ids')
"""Ends of the names of what older versions of the library saved and now make anew."""

WEIGHTS = ('*.safetensors', 'pytorch_model*.bin')


def import_network(place: str, out: Path) -> tuple[Checkpoint, str]:
    """Writes a checkpoint of what `hf:FOLDER_OR_REPO` names.

    Args:
        place: With the prefix or without.
        out: Folder to write.

    Returns:
        The checkpoint, and a line that says what it was made of.

    Raises:
        FileNotFoundError: There is no such folder, or no configuration or weights in it.
        ImportError: `transformers` is not installed.
        ValueError: The network is of another task, its weights do not fit, or the repository
            cannot be fetched.
    """
    folder = find_folder(place, weights=True)
    facts = read_facts(folder)
    if not any(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        raise FileNotFoundError(
            f'{str(folder)!r} has a configuration but no weights ({", ".join(WEIGHTS)}); to train '
            f'such a network from scratch give a recipe model: {place}'
        )
    model = build_model(MODEL, len(facts.classes.names), {'config': facts.config})
    weights = {f'net.{key}': value for key, value in read_weights(folder, facts.config).items()}
    load_state(model, weights, repr(str(folder)))
    meta = CheckpointMeta(
        model=MODEL,
        model_options={'config': facts.config},
        class_names=facts.classes.names,
        class_colors=facts.classes.colors,
        dynamic_classes=facts.classes.dynamic,
        mean=facts.mean,
        std=facts.std,
        input_size=facts.input_size,
        trained_on=(folder.name if Path(place).is_dir() else place,),
        training={'imported_from': place},
        commit=code_version(),
    )
    skip = model.train_only_prefixes
    kept = {k: v for k, v in model.state_dict().items() if not k.startswith(skip)}
    checkpoint = save_checkpoint(out, meta, kept)
    kind = facts.config['model_type']
    return checkpoint, f'{MODEL}, {kind}: {len(weights)} tensors, {len(meta.class_names)} classes'


def read_weights(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """Gives the weights by the library's present names, as float32.

    They go through the library, because the names of some parts have changed between its versions.

    Raises:
        ImportError: It is not installed.
        ValueError: Weights are missing, left over, of another shape, or cannot be read.
    """
    import torch

    from anomaly_seg_ros.models.hf import load_transformers

    transformers = load_transformers()
    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    auto = getattr(transformers, kind_of(config).auto_class)
    try:
        net, found = auto.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, where their names can be said
            dtype=torch.float32,
        )
    except Exception as error:
        # Damaged files and odd configurations raise whatever they lead to.
        line = ' '.join(str(error).split())[:300]
        raise ValueError(
            f'transformers cannot read the weights in {str(folder)!r}: {line}'
        ) from error
    for what in ('mismatched_keys', 'missing_keys', 'unexpected_keys'):
        keys = sorted(map(_said, found[what]))
        keys = [key for key in keys if not key.startswith(BESIDE) and not key.endswith(DERIVED)]
        if keys:
            raise ValueError(
                f'{str(folder)!r}: {len(keys)} {what.replace("_", " ")} ({first_names(keys)}); '
                'the weights are of another network than its config.json, or id2label names more '
                'or fewer classes than they have'
            )
    weights = {k: v for k, v in net.state_dict().items() if not k.startswith(BESIDE)}
    for key, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f'{str(folder)!r}: weight {key!r} is not finite; fetch it again')
    return weights


def _said(found: Any) -> str:
    """Gives a key as it is said: the library gives those of another shape with both shapes."""
    if isinstance(found, str):
        return found
    key, given, wanted = found
    return f'{key} is {tuple(given)}, not {tuple(wanted)}'
