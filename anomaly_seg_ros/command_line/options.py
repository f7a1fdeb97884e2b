"""Options that several commands take, each declared once."""

from __future__ import annotations

import argparse

from anomaly_seg_ros.checkpoint.folder import DEFAULT
from anomaly_seg_ros.engines import AUTO, ENGINES, precisions


def add_checkpoint(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Declares which checkpoint is taken."""
    if required:
        parser.add_argument('--checkpoint', required=True, help=f"folder, or '{DEFAULT}'")
    else:
        help_text = f"folder; default: '{DEFAULT}', which ships"
        parser.add_argument('--checkpoint', default=DEFAULT, help=help_text)


def add_camera(parser: argparse._ActionsContainer) -> None:
    """Declares whose calibration is taken."""
    help_text = 'whose calibration is taken, as of adapt; default: that of all in common'
    parser.add_argument('--camera', default='', metavar='NAME', help=help_text)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Declares which score is computed, by which engine and in which precision."""
    parser.add_argument('--score', help="anomaly score; default: the checkpoint's own")
    parser.add_argument('--engine', default=AUTO, help=', '.join((AUTO, *ENGINES)))
    parser.add_argument('--precision', default=AUTO, help=', '.join(precisions()))
