"""Quality of service of every topic, and the reliability that fits the camera.

Profiles are made anew for each use: rclpy writes a user's overrides into the profile that it is
given.
"""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    qos_check_compatible,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions


def output() -> QoSProfile:
    """Reliable serves readers of both kinds; depth 1 because only the newest matters."""
    return _newest(ReliabilityPolicy.RELIABLE)


def output_overrides() -> QoSOverridingOptions:
    """What users may change of an output by parameters `qos_overrides.<topic>.publisher...`."""
    return QoSOverridingOptions.with_default_policies()


def latched() -> QoSProfile:
    """Late joiners get the last message."""
    profile = _newest(ReliabilityPolicy.RELIABLE)
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile


def camera_info_input() -> QoSProfile:
    """Best effort reads every camera's calibration; the newest is enough."""
    return _newest(ReliabilityPolicy.BEST_EFFORT)


def image_input(reliability: ReliabilityPolicy) -> QoSProfile:
    """Gives the profile of the camera subscription: newest frame wins."""
    return _newest(reliability)


def image_input_overrides() -> QoSOverridingOptions:
    """What users may change of the input by parameters `qos_overrides.<topic>.subscription...`.

    Not its reliability: that override would be declared with the first subscription's value and
    hold for all later ones, and 'auto' could never follow the camera.
    """
    return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))


def _newest(reliability: ReliabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


def choose_reliability(node: Node, topic: str, kind: str, asked: str) -> ReliabilityPolicy:
    """Gives the reliability for reading `topic`.

    'auto' is reliable where there are publishers and all of them are: frames above the sender's
    shared-memory segment then arrive. Else best effort, which matches every publisher.

    Args:
        node: Whose view of the graph is asked.
        topic: Fully resolved name.
        kind: Of the messages that are read; publishers of others do not count.
        asked: 'auto', 'best_effort' or 'reliable'.
    """
    if asked != 'auto':
        reliable = asked == 'reliable'
    else:
        offered = _offered(node, topic, kind)
        reliable = bool(offered) and all(
            profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered
        )
    return ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT


def incompatible(node: Node, topic: str, kind: str, profile: QoSProfile) -> int:
    """Gives the number of publishers that `topic` has now and whose images cannot reach a reader.

    Args:
        node: Whose view of the graph is asked.
        topic: Fully resolved name.
        kind: Of the messages that are read; publishers of others do not count.
        profile: Of the reader.
    """
    checked = [
        qos_check_compatible(offered, profile)[0] for offered in _offered(node, topic, kind)
    ]
    return checked.count(QoSCompatibility.ERROR)


def _offered(node: Node, topic: str, kind: str) -> list[QoSProfile]:
    found = node.get_publishers_info_by_topic(topic)
    return [info.qos_profile for info in found if info.topic_type == kind]
