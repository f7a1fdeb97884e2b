"""Messages for a bag, made of the fields that are known of them; the others are zero or empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

HEADER = 'std_msgs/msg/Header'

VISION_MSGS = {
    'VisionClass': 'uint16 class_id\nstring class_name\n',
    'LabelInfo': 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\n'
    'float32 threshold\n',
    'Point2D': 'float64 x\nfloat64 y\n',
    'Pose2D': 'vision_msgs/Point2D position\nfloat64 theta\n',
    'BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n',
    'ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'ObjectHypothesisWithPose': 'vision_msgs/ObjectHypothesis hypothesis\n'
    'geometry_msgs/PoseWithCovariance pose\n',
    'Detection2D': 'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
    'vision_msgs/BoundingBox2D bbox\nstring id\n',
    'Detection2DArray': 'std_msgs/Header header\nvision_msgs/Detection2D[] detections\n',
}
"""Version 4 of `vision_msgs`, the same from Humble on; `rosbags` does not bring it."""


def add_vision_msgs(store: Typestore) -> None:
    """Makes the messages known that carry detections and labels."""
    types: dict[str, Any] = {}
    for name, definition in VISION_MSGS.items():
        types.update(get_types_from_msg(definition, f'vision_msgs/msg/{name}'))
    store.register(types)


def filled(store: Typestore, kind: str, fields: Mapping[str, Any], header: Any) -> Any:
    """Gives a message.

    Args:
        store: Knows its type.
        kind: Its type, as 'vision_msgs/msg/Detection2D'.
        fields: Values by name; of a message inside of it again a mapping, of several a list.
        header: Of this message and of those inside of it, where they have one.
    """
    values = {
        name: _value(store, node, fields.get(name), header)
        for name, node in store.get_msgdef(kind).fields
    }
    return store.types[kind](**values)


def _value(store: Typestore, node: Any, value: Any, header: Any) -> Any:
    what, more = node
    if what == Nodetype.NAME:
        return header if more == HEADER else filled(store, more, value or {}, header)
    if what == Nodetype.BASE:
        name = more[0]
        empty: Any = '' if name == 'string' else np.zeros(1, name)[0].item()
        return empty if value is None else value
    (inner, kind), count = more
    if inner == Nodetype.NAME:
        return [filled(store, kind, each, header) for each in value or ()]
    if kind[0] == 'string':
        return list(value or ())
    return np.zeros(count, kind[0]) if value is None else np.asarray(value, kind[0])
