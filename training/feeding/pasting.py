"""Pastes parts of other photos into a training image, as outliers whose pixels are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE, LabelSet
from anomaly_seg_ros.frames.resizing import resize_ids
from training.datasets import Dataset, NO_CLASSES, Sample
from training.negatives import (
    build_negatives,
    check_negatives,
    Negative,
    NEGATIVES,
    NegativeSource,
)
from training.negatives.shapes import blob, rectangle, union_of_regions
from training.recipes.typed_values import convert

from .ground import GROUND, ground_ids
from .transforms import DRAWS

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SHAPES = ('blob', 'rectangle', 'regions')
NOT_SET = ('source', 'ground', 'beside')
"""Fields of a `Paster` that are no plain values of a recipe."""
STD_RATIO_LIMITS = (0.5, 2.0)
"""Colour matching never changes contrast more than this: a flat road would flatten the patch."""


@dataclass(frozen=True, kw_only=True)
class Paster:
    """Pastes none, one or several patches at uniformly random places.

    A photo is enlarged so that its shorter side is `short_side` times a random factor, a random
    square of it is cut out, and of that a shape is pasted, whole and inside the image. (The square
    is cut first, so that a small photo never becomes a huge one.)

    A pasted pixel has label 255 and is True in the outlier mask. With `feather` the patch fades
    inwards from its border, so pixels outside of the shape never change; those of the rim, where
    the image shows through, are pasted ones too: an outlier head that took them for inliers would
    learn to see every border as one.

    Attributes:
        source: Where photos come from.
        probability: That an image gets any patch.
        count: Smallest and largest number of patches of such an image.
        short_side: Shorter side of the enlarged photo, pixels, or 0 for each photo's own; by
            `build_paster` the source's, and likewise `crop`.
        scale: Smallest and largest factor on top, drawn as `scale_draw` says, a key of `DRAWS`.
        crop: Side of the square that shapes are cut from, pixels.
        shapes: Weights of 'rectangle', 'blob' and 'regions'; without regions in the square a
            rectangle is taken. Empty: what the source names.
        feather: Width of the fading border, pixels; 0: hard edges.
        color_match: 0 keeps the patch's colours, 1 gives it mean and contrast of what it covers.
        on_ground: Probability that the patch stands with the middle of its lower side on a pixel
            of `ground`, where the frame has any; else it lies anywhere.
        ground: Train ids that something can lie on; by `build_paster` those of the dataset that
            are named in `GROUND`.
        beside: Further pasters, which are used one after the other behind this one.

    Source: Grcic et al., "DenseHybrid", 2022: short side 384, square 192, scale 0.5..2 drawn
    uniformly, one patch with hard edges. Blobs, feathering and colour matching are ours. The
    authors' code places the whole square at random and not the trimmed shape, so that outliers lie
    less at the image's border and more in its middle; the mean share of pasted pixels is the same.
    Its regions are drawn of all ids, 0 among them, which is no region here.
    """

    source: NegativeSource
    probability: float = 1.0
    count: tuple[int, int] = (1, 1)
    short_side: int = 384
    scale: tuple[float, float] = (0.5, 2.0)
    scale_draw: str = 'log_uniform'
    crop: int = 192
    shapes: Mapping[str, float]
    feather: float = 0.0
    color_match: float = 0.0
    on_ground: float = 0.0
    ground: tuple[int, ...] = ()
    beside: tuple[Paster, ...] = ()

    def __post_init__(self) -> None:
        shares = ('probability', 'color_match', 'on_ground')
        for name, low, high in (*((name, 0, 1) for name in shares), ('feather', 0, 64)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name} is {getattr(self, name)}; it must lie in {low}..{high}')
        if not 0 <= self.count[0] <= self.count[1]:
            raise ValueError(
                f'count is {self.count}; it must be [low, high] with 0 <= low <= high'
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f'scale is {self.scale}; it must be [low, high], 0 < low <= high')
        if self.scale_draw not in DRAWS:
            known = ', '.join(sorted(DRAWS))
            raise ValueError(f'unknown scale_draw {self.scale_draw!r}; choose one of: {known}')
        if self.short_side < 0 or self.crop < 1:
            raise ValueError(
                f'short_side is {self.short_side}, crop is {self.crop}; crop must be above 0, '
                'short_side not below'
            )
        if unknown := sorted(self.shapes.keys() - set(SHAPES)):
            raise ValueError(f'unknown shapes {unknown}; choose among: {", ".join(SHAPES)}')
        self._check_source()

    def _check_source(self) -> None:
        if min(self.shapes.values(), default=0) < 0 or not sum(self.shapes.values()) > 0:
            raise ValueError(f'shapes are {dict(self.shapes)}; a weight must be above 0')
        if self.shapes.get('regions') and 'regions' not in self.source.shapes:
            raise ValueError('these negatives have no regions; choose rectangle or blob as shapes')
        if self.on_ground and not self.ground:
            raise ValueError(
                f'on_ground is {self.on_ground}, but no class of the dataset is named '
                f'{", ".join(GROUND)}; set on_ground: 0'
            )

    def __call__(
        self, image: Image, labels: Image, rng: np.random.Generator
    ) -> tuple[Image, Image, Mask]:
        """Gives a copy with patches.

        Args:
            image: (H, W, 3) RGB.
            labels: (H, W) train ids, 255 = ignore.
            rng: Source of all randomness.

        Returns:
            Image, labels with 255 on what was pasted, and the (H, W) outlier mask.

        Raises:
            ValueError: A file of the source is broken; the text names it.
        """
        image, labels = image.copy(), labels.copy()
        outlier = np.zeros(labels.shape, np.bool_)
        if rng.random() < self.probability:
            for _ in range(int(rng.integers(self.count[0], self.count[1] + 1))):
                negative = self.source.draw(rng)
                patch, mask = self._cut(negative, labels.shape, rng)
                if not mask.size:
                    continue
                top, left = self._place(mask.shape, labels, rng)
                place = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
                parts = image[place], labels[place], outlier[place]
                self._blend(*parts, patch, mask, negative.label)
        for paste in self.beside:
            image, labels, more = paste(image, labels, rng)
            # What is pasted later with a class of its own covers outliers.
            outlier = (outlier & (labels == IGNORE)) | more
        return image, labels, outlier

    def _place(
        self, size: tuple[int, ...], labels: Image, rng: np.random.Generator
    ) -> tuple[int, int]:
        """Draws the upper left corner of a patch of (height, width) that lies in the frame."""
        most_top, most_left = labels.shape[0] - size[0], labels.shape[1] - size[1]
        # Without it nothing more is drawn: older recipes keep their places.
        if self.on_ground and rng.random() < self.on_ground:
            places = np.flatnonzero(np.isin(labels, self.ground))
            if places.size:
                row, column = divmod(int(places[rng.integers(places.size)]), labels.shape[1])
                top, left = row - size[0] + 1, column - size[1] // 2
                return min(max(top, 0), most_top), min(max(left, 0), most_left)
        return int(rng.integers(most_top + 1)), int(rng.integers(most_left + 1))

    def _cut(
        self, negative: Negative, limit: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[Image, Mask]:
        """Gives a patch and its mask, trimmed to the mask and no larger than `limit`.

        Of what has a class of its own only its regions are in the mask; both are empty where the
        square has none of them.
        """
        square, regions = self._square(negative, limit, rng)
        size = square.shape[:2]
        names = sorted(self.shapes)
        weights = np.array([self.shapes[name] for name in names], np.float64)
        shape = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        mask = None
        if shape == 'regions' and regions is not None:
            mask = union_of_regions(regions, rng)
        elif shape == 'blob':
            mask = blob(size, rng)
        if mask is None:
            mask = rectangle(size, rng)
        if negative.label != IGNORE:
            assert regions is not None, 'what has a class has regions'
            mask &= regions > 0
            if not mask.any():
                return square[:0, :0], mask[:0, :0]
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return square[box], mask[box]

    def _square(
        self, negative: Negative, limit: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[Image, Image | None]:
        """Gives the enlarged photo's random square and its regions; smaller photos stay whole."""
        image, regions = negative.image, negative.regions
        factor = DRAWS[self.scale_draw](self.scale, rng)
        if self.short_side:
            factor *= self.short_side / min(image.shape[:2])
        cut = math.ceil(self.crop / factor)
        top, left = (int(rng.integers(max(side - cut, 0) + 1)) for side in image.shape[:2])
        part = slice(top, top + cut), slice(left, left + cut)
        height, width = (max(1, round(side * factor)) for side in image[part].shape[:2])
        box = slice(min(self.crop, limit[0])), slice(min(self.crop, limit[1]))
        interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        square = cv2.resize(image[part], (width, height), interpolation=interpolation)[box]
        if regions is None:
            return square.astype(np.uint8, copy=False), None
        ids = resize_ids(regions[part], (height, width))[box]
        return square.astype(np.uint8, copy=False), ids

    def _blend(
        self,
        image: Image,
        labels: Image,
        outlier: Mask,
        patch: Image,
        mask: Mask,
        label: int,
    ) -> None:
        """Pastes in place; all maps have the patch's size."""
        if self.color_match:
            patch = match_colors(patch, image, mask, self.color_match)
        alpha = fade(mask, self.feather)
        mixed = image + alpha[..., None] * (patch.astype(np.float32) - image)
        image[mask] = np.rint(mixed[mask]).astype(np.uint8)
        labels[mask] = label
        outlier[mask] = label == IGNORE


class PastedFrames(Dataset):
    """A dataset with outliers pasted into its frames, into each the same every time.

    Samples have the pasted pixels as `anomaly` = 1 and, in `train_ids`, 255; what was unlabelled
    is 255 in both. The frames of a Paster that leaves some as they are have no anomaly there.
    """

    def __init__(self, dataset: Dataset, paste: Paster):
        self.dataset, self.paste, self.classes = dataset, paste, dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        image, labels, outlier = self.paste(
            sample.image, sample.labels, np.random.default_rng(index)
        )
        anomaly = np.where((labels == IGNORE) & ~outlier, IGNORE, outlier).astype(np.uint8)
        return Sample(sample.name, image, labels, anomaly)


def fade(mask: Mask, width: float) -> NDArray[np.float32]:
    """Gives (H, W) opacity: 0 outside of the mask, rising to 1 over `width` pixels inside.

    A pixel whose centre lies d pixels inside the border gets d / width, at most 1.
    """
    if width <= 0:
        return mask.astype(np.float32)
    framed = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1] - 0.5
    alpha: NDArray[np.float32] = np.clip(depth / width, 0, 1).astype(np.float32)
    return alpha


def match_colors(patch: Image, covered: Image, mask: Mask, strength: float) -> Image:
    """Moves mean and standard deviation of each channel towards those of what is covered.

    Args:
        patch: (H, W, 3) that will be pasted.
        covered: (H, W, 3) of the image under it.
        mask: (H, W), which pixels count.
        strength: 0 none, 1 all the way.
    """
    inside, under = patch[mask].astype(np.float32), covered[mask].astype(np.float32)
    ratio = np.clip(under.std(axis=0) / inside.std(axis=0).clip(1.0), *STD_RATIO_LIMITS)
    mean = inside.mean(axis=0)
    moved = mean + strength * (under.mean(axis=0) - mean)
    matched = moved + (patch - mean) * (1 + strength * (ratio - 1))
    result: Image = np.rint(np.clip(matched, 0, 255)).astype(np.uint8)
    return result


def read_options(options: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Gives (kind, options of the negatives, options of the paster), without reading any photo.

    Args:
        options: As `build_paster` takes them.

    Raises:
        ValueError: `kind` is missing, or an option is unknown or of another type.
    """
    values = dict(options)
    for other in values.pop('beside', ()):
        read_options(other)
    kind = values.pop('kind', None)
    if kind is None:
        raise ValueError(f"outliers need a 'kind', one of: {', '.join(sorted(NEGATIVES))}")
    own = {f.name: str(f.type) for f in fields(Paster) if f.name not in NOT_SET}
    own['shapes'] = 'dict[str, float]'
    rest = {key: value for key, value in values.items() if key not in own}
    check_negatives(kind, rest, beside=own)
    chosen = {key: convert(key, own[key], value) for key, value in values.items() if key in own}
    return kind, rest, chosen


def build_paster(options: Mapping[str, Any], classes: LabelSet = NO_CLASSES) -> Paster:
    """Gives a paster from the mapping `outliers` of a training configuration.

    Args:
        options: `kind` of the negatives, then fields of `Paster` and of the source; `beside` is a
            list of such mappings.
        classes: Those of the dataset that is pasted into.

    Raises:
        ValueError: `kind` is missing, or an option is unknown or out of range.
        FileNotFoundError: The negatives are not where `root` says.
    """
    others = options.get('beside', ())
    kind, rest, chosen = read_options(options)
    source = build_negatives(kind, rest)
    chosen['shapes'] = chosen.get('shapes') or source.shapes
    chosen['beside'] = tuple(build_paster(other, classes) for other in others)
    own: dict[str, Any] = {'short_side': source.short_side, 'crop': source.crop}
    own['ground'] = ground_ids(classes)
    return Paster(source=source, **(own | chosen))
