"""What differs between the distributions of ROS 2, by what their rclpy has and has not."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import pytest

pytest.importorskip('rclpy')

pytestmark = pytest.mark.ros

COMPAT = 'anomaly_seg_ros.ros.compat'
EVENTS = 'rclpy.experimental.events_executor'

FACTS: dict[str, dict[str, bool]] = {
    'humble': {'event_handler': False, 'clock_type': False, 'matched': False, 'events': False},
    'jazzy': {'event_handler': True, 'clock_type': True, 'matched': True, 'events': False},
    'kilted': {'event_handler': True, 'clock_type': True, 'matched': True, 'events': True},
    'lyrical': {'event_handler': True, 'clock_type': True, 'matched': True, 'events': True},
    'rolling': {'event_handler': True, 'clock_type': True, 'matched': True, 'events': True},
}
"""Modules, and what a class of theirs takes: read in rclpy's source of each. The later patches of
Jazzy have `events` too."""


def compat_of(distro: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as it is on a distribution; what that has not cannot be imported."""
    facts = FACTS[distro]
    handler = types.ModuleType('rclpy.event_handler' if facts['event_handler'] else 'old')
    importlib.import_module('rclpy.lifecycle')  # whatever of it imports the real ones
    real = importlib.import_module('rclpy.event_handler')
    for name in ('SubscriptionEventCallbacks', 'UnsupportedEventTypeError'):
        setattr(handler, name, getattr(real, name))
    handler.PublisherEventCallbacks = (  # type: ignore[attr-defined]
        real.PublisherEventCallbacks if facts['matched'] else lambda incompatible_qos=None: 'old'
    )
    new, old = ('rclpy.event_handler', 'rclpy.qos_event')
    monkeypatch.setitem(sys.modules, new, handler if facts['event_handler'] else None)
    monkeypatch.setitem(sys.modules, old, None if facts['event_handler'] else handler)
    if not facts['clock_type']:
        monkeypatch.setitem(sys.modules, 'rclpy.clock_type', None)
    if not facts['events']:
        monkeypatch.setitem(sys.modules, EVENTS, None)
    monkeypatch.delitem(sys.modules, COMPAT, raising=False)
    return importlib.import_module(COMPAT)


@pytest.mark.parametrize('distro', FACTS)
def test_each_distribution_has_what_the_node_takes(
    distro: str, ros: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compat = compat_of(distro, monkeypatch)
    facts = FACTS[distro]
    assert compat.ClockType is importlib.import_module('rclpy.clock').ClockType
    heard = compat.publisher_events(print)
    assert heard == 'old' if not facts['matched'] else heard.matched is print
    kinds = {}
    for kind in ('auto', 'single', *(['events'] if facts['events'] else [])):
        executor = compat.make_executor(kind)
        kinds[kind] = type(executor).__name__
        executor.shutdown()
    assert kinds['single'] == 'SingleThreadedExecutor'
    assert kinds['auto'] == ('EventsExecutor' if facts['events'] else 'SingleThreadedExecutor')
    if not facts['events']:
        with pytest.raises(ValueError, match='not in this version of rclpy; set executor to auto'):
            compat.make_executor('events')
