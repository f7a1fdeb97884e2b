"""The command `anomaly_seg`: one verb, one file, loaded only when it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
import logging
import os
import sys
from typing import NamedTuple

from anomaly_seg_ros import __version__
from anomaly_seg_ros.process.allocator import tune_allocator
from anomaly_seg_ros.process.cores import shared_cores
from anomaly_seg_ros.process.path_errors import try_out
from anomaly_seg_ros.process.stop_signals import StopSignals

from .command_line.errors import say, say_error
from .command_line.parser import Parser
from .registry import did_you_mean

PROGRAM = 'anomaly_seg'
RUNTIME, TRAINING = 'anomaly_seg_ros.commands', 'training.commands'


class Verb(NamedTuple):
    """What the command knows of a verb before its file is loaded.

    Attributes:
        room: Package of the file that is named as the verb.
        text: One line of help.
        computes: Whether it runs a network and so takes `--threads`.
        out_is_file: Whether its `--out` is a file; else it is a folder.
    """

    room: str
    text: str
    computes: bool = False
    out_is_file: bool = False


VERBS = {
    'demo': Verb(RUNTIME, 'camera frames in over DDS, masks and overlays out'),
    'doctor': Verb(RUNTIME, 'what this machine can run, and what a camera topic carries'),
    'predict': Verb(RUNTIME, 'labels, scores, masks and overlays of image files', True),
    'adapt': Verb(RUNTIME, 'fit a checkpoint to a camera by its ordinary frames', True),
    'check': Verb(TRAINING, 'look at a dataset before anything is learned from it'),
    'convert': Verb(TRAINING, 'make a set of own classes from what label tools export'),
    'train': Verb(TRAINING, 'train a network from a YAML file', True),
    'train_flow': Verb(TRAINING, 'train a flow that draws outliers for nflow_js', True),
    'fit_score': Verb(TRAINING, 'fit the calibration of a score on validation frames', True),
    'evaluate': Verb(TRAINING, 'metrics, curves and pictures of anomaly scores', True),
    'report': Verb(TRAINING, 'one HTML page from result folders', out_is_file=True),
    'benchmark': Verb(TRAINING, 'latency, memory and stage times of engines, in one run', True),
    'import_weights': Verb(TRAINING, 'make a checkpoint from a public weights file'),
    'replay_snapshot': Verb(RUNTIME, 'run a snapshot of the node again and compare', True),
    'bag': Verb(TRAINING, 'a bag through the inference core of the node, without ROS', True),
    'make_bag': Verb(RUNTIME, 'make a bag from a folder of images'),
    'export': Verb(RUNTIME, 'build an engine folder from a checkpoint'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; the one place where the errors of all verbs become a line and a status.

    Returns:
        0 done, 2 wrong usage or bad input, 1 anything else that can be foreseen (a full disk,
        Ctrl-C, SIGTERM); what cannot be raises.
    """
    argv = sys.argv[1:] if (is_own_process := argv is None) else list(argv)
    # Names of files go to the terminal too, and some are not UTF-8.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    program, out = PROGRAM, None
    with StopSignals(is_own_process) as signals:
        try:
            verb = parse_verb(argv[:1])
            program = f'{PROGRAM} {verb}'
            # Before the verb's module brings torch or OpenCV, whose buffers it is about.
            tune_allocator()
            logging.basicConfig(format='%(levelname)s: %(message)s', level=logging.WARNING)
            args = build_parser(verb).parse(argv[1:])
            out = getattr(args, 'out', None)
            return run(verb, args)
        except BrokenPipeError:
            leave_output()  # who read it has left, as `head` does: there is nobody to tell
            return 1
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - see `StopSignals.caught`
            if signals.caught or isinstance(error, KeyboardInterrupt):
                say(program, f'stopped by {signals.name}')
                return 1
            return say_error(program, error, out)


def parse_verb(argv: Sequence[str]) -> str:
    """Gives the verb; ends with status 2 where there is no such."""
    parser = Parser(
        prog=PROGRAM,
        description='Semantic segmentation with a per-pixel anomaly score.',
    )
    verbs = '\n'.join(f'  {name:15} {verb.text}' for name, verb in VERBS.items())
    parser.epilog = f'verbs:\n{verbs}'
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('verb', metavar='VERB')
    verb: str = parser.parse_args(argv).verb
    if verb not in VERBS:
        parser.error(f'unknown verb {verb!r}{did_you_mean(verb, VERBS)}')
    return verb


def build_parser(verb: str) -> Parser:
    """Gives the parser of a verb, which also gives its `main`."""
    module = import_module(f'{VERBS[verb].room}.{verb}')
    parser = Parser(prog=f'{PROGRAM} {verb}', description=VERBS[verb].text)
    module.add_arguments(parser)
    if VERBS[verb].computes:
        parser.add_argument(
            '--threads',
            type=int,
            metavar='N',
            help='of the network (default: all usable cores, above two one less)',
        )
    parser.set_defaults(main=module.main)
    return parser


def run(verb: str, args: argparse.Namespace) -> int:
    """Runs a verb on its share of the cores, once its `--out` has been tried."""
    if getattr(args, 'out', None) is not None:
        try_out(args.out, VERBS[verb].out_is_file)
    with shared_cores(getattr(args, 'threads', None), getattr(args, 'devices', 1)):
        status: int = args.main(args)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_output()
        raise OSError(error.errno, '', 'standard output') from None
    return status


def leave_output() -> None:
    """Sends what is left of standard output nowhere; else Python fails at it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
