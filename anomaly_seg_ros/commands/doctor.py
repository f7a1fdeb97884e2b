"""What this machine can run, and what is wrong with a camera topic: `anomaly_seg doctor`."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator
from importlib.util import find_spec
import os
from statistics import median

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.demo.loopback import loopback_ms
from anomaly_seg_ros.doctor.findings import BAD, DOUBTFUL, GOOD, Observation, verdict
from anomaly_seg_ros.doctor.machine import machine, middleware
from anomaly_seg_ros.node.middleware_profile import shm_profile_environment
from anomaly_seg_ros.node.start_checks import check_start
from anomaly_seg_ros.node.watchdog import Level

LISTEN_S = 4.0
"""Longer than the silence after which the watchdog speaks."""
USUAL = (1080, 1920)
COMPRESSED = 'input_transport: compressed'
"""What the node is to be told of a topic of compressed images, in its file of parameters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg doctor` takes."""
    parser.add_argument('--topic', metavar='T', help='camera topic to look at')
    add_checkpoint(parser)


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg doctor`."""
    if args.topic == '':
        raise ValueError("--topic is ''; write the name of a topic, or leave --topic out")
    checkpoint = Checkpoint.open(args.checkpoint)
    found = []
    for finding in examine(checkpoint, args.topic):
        found.append(finding)
        print(finding, flush=True)
    print(f'\n{verdict(found)}')
    return int(any(finding.state == BAD for finding in found))


def examine(checkpoint: Checkpoint, topic: str | None) -> Iterator[Observation]:
    """Gives finding after finding: the machine, ROS, the topic, and a frame there and back."""
    yield from machine(checkpoint)
    yield from middleware(os.environ)
    if find_spec('rclpy') is None:
        yield Observation(
            'rclpy', 'not found', BAD, 'source the setup file of ROS and that of the workspace'
        )
        return
    try:
        check_start([], os.environ)
    except ValueError as error:
        yield Observation('start', str(error), BAD, str(error).rpartition('; ')[2])
        return
    size = None
    if topic is not None:
        size = yield from camera(topic)
    yield loopback(checkpoint, size or USUAL)


def camera(topic: str) -> Generator[Observation, None, tuple[int, int] | None]:
    """Gives what is on a topic; returns the size of its images, None where none can be read."""
    from anomaly_seg_ros.ros.topic_probe import probe

    try:
        report = probe(topic, LISTEN_S)
    except ValueError as error:
        yield Observation('topic', str(error), BAD, 'write the name of a topic')
        return None
    yield Observation('middleware', report.middleware)
    for publisher in report.publishers:
        yield Observation('publisher', publisher)
    if len(report.publishers) > 1:
        many = f'{len(report.publishers)} send {topic}, and are taken for one camera'
        yield Observation('publishers', many, DOUBTFUL, 'leave one of them')
    status, values = report.status, report.status.values
    state = {Level.OK: GOOD, Level.WARN: DOUBTFUL, Level.ERROR: BAD}[status.level]
    arrived = values['frames_received']
    text = f'{topic}: {status.message}'
    if arrived:
        rate = values['rate_hz']
        rate = f', {rate:.1f} frames/s' if isinstance(rate, float) else ''
        about = ', '.join(str(values[key]) for key in ('size', 'encoding') if values[key])
        text += f' ({arrived} in {LISTEN_S:.0f} s{rate}{", " + about if about else ""})'
    if arrived == values['frames_failed']:  # of no image too
        state = BAD
    step = '' if state == GOOD else 'as it says'
    if report.compressed:
        text += f'; the node needs {COMPRESSED}'
        step = step or f'write {COMPRESSED} into a file and launch with params_file:=FILE'
    yield Observation('topic', text, state, step)
    return report.size


def loopback(checkpoint: Checkpoint, size: tuple[int, int]) -> Observation:
    """Sends frames through a node that is started for it, on this machine alone."""
    before = dict(os.environ)
    os.environ.update(shm_profile_environment().variables)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    try:
        latencies = list(loopback_ms(size, checkpoint.folder))
    except (RuntimeError, ValueError) as error:
        return Observation('loopback', str(error), BAD, 'the lines above say what the node lacks')
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Observation(
        'loopback',
        f'{size[0]}x{size[1]} to the mask in {median(latencies):.0f} ms '
        f'(at most {max(latencies):.0f}), so up to {1e3 / median(latencies):.0f} frames/s',
    )
