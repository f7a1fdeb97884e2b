"""Trains a normalising flow on crops of a dataset; its file is what `nflow_js` starts from."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

from anomaly_seg_ros.process.stop_signals import StopRequest
from training.datasets import build_dataset
from training.loop.early_end import one_line_errors
from training.loop.run_folder import check_resume
from training.recipes.flow_config import load_flow_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg train_flow` takes."""
    parser.add_argument('config', type=Path, metavar='CONFIG.yaml')
    parser.add_argument('changes', nargs='*', metavar='key=value', help='changes of the YAML file')
    parser.add_argument('--resume', action='store_true', help='go on from the last whole epoch')
    parser.add_argument('--out', type=Path, required=True, help='folder for all that is written')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg train_flow`."""
    config = load_flow_config(args.config, args.changes)
    check_resume(args.out, args.resume)
    train_set = build_dataset(config.dataset, config.root, config.train_split)
    val_set = build_dataset(config.dataset, config.root, config.val_split)
    # Torch comes only now, which takes seconds: what is wrong in a line of the recipe was said.
    from training.loop.flow_trainer import FLOW_FILE, FlowTrainer

    lower = f'batch_size ({config.batch_size}) or patch ({config.patch})'
    with StopRequest() as stop, one_line_errors(lower, config.workers):
        trainer = FlowTrainer(config, args.out, train_set, val_set, lambda: stop.asked)
        if args.resume:
            trainer.resume()
        finished = trainer.run()
    if not finished:
        print(f'stopped; go on with: --resume --out {args.out}', file=sys.stderr)
        return 1
    print(f'best val bits/dim {trainer.best:.3f}; flow: {args.out / FLOW_FILE}')
    print('next, joint training with a network:')
    flow = args.out / FLOW_FILE
    print(f'  anomaly_seg train CONFIG.yaml objective_options.flow={flow} --out DIR')
    return 0
