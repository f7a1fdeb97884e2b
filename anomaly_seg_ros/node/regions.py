"""The anomalous regions of a frame as the contents of messages."""

from __future__ import annotations

from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly_seg_ros.frames.result import Region, Result

SCHEMA = 1
CLASS_ID = 'anomaly'
"""What a detection says that it is."""


def regions_content(result: Result) -> dict[str, Any]:
    """Gives what `~/regions_json` says beside its stamp; boxes and areas in published pixels."""
    height, width = result.size
    needed, frames = result.settings.persistence
    return {
        'schema': SCHEMA,
        'height': height,
        'width': width,
        'threshold': result.settings.threshold,
        'persistence': {'needed': needed, 'frames': frames, 'delay_frames': needed - 1},
        'total': result.maps.anomalies.total,
        'regions': [
            {
                'id': region.id,
                'box': dict(zip(('x', 'y', 'width', 'height'), region.box, strict=True)),
                'area': region.area,
                'score': region.score,
                'seen': region.seen,
                'persistence': round(region.seen / frames, 3),
            }
            for region in result.regions
        ],
    }


def detections_content(result: Result) -> dict[str, Any]:
    """Gives the fields of a `vision_msgs/Detection2DArray`, the same regions by the same ids."""
    return {'detections': [_detection(region) for region in result.regions]}


def _detection(region: Region) -> dict[str, Any]:
    x, y, width, height = map(float, region.box)
    return {
        'results': [{'hypothesis': {'class_id': CLASS_ID, 'score': region.score}}],
        'bbox': {
            'center': {'position': {'x': x + width / 2, 'y': y + height / 2}},
            'size_x': width,
            'size_y': height,
        },
        'id': str(region.id),
    }
