"""Plain photos of a folder, of which no regions are known."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
import logging
from pathlib import Path
from typing import ClassVar

import numpy as np

from anomaly_seg_ros.frames.images import find_images, missing, read_image

from .negative import Negative

logger = logging.getLogger(__name__)


class FolderNegatives:
    """Every image file of a folder, at any depth, each as likely.

    Args:
        root: The folder.
        exclude: Patterns of file names that are left out, as '*_cab.jpg': photos of what the
            network is to know.

    Raises:
        FileNotFoundError: There is no such folder, or no image is left in it.
    """

    shapes: ClassVar[dict[str, float]] = {'rectangle': 0.5, 'blob': 0.5}
    short_side = 384
    crop = 192

    def __init__(self, root: str | Path, exclude: Sequence[str] = ()):
        folder = Path(root).expanduser()
        found = find_images([folder], below=True)
        for path in found:
            if not path.is_file():
                logger.warning('%s; it is left out', missing(path))
        found = [path for path in found if path.is_file()]
        self.paths = [p for p in found if not any(fnmatch(p.name, e) for e in exclude)]
        if not self.paths:
            raise FileNotFoundError(
                f'all {len(found)} images of {str(folder)!r} are excluded by {list(exclude)}'
            )

    def draw(self, rng: np.random.Generator) -> Negative:
        """Gives a photo.

        Raises:
            ValueError: The file is no image or is cut short; the text names it.
        """
        return Negative(read_image(self.paths[int(rng.integers(len(self.paths)))]), None)
