"""What a training step minimises, by public name.

Importing this file imports no torch, so that a recipe is checked before torch is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.registry import check_options, lookup

if TYPE_CHECKING:
    from training.losses import Loss

    from .objective import Objective

OBJECTIVES = {
    'dense_hybrid': 'training.objectives.dense_hybrid:DenseHybrid',
    'distillation': 'training.objectives.distillation:Distillation',
    'mask2anomaly': 'training.objectives.mask2anomaly:Mask2Anomaly',
    'mask_classification': 'training.objectives.mask_classification:MaskClassification',
    'nflow_js': 'training.objectives.nflow_js:NFlowJS',
    'reconstruction': 'training.objectives.reconstruction:Reconstruction',
    'rba': 'training.objectives.rba:RbA',
    'segmentation': 'training.objectives.segmentation:Segmentation',
    'uno': 'training.objectives.uno:UNO',
}

_FIXED = ('loss', 'aux_weight')


def objective_class(name: str) -> type[Objective]:
    """Gives the class of an objective, which says what it wants of outliers.

    Raises:
        ValueError: Unknown name; the text lists those that are.
    """
    kind: type[Objective] = lookup('objective', OBJECTIVES, name)
    return kind


def check_objective(name: str, options: Collection[str]) -> None:
    """Checks that an objective takes such options of a recipe; needs no torch.

    Raises:
        ValueError: It does not, or unknown name.
    """
    check_options('objective', OBJECTIVES, name, options, fixed=_FIXED)


def check_outliers(name: str, pasted: bool, void: bool) -> None:
    """Checks an objective against what a recipe pastes and learns.

    Args:
        name: A key of `OBJECTIVES`.
        pasted: Whether the recipe pastes outliers.
        void: Whether it learns a void class.

    Raises:
        ValueError: Unknown name, outliers are missing, or void would learn what it ignores.
    """
    kind = objective_class(name)
    if kind.needs_outliers and not pasted:
        raise ValueError(
            f'objective {name!r} learns from pasted outliers, but outliers is empty; set '
            'outliers.kind and outliers.root'
        )
    if kind.needs_void and not void:
        raise ValueError(
            f'objective {name!r} learns pasted outliers as the void class, but void is false; set '
            'void: true'
        )
    if kind.ignores_outliers and void:
        raise ValueError(
            f'void is true, which learns pasted pixels as a class, but objective {name!r} keeps '
            'them out of all; set void: false, or objective: segmentation'
        )


def check_loss(name: str, given: Collection[str]) -> None:
    """Checks that a loss of the recipe would be learned.

    Args:
        name: A key of `OBJECTIVES`.
        given: Keys by which the recipe asks for one.

    Raises:
        ValueError: Unknown name, or the objective has losses of its own.
    """
    if given and not objective_class(name).uses_loss:
        raise ValueError(
            f'objective {name!r} has losses of its own; remove {", ".join(given)}, or set '
            'objective: segmentation'
        )


def check_network(name: str, model: str, given: Collection[str]) -> None:
    """Checks that a network gives what an objective is made of.

    Args:
        name: A key of `OBJECTIVES`.
        model: A key of `MODELS`.
        given: Fields of `ModelOutput` that the network fills.

    Raises:
        ValueError: It does not; the text lists the objectives that it can learn by.
    """
    reads = objective_class(name).reads
    if not reads <= set(given):
        others = [other for other in OBJECTIVES if objective_class(other).reads <= set(given)]
        raise ValueError(
            f'objective {name!r} is made of {", ".join(sorted(reads))}; model {model!r} gives '
            f'{", ".join(sorted(given))}; choose one of: {", ".join(others) or "none"}'
        )


def build_objective(name: str, loss: Loss, options: Mapping[str, Any]) -> Objective:
    """Gives an objective around a loss of (logits, labels).

    Args:
        name: A key of `OBJECTIVES`.
        loss: What the logits are trained with.
        options: Keyword arguments of its constructor; the trainer adds `aux_weight`.

    Raises:
        ValueError: Unknown name or option.
    """
    check_objective(name, options.keys() - {'aux_weight'})
    kind = objective_class(name)
    try:
        return kind(loss, **options)
    except TypeError as error:
        raise ValueError(
            f'objective {name!r} does not take objective_options {dict(options)}: {error}'
        ) from None
