"""Measures every method that there is a checkpoint for: `python -m training.study.compare`.

Trains nothing: what `python -m training.study` has not trained yet is left out. What was measured
before is not measured again, so it can be stopped, and started again for one method alone. The
rows go into a results.json, in which those of other methods stay; `python -m docs.numbers` then
prints what the pages say of them. `make comparison` does both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
import json
from pathlib import Path
import subprocess
import sys
from typing import Any

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool, tool_parser, ToolError
from anomaly_seg_ros.models.forward import run_fields
from anomaly_seg_ros.process.whole_file import whole_file
from anomaly_seg_ros.scores import score_class
from training.loop.run_folder import KEPT_FOLDER
from training.results import FORMAT, read_results, ResultRow, RESULTS_FILE

from .methods import Subject, subjects
from .rows import BASELINE
from .steps import Data, FITTED_FOLDER, run, StudyStep, TEST, TRAIN
from .times import measure_times

SHIPPED = 'shipped'
"""Kind of the rows of the default checkpoint with the engine that ships."""

SCORED = 'scored'
"""Kind of the rows of all scores, on the torch engine."""

TIMED = 'timed'
"""Kind of the rows of time and memory, on OpenVINO."""

NODE = 'node'
"""Kind of the rows of the node with the default checkpoint, by `training.bench.node`."""

NODE_VALUES = ('image_size', 'pace', 'outputs', 'fps', 'bare_ms', 'ratio_to_bare', 'machine')
"""What stays of the further values of such a row."""

ANY_SET = 'road_anomaly_val'
"""A set on which every score is measured."""

KEPT_VALUES = ('protocol', 'base_rate', 'operating', 'bootstrap', 'weights', 'device')
"""What stays of a row's further values."""

SHIPPED_VALUES = ('by_third', 'by_class', 'by_class_rule', 'class_names')


def main(argv: list[str] | None = None) -> int:
    """Measures the chosen methods and puts their rows into the file."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--data', type=Path, default=Path('../shared/data'), help='default: %(default)s'
    )
    parser.add_argument(
        '--study', type=Path, default=Path('out/study'), help='trained rows; default: %(default)s'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out/comparison'), help='default: %(default)s'
    )
    parser.add_argument('--only', default='*', metavar='PATTERN', help='methods, such as "enet_*"')
    parser.add_argument(
        '--times',
        action='store_true',
        help='measure the time of all that has been measured too, on an idle machine',
    )
    parser.add_argument(
        '--node', action='store_true', help='measure the node itself too, on an idle machine'
    )
    parser.add_argument(
        '--results', type=Path, default=Path('docs'), help='folder of results.json: %(default)s'
    )
    args = parser.parse_args(argv)
    for subject in chosen(args.only):
        steps = comparison_steps(subject, Data(args.data), args.study, args.out)
        if not steps:
            print(f'{subject.name}: no checkpoint, left out; see python -m training.study')
        for step in steps:
            run(step)
            # At once: whoever stops it keeps what is measured.
            merge_rows(args.results, step_rows(subject, step, digest(subject, args.study)))
    if args.times:
        rows = measure_times(timed(args.out), TIMED)
        digests = {subject.name: digest(subject, args.study) for subject in subjects()}
        for row in rows:
            row.extra['weights'] = digests[row.extra['subject']]
        merge_rows(args.results, rows)
    if args.node:
        merge_rows(args.results, node_rows(args.out / NODE))
    print(f'wrote {args.results / RESULTS_FILE}')
    return 0


def chosen(pattern: str) -> list[Subject]:
    """Gives the methods whose name fits a shell pattern.

    Raises:
        ValueError: None does.
    """
    fitting = [subject for subject in subjects() if fnmatch(subject.name, pattern)]
    if not fitting:
        names = ', '.join(subject.name for subject in subjects())
        raise ValueError(f'no method fits {pattern!r}; the methods are: {names}')
    return fitting


def comparison_steps(subject: Subject, data: Data, study: Path, out: Path) -> list[StudyStep]:
    """Gives the commands that measure a method, in order; none where it has no checkpoint.

    Args:
        subject: What to measure.
        data: To measure it on.
        study: Where the study trained.
        out: Of all methods.
    """
    folder = out / subject.name
    if subject.weights:
        file, made = data.weights / subject.weights, folder / 'imported'
        if not file.is_file():
            return []
        importing: tuple[str, ...] = ('import_weights', str(file), '--model', subject.model)
        first = StudyStep('import', (*importing, '--out', str(made)), folder, made)
        # CamVid test has other classes.
        sets = {name: place for name, place in _sets(data).items() if name != TEST}
        return [first, *_measuring(made, ('max_logit', *subject.scores), sets, first)]
    trained = source(subject, study)
    if trained != BASELINE and not Path(trained).is_dir():
        return []
    checkpoint, made = Checkpoint.open(trained), folder / FITTED_FOLDER
    fields = run_fields(checkpoint.network(), checkpoint.meta.void_index)
    scores = scores_of(subject, fields)
    first_fit = ['temperature'] if 'logits' in fields else []
    fitting: tuple[str, ...] = ('fit_score', '--checkpoint', trained, '--dataset', 'camvid')
    fitting += ('--score', ','.join([*first_fit, *scores]), '--root', str(data.camvid))
    weights = checkpoint.weights_sha256
    first = StudyStep('fit', (*fitting, '--out', str(made)), folder, made, recipe=weights)
    shipped = [
        replace(_evaluation(BASELINE, (), 'auto', name, place, folder), recipe=weights)
        for name, place in (_sets(data).items() if subject.name == BASELINE else ())
    ]
    return [*shipped, first, *_measuring(made, scores, _sets(data), first)]


def timed(out: Path) -> list[tuple[str, Path, str]]:
    """Gives method, checkpoint and score of all that was measured below a folder.

    Raises:
        FileNotFoundError: Nothing was.
    """
    found = []
    for subject in subjects():
        folder = out / subject.name
        made = folder / ('imported' if subject.weights else FITTED_FOLDER)
        measured = folder / f'{SCORED}_{ANY_SET}'
        if (measured / RESULTS_FILE).is_file():
            found += [(subject.name, made, str(row.score)) for row in read_results(measured)]
    if not found:
        raise FileNotFoundError(f'nothing was measured below {str(out)!r}, so nothing is timed')
    return found


def node_rows(out: Path) -> list[ResultRow]:
    """Measures the node and gives its rows.

    Args:
        out: Where `training.bench.node` writes.

    Raises:
        ToolError: It could not be measured.
    """
    call = [sys.executable, '-m', 'training.bench.node', '--out', str(out)]
    if status := subprocess.run(call, check=False).returncode:
        raise ToolError(f'the node was not measured: training.bench.node ended with {status}')
    weights = Checkpoint.open(BASELINE).weights_sha256[:12]
    return [
        replace(
            row,
            extra={key: row.extra[key] for key in NODE_VALUES if key in row.extra}
            | {'subject': BASELINE, 'kind': NODE, 'set': row.extra['what'], 'weights': weights},
        )
        for row in read_results(out)
    ]


def source(subject: Subject, study: Path) -> str:
    """Gives the checkpoint of a method that was trained here."""
    if subject.name == BASELINE:
        return BASELINE
    return str(study / subject.name / TRAIN / KEPT_FOLDER)


def digest(subject: Subject, study: Path) -> str | None:
    """Gives the beginning of the sha256 of a method's weights, before a score was fitted.

    None where they are public, or where there are none.
    """
    trained = source(subject, study)
    if subject.weights or (trained != BASELINE and not Path(trained).is_dir()):
        return None
    return Checkpoint.open(trained).weights_sha256[:12]


def scores_of(subject: Subject, fields: set[str]) -> list[str]:
    """Gives the scores of a method that a network with such fields can give."""
    wanted = dict.fromkeys(('max_logit', *subject.scores))
    return [score for score in wanted if score_class(score).reads(fields) <= fields]


def _sets(data: Data) -> dict[str, tuple[str, Path]]:
    """Folder of results to (dataset, root)."""
    return {TEST: ('camvid', data.camvid), **data.anomaly_sets}


def _measuring(
    made: Path, scores: Sequence[str], sets: Mapping[str, tuple[str, Path]], first: StudyStep
) -> list[StudyStep]:
    """Gives the evaluations of all scores.

    Args:
        made: The checkpoint.
        scores: To measure.
        sets: Folder of results to (dataset, root).
        first: The step that makes the checkpoint.
    """
    folder = first.folder
    steps = [
        # The classes do not depend on the score.
        _evaluation(str(made), scores[:1] if name == TEST else scores, 'torch', name, at, folder)
        for name, at in sets.items()
    ]
    return [replace(step, needs=(first.mark,)) for step in steps]


def _evaluation(
    checkpoint: str,
    scores: Sequence[str],
    engine: str,
    name: str,
    place: tuple[str, Path],
    folder: Path,
) -> StudyStep:
    kind = SCORED if scores else SHIPPED
    out = folder / f'{kind}_{name}'
    arguments = (
        *('evaluate', '--checkpoint', checkpoint, '--engine', engine),
        *(('--score', ','.join(scores)) if scores else ()),
        *('--dataset', place[0], '--root', str(place[1]), '--out', str(out)),
    )
    return StudyStep(out.name, arguments, folder, out)


def step_rows(subject: Subject, step: StudyStep, weights: str | None = None) -> list[ResultRow]:
    """Gives the rows of an evaluation as they are kept: without what no page shows.

    Args:
        subject: What was measured.
        step: What measured it.
        weights: `digest` of it; a copy with fitted statistics is another file.
    """
    kind, _, name = step.name.partition('_')
    if kind not in (SCORED, SHIPPED):
        return []
    keys = (*KEPT_VALUES, *(SHIPPED_VALUES if kind == SHIPPED else ()))
    found = []
    for row in read_results(step.produces):
        extra = {key: row.extra[key] for key in keys if row.extra.get(key) is not None}
        extra |= {'subject': subject.name, 'kind': kind, 'set': name}
        if weights:
            extra['weights'] = weights
        found.append(replace(row, extra=extra, iou=row.iou if kind == SHIPPED else None))
    return found


def merge_rows(folder: Path, rows: Iterable[ResultRow]) -> None:
    """Puts rows into results.json in place of those of the same method, kind and set, one a line.

    Rows of the same method with other weights go. The order is that of the methods, so that
    measuring one changes its lines alone.
    """
    new = list(rows)
    places = {_place(row) for row in new}
    weights = {(row.extra['subject'], row.extra.get('weights')) for row in new}
    changed = {subject for subject, digest in weights if digest}
    kept = [
        row
        for row in (read_results(folder) if (folder / RESULTS_FILE).is_file() else [])
        if _place(row) not in places
        and (
            row.extra.get('subject') not in changed
            or row.extra.get('weights') is None
            or (row.extra['subject'], row.extra['weights']) in weights
        )
    ]
    order = [subject.name for subject in subjects()]
    known = [row for row in (*kept, *new) if row.extra.get('subject') in order]
    kinds = (SHIPPED, SCORED, TIMED, NODE)
    known.sort(key=lambda r: (order.index(r.extra['subject']), kinds.index(r.extra['kind'])))
    lines = ',\n'.join(json.dumps(_short(row.to_json()), allow_nan=False) for row in known)
    folder.mkdir(parents=True, exist_ok=True)
    text = f'{{"format": {FORMAT}, "rows": [\n{lines}\n]}}\n'
    with whole_file(folder / RESULTS_FILE) as part:
        part.write_text(text, encoding='utf-8')


def _place(row: ResultRow) -> tuple[Any, ...]:
    return tuple(row.extra.get(key) for key in ('subject', 'kind', 'set'))


def _short(value: Any) -> Any:
    """Gives a value with six digits at most, which is more than a page shows."""
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value]
    return float(f'{value:.6g}') if isinstance(value, float) else value


if __name__ == '__main__':
    run_tool(main)
