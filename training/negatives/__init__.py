"""Sources of training outliers, by public name: photos of what a road scene does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import inspect
from typing import Any

from anomaly_seg_ros.registry import lookup

from .negative import Negative, NegativeSource

NEGATIVES = {
    'ade20k': 'training.negatives.ade20k:Ade20kNegatives',
    'coco': 'training.negatives.coco:CocoNegatives',
    'folder': 'training.negatives.folder:FolderNegatives',
}


def build_negatives(
    kind: str, options: Mapping[str, Any], beside: Iterable[str] = ()
) -> NegativeSource:
    """Gives a source of negatives.

    Args:
        kind: A key of `NEGATIVES`.
        options: Keyword arguments of its constructor; `root` is its folder.
        beside: Further options that stand beside these, for the error text.

    Raises:
        ValueError: Unknown kind or option.
        FileNotFoundError: A folder or file is missing; the text names it.
    """
    build = lookup('kind of negatives', NEGATIVES, kind)
    valid = list(inspect.signature(build).parameters)
    if unknown := sorted(options.keys() - set(valid)):
        raise ValueError(
            f'unknown options {unknown} of outliers of kind {kind!r}; they are: '
            f'{", ".join([*valid, *beside])}'
        )
    try:
        source: NegativeSource = build(**options)
    except TypeError as error:
        raise ValueError(f'negatives of kind {kind!r} do not take {options}: {error}') from None
    return source


__all__ = ['NEGATIVES', 'Negative', 'NegativeSource', 'build_negatives']
