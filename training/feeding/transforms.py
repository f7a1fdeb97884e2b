"""Training augmentation on (image, labels) pairs: scale, crop, flip, colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.resizing import resize_ids

ImageAndLabels = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def draw_uniform(limits: tuple[float, float], random: np.random.Generator) -> float:
    """Draws every number between the limits as likely: of 0.5 to 2 two thirds enlarge."""
    return float(random.uniform(*limits))


def draw_log_uniform(limits: tuple[float, float], random: np.random.Generator) -> float:
    """Draws every ratio as likely: of 0.5 to 2 one half enlarges."""
    return float(np.exp(random.uniform(*np.log(limits))))


DRAWS = {'uniform': draw_uniform, 'log_uniform': draw_log_uniform}


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, horizontal flip and colour change.

    Attributes:
        crop: (height, width) of the result; smaller images are padded, labels with 255.
        scale: Smallest and largest enlargement, drawn as `scale_draw` says, a key of `DRAWS`.
        stretch: Smallest and largest factor on the width beside it, drawn by ratio: frames of 2:1
            or 16:9 are squeezed into the network's size. The scale is then at least what fills
            the crop.
        flip: Probability of a horizontal flip.
        color: Largest relative change of brightness, contrast and saturation.
        class_balance: Probability that the crop is centred on a pixel of a class that is drawn
            evenly from those in the frame (a bicyclist as often as the road); else it lies
            anywhere.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (0.75, 2.0)
    flip: float = 0.5
    color: float = 0.4
    class_balance: float = 0.0
    scale_draw: str = 'log_uniform'
    stretch: tuple[float, float] = (1.0, 1.0)

    def __call__(
        self,
        image: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        random: np.random.Generator,
    ) -> ImageAndLabels:
        """Gives an augmented copy.

        Args:
            image: (H, W, 3) RGB uint8.
            labels: (H, W) train ids, 255 = ignore.
            random: Source of all randomness.
        """
        image, labels = self._scale_and_crop(image, labels, random)
        if random.random() < self.flip:
            image, labels = image[:, ::-1], labels[:, ::-1]
        image = change_color(np.ascontiguousarray(image), self.color, random)
        return image, np.ascontiguousarray(labels)

    def _scale_and_crop(
        self, image: NDArray[np.uint8], labels: NDArray[np.uint8], random: np.random.Generator
    ) -> ImageAndLabels:
        scale = DRAWS[self.scale_draw](self.scale, random)
        # Where it is fixed nothing more is drawn: older recipes keep their crops.
        vary = self.stretch[0] < self.stretch[1]
        stretch = draw_log_uniform(self.stretch, random) if vary else self.stretch[0]
        if vary:
            fills = (labels.shape[0], labels.shape[1] * stretch)
            scale = max(scale, *(side / full for side, full in zip(self.crop, fills, strict=True)))
        height, width = round(labels.shape[0] * scale), round(labels.shape[1] * scale * stretch)
        crop_height, crop_width = self.crop
        top, left = self._place_crop(labels, height, width, random)
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = cv2.resize(image, (width, height), interpolation=interpolation)
        ids = resize_ids(labels, (height, width))
        scaled = scaled[top : top + crop_height, left : left + crop_width]
        ids = ids[top : top + crop_height, left : left + crop_width]
        bottom, right = crop_height - ids.shape[0], crop_width - ids.shape[1]
        if bottom or right:
            mean = scaled.mean(axis=(0, 1)).tolist()
            border = (0, bottom, 0, right, cv2.BORDER_CONSTANT)
            scaled = cv2.copyMakeBorder(scaled, *border, value=mean)
            ids = np.pad(ids, ((0, bottom), (0, right)), constant_values=IGNORE)
        return scaled.astype(np.uint8, copy=False), ids

    def _place_crop(
        self, labels: NDArray[np.uint8], height: int, width: int, random: np.random.Generator
    ) -> tuple[int, int]:
        """Gives the top left corner of what is kept of the scaled frame; beyond it is padding."""
        crop_height, crop_width = self.crop
        most_top, most_left = max(height - crop_height, 0), max(width - crop_width, 0)
        # Without class balance nothing more is drawn: older recipes keep their crops.
        if self.class_balance and random.random() < self.class_balance:
            centre = pixel_of_even_class(labels, random)
            if centre is not None:
                row = int(centre[0] * height / labels.shape[0]) - crop_height // 2
                column = int(centre[1] * width / labels.shape[1]) - crop_width // 2
                return min(max(row, 0), most_top), min(max(column, 0), most_left)
        top = int(random.integers(0, most_top + 1))
        return top, int(random.integers(0, most_left + 1))


def pixel_of_even_class(
    labels: NDArray[np.uint8], random: np.random.Generator
) -> tuple[int, int] | None:
    """Draws one of the classes in a frame, each as likely, and one of its pixels.

    Args:
        labels: (H, W) train ids; 255 is no class.
        random: Source of both draws.

    Returns:
        (row, column), or None where nothing is labelled.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[IGNORE] = 0
    classes = np.flatnonzero(counts)
    if not classes.size:
        return None
    chosen = random.choice(classes)
    place = np.flatnonzero(labels.ravel() == chosen)[random.integers(counts[chosen])]
    return int(place // labels.shape[1]), int(place % labels.shape[1])


def change_color(
    image: NDArray[np.uint8], strength: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Scales brightness, contrast and saturation by up to `1 +- strength` each.

    Args:
        image: (H, W, 3) RGB uint8.
        strength: Largest relative change, 0 for none.
        random: Source of the three factors.
    """
    brightness, contrast, saturation = random.uniform(1 - strength, 1 + strength, 3)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    offset = (1 - contrast) * float(grey.mean()) * brightness
    result = cv2.addWeighted(image, brightness * contrast, image, 0, offset)
    grey = cv2.cvtColor(cv2.cvtColor(result, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(result, saturation, grey, 1 - saturation, 0).astype(
        np.uint8, copy=False
    )
