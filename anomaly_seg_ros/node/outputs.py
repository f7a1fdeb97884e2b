"""The topics that are made of each frame, once: what the node publishes and `bag` writes.

To add one: a line in `OUTPUTS`, which node, bag, demo and launch read. No ROS is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import json
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.node import topics

from .config import NodeConfig
from .message_types import COMPRESSED_IMAGE, DETECTIONS, IMAGE, TEXT
from .regions import JsonText, regions_text, rle_content

if TYPE_CHECKING:
    from anomaly_seg_ros.frames.result import Result

JPEG = 'bgr8; jpeg compressed bgr8'
"""The field `format` of a JPEG, as image_transport writes it."""


@dataclass(frozen=True)
class Output:
    """What goes out on one topic.

    Attributes:
        content: Gives it of a `Result`, which has the size to publish, and of the parameters: an
            array for an `IMAGE`, a file's bytes for a `COMPRESSED_IMAGE`, the `Listed` regions for
            `DETECTIONS`, else the message's fields by name, or the one of it that is called
            `data`; see `stamped_text` for a `TEXT`.
        encoding: Of an `IMAGE`, by the parameters: 'mono8' (H, W) uint8, '32FC1' (H, W) float32,
            or 'bgr8' (H, W, 3) RGB; of a `COMPRESSED_IMAGE` its field `format`.
        kind: Message type: one of `message_types`, or any other one.
        usual: Whether `demo` and `bag` take it unasked.
    """

    content: Callable[[Result, NodeConfig], Any]
    encoding: Callable[[NodeConfig], str] = lambda _: 'mono8'
    kind: str = IMAGE
    usual: bool = True


def _score(result: Result, config: NodeConfig) -> Any:
    if config.score_encoding == 'mono8':
        return result.heat
    return result.score if config.score_scale == 'raw' else result.share


def _static(result: Result, config: NodeConfig) -> Any:
    return ~result.static if config.static_mask_inverted else result.static


OUTPUTS: dict[str, Output] = {
    topics.SEMANTIC_MASK: Output(lambda result, _: result.labels),
    topics.ANOMALY_SCORE: Output(_score, lambda config: config.score_encoding),
    topics.ANOMALY_MASK: Output(lambda result, _: result.mask),
    topics.CONFIDENCE: Output(lambda result, _: ~result.heat, usual=False),
    topics.OPEN_SET_MASK: Output(lambda result, _: result.open_set, usual=False),
    topics.STATIC_MASK: Output(_static, usual=False),
    topics.SEMANTIC_COLOR: Output(lambda result, _: result.color, lambda _: 'bgr8', usual=False),
    topics.OVERLAY: Output(lambda result, _: result.overlay, lambda _: 'bgr8'),
    topics.OVERLAY_COMPRESSED: Output(
        lambda result, _: result.overlay_jpeg, lambda _: JPEG, COMPRESSED_IMAGE, usual=False
    ),
    topics.REGIONS_JSON: Output(lambda result, _: regions_text(result), kind=TEXT),
    topics.DETECTIONS: Output(lambda result, _: result.regions, kind=DETECTIONS, usual=False),
    topics.RLE_MASK: Output(lambda result, _: rle_content(result.mask), kind=TEXT, usual=False),
    topics.FRAME_SCORE: Output(
        lambda result, _: result.frame_score, kind='std_msgs/msg/Float32', usual=False
    ),
}


LATCHED = {topics.LABEL_INFO: 'vision_msgs/msg/LabelInfo', topics.LABEL_INFO_JSON: TEXT}
"""The topics that explain the others, by their type: sent once, kept for late joiners."""


def stamped_text(content: Any, sec: int, nanosec: int, frame_id: str) -> str:
    """Gives the text of a message that has no header.

    Args:
        content: A mapping or a `JsonText`, which stamp and frame come before; other text stays as
            it is.
        sec: Of the stamp.
        nanosec: Of the stamp.
        frame_id: Of the camera image.

    >>> stamped_text({'regions': []}, 1, 2, 'front')
    '{"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "front", "regions": []}'
    >>> stamped_text(JsonText('{"regions": []}'), 1, 2, 'front')
    '{"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "front", "regions": []}'
    """
    head = {'stamp': {'sec': sec, 'nanosec': nanosec}, 'frame_id': frame_id}
    if isinstance(content, JsonText):
        return f'{json.dumps(head)[:-1]}, {content[1:]}'
    return content if isinstance(content, str) else json.dumps({**head, **content})


def usual_outputs() -> tuple[str, ...]:
    """Gives the topics that `demo` and `bag` take unasked."""
    return tuple(topic for topic, output in OUTPUTS.items() if output.usual)


def image_outputs(among: Iterable[str] = OUTPUTS) -> tuple[str, ...]:
    """Gives the topics that carry pictures."""
    return tuple(topic for topic in among if OUTPUTS[topic].kind == IMAGE)
