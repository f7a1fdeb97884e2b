"""The main job, shown: camera frames in over DDS, masks and overlays out: `anomaly_seg demo`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import sys

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.options import add_checkpoint
from anomaly_seg_ros.demo.frame_source import open_frames, SYNTHETIC
from anomaly_seg_ros.demo.play import NodeStartError, play
from anomaly_seg_ros.engines import AUTO, engine_module, ENGINES
from anomaly_seg_ros.node.middleware_profile import shm_profile_environment

MOST_RATE_HZ = 1000.0
"""More than any camera; the film can be written at some times that."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg demo` takes."""
    parser.add_argument(
        '--source', default=SYNTHETIC, help=f"'{SYNTHETIC}', an image folder, a video, or a bag"
    )
    parser.add_argument('--topic', help='of the images of a bag; needed where it has several')
    parser.add_argument('--frames', type=int, help='at most so many')
    parser.add_argument(
        '--rate', type=float, default=10.0, metavar='HZ', help='highest rate of the frames'
    )
    add_checkpoint(parser)
    parser.add_argument('--engine', default=AUTO, help=', '.join((AUTO, *ENGINES)))
    parser.add_argument(
        '--out', type=Path, default=Path('out/demo'), help='folder for the results'
    )


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg demo`."""
    if not 0 < args.rate <= MOST_RATE_HZ:
        raise ValueError(f'rate is {args.rate}; it must be above 0 and at most {MOST_RATE_HZ}')
    if args.engine != AUTO:
        engine_module(args.engine)
    frames = open_frames(args.source, args.frames, args.topic)
    checkpoint = Checkpoint.open(args.checkpoint)  # says what is wrong before a node is started
    choice = shm_profile_environment()
    if choice.warning:
        print(f'anomaly_seg demo: {choice.warning}', file=sys.stderr)
    # Both sides need the profile, and nobody outside of this machine should see the demo.
    os.environ.update(choice.variables)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    args.out.mkdir(parents=True, exist_ok=True)
    for old in (*args.out.glob('overlay_*.png'), args.out / 'demo.mp4', args.out / 'summary.json'):
        old.unlink(missing_ok=True)
    try:
        summary = play(frames, checkpoint.folder, args.engine, args.rate, args.out)
    except NodeStartError as error:
        print(f'anomaly_seg demo: {error}', file=sys.stderr)
        return 1
    (args.out / 'summary.json').write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')
    latency = summary['latency_ms']
    print(
        f'{summary["frames_received"]} of {summary["frames_sent"]} frames came back, '
        f'p50 {latency["p50"]} ms, engine {summary["engine"]}; look at {args.out / "demo.mp4"} '
        f'and {args.out}/overlay_*.png'
    )
    return 0 if summary['frames_received'] == summary['frames_sent'] else 1
