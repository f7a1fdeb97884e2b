"""The ROS names of the package: what the node, the launch files, RViz and the tests agree on.

Inputs are relative names, so a namespace or one remap rule points them at a camera. Outputs are
private names (`~/...`), so two nodes in one namespace never collide.
"""

from __future__ import annotations

PACKAGE = 'anomaly_seg_ros'
NODE_EXECUTABLE = 'anomaly_seg_node'
NODE_NAME = 'anomaly_seg'

IMAGE = 'image'
CAMERA_INFO = 'camera_info'

CAMERA_INFO_OUT = '~/camera_info'
SEMANTIC_MASK = '~/semantic_mask'
ANOMALY_SCORE = '~/anomaly_score'
ANOMALY_MASK = '~/anomaly_mask'
CONFIDENCE = '~/confidence'
OPEN_SET_MASK = '~/open_set_mask'
STATIC_MASK = '~/static_mask'
SEMANTIC_COLOR = '~/semantic_color'
OVERLAY = '~/overlay'
OVERLAY_COMPRESSED = '~/overlay/compressed'
DETECTIONS = '~/detections'
REGIONS_JSON = '~/regions_json'
RLE_MASK = '~/rle_mask'
FRAME_SCORE = '~/frame_score'
LABEL_INFO = '~/label_info'
LABEL_INFO_JSON = '~/label_info_json'
DIAGNOSTICS = '/diagnostics'

CALIBRATE = '~/calibrate'
ENABLE = '~/enable'
RESET_STATISTICS = '~/reset_statistics'
SNAPSHOT = '~/snapshot'
SERVICES = (CALIBRATE, ENABLE, RESET_STATISTICS, SNAPSHOT)

COMPRESSED_SUFFIX = '/compressed'
"""Goes behind a topic name that is resolved already: a remap of `image` must reach it too."""


def of_camera(name: str, camera: str) -> str:
    """The name that a name of this module has for one of several cameras; '' is the only one.

    >>> of_camera(IMAGE, 'front'), of_camera(OVERLAY, 'front'), of_camera(OVERLAY, '')
    ('front/image', '~/front/overlay', '~/overlay')
    """
    if not camera:
        return name
    return f'~/{camera}/{name[2:]}' if name.startswith('~/') else f'{camera}/{name}'


def camera_key(camera: str, namespace: str) -> str:
    """What files call a camera: its name of several, or the namespace of the node of it alone.

    Nodes of a camera each may share a checkpoint, a `calibration_file` and an `ignore_mask`.

    >>> camera_key('front', '/car'), camera_key('', '/car/left'), camera_key('', '/')
    ('front', 'car/left', '')
    """
    return camera or namespace.strip('/')


def compressed(topic: str) -> str:
    """The name of the compressed images of a resolved image topic; it may have been given itself.

    >>> compressed('/camera/image_raw'), compressed('/camera/image_raw/compressed')
    ('/camera/image_raw/compressed', '/camera/image_raw/compressed')
    """
    return topic if topic.endswith(COMPRESSED_SUFFIX) else topic + COMPRESSED_SUFFIX


def uncompressed(topic: str) -> str:
    """The name of the raw images of a resolved topic of compressed ones; the way back.

    >>> uncompressed('/camera/image_raw/compressed')
    '/camera/image_raw'
    """
    return topic.removesuffix(COMPRESSED_SUFFIX)


def beside(image: str) -> str:
    """The name of a camera's calibration beside its images, as image_transport has it.

    >>> beside('image'), beside('/front/image_raw'), beside('/front/image_raw/compressed')
    ('camera_info', '/front/camera_info', '/front/camera_info')
    """
    folder, slash, _ = uncompressed(image).rpartition('/')
    return f'{folder}{slash}{CAMERA_INFO}'


def resolve(name: str, namespace: str = '', node_name: str = NODE_NAME) -> str:
    """The absolute name that ROS gives to a name of this module.

    Args:
        name: An absolute (`/a`), relative (`a`) or private (`~/a`) name.
        namespace: The node's namespace, with or without slashes at its ends.
        node_name: The node's own name, without a namespace.

    >>> resolve(OVERLAY, 'camera/front')
    '/camera/front/anomaly_seg/overlay'
    """
    if name.startswith('/'):
        return name
    parts = [namespace.strip('/')]
    if name.startswith('~'):
        parts += [node_name, name[1:].lstrip('/')]
    else:
        parts.append(name)
    return '/' + '/'.join(part for part in parts if part)
