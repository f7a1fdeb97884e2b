"""int8 for OpenVINO: ranges of the activations measured on frames, by NNCF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anomaly_seg_ros.frames.images import find_images, read_image
from anomaly_seg_ros.frames.preprocess import to_input_size
from anomaly_seg_ros.frames.significant_bits import SignificantBits

FRAMES = 128
"""Most frames that ranges are measured on; more hardly move them."""


def quantize(model: Any, calibration: Path | None, input_size: tuple[int, int]) -> Any:
    """Gives the OpenVINO model with its convolutions in int8.

    Args:
        model: An OpenVINO model of (N, H, W, 3) uint8 images.
        calibration: Folder of frames such as the camera will give, at most `FRAMES` of them
            taken evenly.
        input_size: (height, width) of the model.

    Raises:
        ImportError: NNCF is not installed.
        FileNotFoundError: No folder, or no images in it.
        ValueError: No folder was given.
    """
    if calibration is None:
        raise ValueError("precision 'int8' needs frames: give --calibration DIR")
    try:
        import nncf
    except ImportError as error:
        raise ImportError(f"precision 'int8' needs: pip install nncf==3.4.0 ({error})") from None
    paths = find_images([calibration])
    paths = paths[:: -(-len(paths) // FRAMES)]
    bits = SignificantBits()
    frames = [to_input_size(read_image(path, bits), input_size)[None] for path in paths]
    dataset = nncf.Dataset(frames, np.ascontiguousarray)
    return nncf.quantize(
        model,
        dataset,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(frames),
    )
