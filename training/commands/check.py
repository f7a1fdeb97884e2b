"""Looks at a dataset before anything is learned from it: `anomaly_seg check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.registry import check_name
from training.checking.rules import find
from training.checking.sheet import contact_sheet
from training.checking.summary import summary
from training.checking.survey import make_survey
from training.datasets import DATASETS
from training.datasets.label_ids import LABEL_MAP_HELP, parse_label_map

SHEET = 'contact_sheet.png'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg check` takes."""
    parser.add_argument('--dataset', required=True, help=f'one of: {", ".join(sorted(DATASETS))}')
    parser.add_argument('--root', type=Path, required=True, help='folder of the dataset')
    parser.add_argument('--split', help='part to look at; default: all that it has')
    parser.add_argument(
        '--classes', type=Path, metavar='FILE', help='default: ROOT/classes.yaml (dataset classes)'
    )
    parser.add_argument('--label-map', metavar='ID=MEANING[,...]', help=LABEL_MAP_HELP)
    parser.add_argument('--out', type=Path, help=f'folder for {SHEET}; default: none')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg check`; 1 where training would go wrong."""
    check_name('dataset', DATASETS, args.dataset)
    label_map = parse_label_map(args.label_map) if args.label_map is not None else None
    survey = make_survey(args.dataset, args.root, args.split, args.classes, label_map)
    findings = find(survey)
    print('\n'.join(summary(survey, findings)))
    if args.out is not None and (sheet := contact_sheet(survey)) is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_image(args.out / SHEET, sheet)
        print(f'wrote {args.out / SHEET}')
    return 1 if any(finding.kind == 'error' for finding in findings) else 0
