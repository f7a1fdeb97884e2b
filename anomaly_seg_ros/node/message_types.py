"""The ROS message types that are written and read, by name: no ROS is needed to say them."""

from __future__ import annotations

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
TEXT = 'std_msgs/msg/String'
DETECTIONS = 'vision_msgs/msg/Detection2DArray'
