"""The anomalous regions of a frame as the contents of messages."""

from __future__ import annotations

import base64
from collections.abc import Iterator
import json
from typing import Any, NamedTuple, TYPE_CHECKING
import zlib

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from anomaly_seg_ros.frames.result import Listed, Result

SCHEMA = 1
PACKING = 1
"""Level of zlib: the higher ones take longer for little."""
CLASS_ID = 'anomaly'
"""What a detection says that it is."""


_REGION = (
    '{"id": %d, "box": {"x": %d, "y": %d, "width": %d, "height": %d}, "area": %d, '
    '"score": %.6f, "seen": %d, "persistence": %s}'
)


class JsonText(str):
    """The text of a JSON object, not an empty one; stamp and frame come in before its fields."""

    __slots__ = ()


def regions_text(result: Result) -> JsonText:
    """Gives what `~/regions_json` says beside its stamp; boxes and areas in published pixels.

    The regions are written by a template: objects of each would take three times as long.
    """
    height, width = result.size
    needed, frames = result.settings.persistence
    head = {
        'schema': SCHEMA,
        'height': height,
        'width': width,
        'threshold': result.settings.threshold,
        'persistence': {'needed': needed, 'frames': frames, 'delay_frames': needed - 1},
        'total': result.maps.anomalies.total,
        'alarms': result.maps.anomalies.delays.size,
        'frame_score': round(result.frame_score, 6),
        'camera': {'fit': result.health.fit, 'reason': result.health.reason},
    }
    found = result.regions
    shares = [repr(round(seen / frames, 3)) for seen in range(frames + 1)]
    lasting = map(shares.__getitem__, found.seen)
    listed = ', '.join(map(_REGION.__mod__, zip(*found, lasting, strict=True)))
    return JsonText(f'{json.dumps(head)[:-1]}, "regions": [{listed}]}}')


class Detection(NamedTuple):
    """A region as `vision_msgs` has it: its box by centre and size."""

    id: str
    x: float
    y: float
    size_x: float
    size_y: float
    score: float


def detections(found: Listed) -> Iterator[Detection]:
    """Gives the same regions by the same ids."""
    for number, x, y, width, height, score in zip(*found[:5], found.scores, strict=True):
        centre = x + width / 2, y + height / 2
        yield Detection(str(number), *centre, float(width), float(height), score)


def detections_fields(found: Listed) -> dict[str, Any]:
    """Gives the fields of a `vision_msgs/Detection2DArray`."""
    return {
        'detections': [
            {
                'results': [{'hypothesis': {'class_id': CLASS_ID, 'score': each.score}}],
                'bbox': {
                    'center': {'position': {'x': each.x, 'y': each.y}},
                    'size_x': each.size_x,
                    'size_y': each.size_y,
                },
                'id': each.id,
            }
            for each in detections(found)
        ]
    }


def rle_content(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """Gives what `~/rle_mask` says of a (H, W) mask beside its stamp: its runs, row by row.

    They are numbers of pixels, by turns not anomalous and anomalous; the first may be 0. Packed,
    because neighbouring rows are much alike.

    >>> content = rle_content(np.uint8([[255, 0, 0], [0, 255, 255]]))
    >>> np.frombuffer(zlib.decompress(base64.b64decode(content['runs'])), '<u4').tolist()
    [0, 1, 3, 2]
    """
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(edges, prepend=0, append=flat.size).astype('<u4')
    runs = np.insert(runs, 0, 0) if flat[0] else runs
    height, width = mask.shape
    packed = base64.b64encode(zlib.compress(runs.tobytes(), PACKING)).decode()
    return {'schema': SCHEMA, 'height': height, 'width': width, 'runs': packed}
