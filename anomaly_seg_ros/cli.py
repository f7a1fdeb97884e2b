"""The command `anomaly_seg`: one verb, one file, loaded only when it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
import logging
import sys

from anomaly_seg_ros import __version__
from anomaly_seg_ros.process.allocator import tune_allocator

RUNTIME, TRAINING = 'anomaly_seg_ros.commands', 'training.commands'

VERBS = {
    'demo': (RUNTIME, 'camera frames in over DDS, masks and overlays out'),
    'predict': (RUNTIME, 'labels, scores, masks and overlays of image files'),
    'train': (TRAINING, 'train a network from a YAML file'),
    'train_flow': (TRAINING, 'train a flow that draws outliers for nflow_js'),
    'fit_score': (TRAINING, 'fit the calibration of a score on validation frames'),
    'evaluate': (TRAINING, 'metrics, curves and pictures of anomaly scores'),
    'report': (TRAINING, 'one HTML page from result folders'),
    'benchmark': (TRAINING, 'latency, memory and stage times of engines, in one run'),
    'import_weights': (TRAINING, 'make a checkpoint from a public weights file'),
    'bag': (TRAINING, 'a bag through the inference core of the node, without ROS'),
    'make_bag': (RUNTIME, 'make a bag from a folder of images'),
    'export': (RUNTIME, 'build an engine folder from a checkpoint'),
}
"""Verb to (room of the file that is named as the verb, one line of help)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Returns:
        0 done, 2 wrong usage or bad input (one line on stderr). Anything else raises.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    # Names of files go to the terminal too, and some are not UTF-8.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    parser = argparse.ArgumentParser(
        prog='anomaly_seg',
        description='Semantic segmentation with a per-pixel anomaly score.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='verbs:\n' + '\n'.join(f'  {verb:15} {text}' for verb, (_, text) in VERBS.items()),
    )
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('verb', choices=VERBS, metavar='VERB')
    verb = parser.parse_args(argv[:1]).verb
    room, text = VERBS[verb]
    # Before the verb's module brings torch or OpenCV, whose buffers it is about.
    tune_allocator()
    logging.basicConfig(format='%(levelname)s: %(message)s', level=logging.WARNING)
    try:
        module = import_module(f'{room}.{verb}')
        verb_parser = argparse.ArgumentParser(prog=f'anomaly_seg {verb}', description=text)
        module.add_arguments(verb_parser)
        status: int = module.main(verb_parser.parse_args(argv[1:]))
    except ModuleNotFoundError as error:
        print(
            f'anomaly_seg {verb}: {error}; install what it needs: '
            f'pip install -r config/requirements/train.txt',
            file=sys.stderr,
        )
        return 2
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f'anomaly_seg {verb}: {error}', file=sys.stderr)
        return 2
    return status
