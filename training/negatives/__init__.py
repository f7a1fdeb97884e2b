"""Sources of training outliers, by public name: photos of what a road scene does not hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from anomaly_seg_ros.registry import check_options, lookup

from .negative import Negative, NegativeSource

NEGATIVES = {
    'ade20k': 'training.negatives.ade20k:Ade20kNegatives',
    'coco': 'training.negatives.coco:CocoNegatives',
    'folder': 'training.negatives.folder:FolderNegatives',
    'inliers': 'training.negatives.inliers:InlierParts',
}


KIND = 'outliers kind'


def check_negatives(kind: str, options: Collection[str], beside: Iterable[str] = ()) -> None:
    """Checks that a source of negatives takes such options, without reading anything of it.

    Args:
        kind: A key of `NEGATIVES`.
        options: Names of arguments of its constructor.
        beside: Further options that stand beside these, for the error text.

    Raises:
        ValueError: Unknown kind or option.
    """
    check_options(KIND, NEGATIVES, kind, options, beside=beside)


def build_negatives(kind: str, options: Mapping[str, Any]) -> NegativeSource:
    """Gives a source of negatives.

    Args:
        kind: A key of `NEGATIVES`.
        options: Keyword arguments of its constructor; `root` is its folder.

    Raises:
        ValueError: Unknown kind or option.
        FileNotFoundError: A folder or file is missing; the text names it.
    """
    check_negatives(kind, options)
    build = lookup(KIND, NEGATIVES, kind)
    try:
        source: NegativeSource = build(**options)
    except TypeError as error:
        raise ValueError(f'negatives of kind {kind!r} do not take {options}: {error}') from None
    return source


__all__ = ['NEGATIVES', 'Negative', 'NegativeSource', 'build_negatives', 'check_negatives']
