"""The command `anomaly_seg`: one verb, one file, loaded only when it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
import logging
import os
from pathlib import Path
import sys
from typing import NamedTuple, NoReturn

from anomaly_seg_ros import __version__
from anomaly_seg_ros.engines.facts import TORCH
from anomaly_seg_ros.process.allocator import tune_allocator
from anomaly_seg_ros.process.cores import shared_cores
from anomaly_seg_ros.process.out_of_memory import is_out_of_memory, OUT_OF_MEMORY_SAID
from anomaly_seg_ros.process.path_errors import explain, is_bad_path, try_out
from anomaly_seg_ros.process.stop_signals import StopSignals

from .registry import did_you_mean

RUNTIME, TRAINING = 'anomaly_seg_ros.commands', 'training.commands'
BAG_MODULES = ('rosbags', 'lz4', 'backports')
BAG_PACKAGES = 'rosbags==0.11.9 lz4==4.4.5 backports.zstd==1.8.0'
"""What reads bags. On a vehicle ROS 2 is of apt, and the files of requirements bring another."""
PACKAGES = {
    **dict.fromkeys(BAG_MODULES, BAG_PACKAGES),
    **dict.fromkeys(TORCH, ' '.join(TORCH.values())),
    'cv2': 'opencv-python-headless',
    'yaml': 'PyYAML',
    **{name: name for name in ('numpy', 'openvino', 'tqdm')},
}
"""Import name to what `pip install` takes, of all that runs without training."""
TRAINING_PACKAGES = '-r config/requirements/train.txt'


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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a guess at what was meant."""

    def error(self, message: str) -> NoReturn:
        """Ends with status 2."""
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parses arguments in any order, so that `key=value` may also stand behind options."""
        args, surplus = self.parse_known_intermixed_args(argv)
        if surplus:
            hint = did_you_mean(surplus[0].partition('=')[0], self._option_string_actions)
            self.error(f'unknown argument {surplus[0]!r}{hint}')
        return args


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
    verb, out = '', None
    with StopSignals(is_own_process) as signals:
        try:
            verb = parse_verb(argv[:1])
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
                say(verb, f'stopped by {signals.name}')
                return 1
            return say_error(verb, error, out)


def parse_verb(argv: Sequence[str]) -> str:
    """Gives the verb; ends with status 2 where there is no such."""
    parser = Parser(
        prog='anomaly_seg',
        description='Semantic segmentation with a per-pixel anomaly score.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='verbs:\n' + '\n'.join(f'  {name:15} {verb.text}' for name, verb in VERBS.items()),
    )
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('verb', metavar='VERB')
    verb: str = parser.parse_args(argv).verb
    if verb not in VERBS:
        parser.error(f'unknown verb {verb!r}{did_you_mean(verb, VERBS)}')
    return verb


def build_parser(verb: str) -> Parser:
    """Gives the parser of a verb, which also gives its `main`."""
    module = import_module(f'{VERBS[verb].room}.{verb}')
    parser = Parser(prog=f'anomaly_seg {verb}', description=VERBS[verb].text)
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


def say_error(verb: str, error: BaseException, out: Path | None) -> int:
    """Says an error in one line and gives its status; raises one that could not be foreseen."""
    if isinstance(error, ModuleNotFoundError):
        name = str(error.name).partition('.')[0]
        way = f'install what it needs: pip install {PACKAGES.get(name, TRAINING_PACKAGES)}'
        if name in ('rclpy', 'ament_index_python') or name.endswith('_msgs'):
            way = 'source the setup file of ROS and that of the workspace'
        say(verb, f'{error}; {way}')
        return 2
    if isinstance(error, OSError):
        say(verb, explain(error, out))
        return 2 if is_bad_path(error) else 1
    if is_out_of_memory(error):
        say(verb, OUT_OF_MEMORY_SAID)
        return 1
    if isinstance(error, (ValueError, ImportError)):
        say(verb, str(error))
        return 2
    raise error


def say(verb: str, text: str) -> None:
    """Prints one line on stderr."""
    line = ' '.join(text.split())
    print(f'anomaly_seg {verb}: {line}' if verb else f'anomaly_seg: {line}', file=sys.stderr)
