"""Quality of service of every topic, and the reliability that fits the camera.

Profiles are made anew for each use: rclpy writes a user's overrides into the profile that it is
given.
"""

from __future__ import annotations

from collections.abc import Iterable

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

from .compat import start_up_values
from .parameters import QOS_OVERRIDES

MOST_DEPTH = 2**31 - 1
"""What DDS counts up to."""
WORDS: dict[QoSPolicyKind, Iterable[HistoryPolicy | ReliabilityPolicy]] = {
    QoSPolicyKind.HISTORY: HistoryPolicy,
    QoSPolicyKind.RELIABILITY: ReliabilityPolicy,
}
"""What the policies may be that users may change and that are no number."""


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


def check_overrides(node: Node, topic: str, entity: str, options: QoSOverridingOptions) -> None:
    """Refuses what a user has set of a topic and ROS itself would refuse badly, or not at all.

    Args:
        node: With the parameters that it was started with.
        topic: Fully resolved name.
        entity: 'publisher' or 'subscription'.
        options: What may be changed.

    Raises:
        ValueError: Names the parameter and what it may be.
    """
    given = start_up_values(node)
    for kind in options.policy_kinds:
        name = f'{QOS_OVERRIDES}{topic}.{entity}.{kind.name.lower()}'
        if name not in given:
            continue
        value = given[name].value
        if kind == QoSPolicyKind.DEPTH:
            fits = type(value) is int and 0 <= value <= MOST_DEPTH
            way_out = f'write a whole number from 0 to {MOST_DEPTH}'
        else:
            words = [policy.name.lower() for policy in WORDS[kind] if policy.name != 'UNKNOWN']
            fits = isinstance(value, str) and value.lower() in words
            way_out = f'choose one of: {", ".join(words)}'
        if not fits:
            raise ValueError(f'parameter {name} is {value!r}; {way_out}')


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
        profiles = offered(node, topic, kind)
        reliable = bool(profiles) and all(
            profile.reliability == ReliabilityPolicy.RELIABLE for profile in profiles
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
    checked = [qos_check_compatible(theirs, profile)[0] for theirs in offered(node, topic, kind)]
    return checked.count(QoSCompatibility.ERROR)


def offered(node: Node, topic: str, kind: str) -> list[QoSProfile]:
    """Gives the profile of each publisher of a kind of messages; arguments as of the others."""
    found = node.get_publishers_info_by_topic(topic)
    return [info.qos_profile for info in found if info.topic_type == kind]
