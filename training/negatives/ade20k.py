"""ADE20K: photos whose every pixel carries one of 150 labels.

Source: Zhou et al., "Scene Parsing through ADE20K Dataset", 2017, in the layout of the scene
parsing challenge: `ROOT/{images,annotations}/{training,validation}`, labels 1..150, 0 = none.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from training.datasets.dataset import pair_by_stem, read_pair

from .negative import Negative

SPLITS = ('training', 'validation')


class Ade20kNegatives:
    """Photos with their label maps as regions.

    Args:
        root: The folder `ADEChallengeData2016`.
        split: 'training' or 'validation'.

    Raises:
        ValueError: Unknown split.
        FileNotFoundError: A folder or a partner file is missing.
    """

    shapes: ClassVar[dict[str, float]] = {'rectangle': 0.5, 'regions': 0.5}
    short_side = 384
    crop = 192

    def __init__(self, root: str | Path, split: str = 'training'):
        if split not in SPLITS:
            raise ValueError(f'unknown split {split!r} of ade20k; choose one of: {SPLITS}')
        folder = Path(root).expanduser()
        self.pairs = pair_by_stem(folder / 'images' / split, folder / 'annotations' / split)

    def draw(self, rng: np.random.Generator) -> Negative:
        """Gives a photo and its labels.

        Raises:
            ValueError: A file cannot be decoded or the sizes differ; the text names it.
        """
        _, image_path, label_path = self.pairs[int(rng.integers(len(self.pairs)))]
        image, regions = read_pair(image_path, label_path)
        if regions.max() > 255:
            raise ValueError(f'{str(label_path)!r} holds label {regions.max()}; ADE20K has 0..150')
        return Negative(image, regions.astype(np.uint8, copy=False))
