"""Writes the numbers of the pages from `docs/results.json`: `python -m docs.numbers`.

A page marks what is printed here by `<!-- numbers: NAME -->` and `<!-- end of numbers -->`; NAME
is a key of `PARTS`. The rows are measured by `python -m training.study.compare`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
import re
import sys
from typing import Any

from training.reporting.markdown import markdown_table
from training.results import read_results, ResultRow
from training.study.compare import NODE, SCORED, SHIPPED, TIMED
from training.study.methods import Subject, subjects
from training.study.rows import BASELINE

ROOT = Path(__file__).resolve().parent.parent

PAGES = (
    'README.md',
    'docs/comparison.md',
    'docs/evaluation.md',
    'anomaly_seg_ros/checkpoints/default/MODEL_CARD.md',
)
MARKED = re.compile(r'(<!-- numbers: (\w+) -->\n).*?(<!-- end of numbers -->)', re.DOTALL)
SETS = {
    'camvid_test': 'CamVid test',
    'camvid_anomaly_val': 'CamVid val with pasted objects',
    'road_anomaly_val': 'RoadAnomaly, 20 frames',
    'other_cameras_val': 'other cameras, 43 frames of four sets',
}
"""Name of a set to what the pages call it."""

ANOMALY_SETS = tuple(name for name in SETS if name != 'camvid_test')
DASH = '-'
Rows = Sequence[ResultRow]


def percent(value: float | None, digits: int = 1) -> str:
    """Gives a fraction in percent; a dash where it is undefined.

    >>> percent(0.1234), percent(None)
    ('12.3', '-')
    """
    return DASH if value is None else f'{100 * value:.{digits}f}'


def sure(row: ResultRow | None, key: str, value: float | None) -> str:
    """Gives a fraction in percent with its interval."""
    if row is None or value is None:
        return DASH
    ends = row.extra.get('bootstrap', {}).get(key)
    return percent(value) + (f' ({percent(ends[0])} to {percent(ends[1])})' if ends else '')


def operating(row: ResultRow | None, key: str) -> str:
    """Gives a rate at the shipped threshold, with its interval."""
    value = None if row is None else row.extra.get('operating', {}).get(key)
    return sure(row, key, value)


def find(rows: Rows, **wanted: str) -> ResultRow | None:
    """Gives the row whose subject, kind, set and score are those."""
    for row in rows:
        values = {**row.extra, 'score': row.score}
        if all(values.get(key) == value for key, value in wanted.items()):
            return row
    return None


def shipped(rows: Rows, name: str) -> ResultRow | None:
    """Gives the row of the default checkpoint as it ships on a set."""
    return find(rows, subject=BASELINE, kind=SHIPPED, set=name)


def scored(rows: Rows, subject: str, name: str, score: str | None = None) -> ResultRow | None:
    """Gives the row of a method on a set: of all its scores, or for want of that as it ships."""
    wanted = {'subject': subject, 'set': name, **({'score': score} if score else {})}
    return find(rows, kind=SCORED, **wanted) or find(rows, kind=SHIPPED, **wanted)


def made_by(found: Iterable[ResultRow | None]) -> str:
    """Says of rows at which commit, on which engine and machine they were measured."""
    known = [row for row in found if row is not None]
    how = {f'{row.engine} {row.precision}' for row in known}
    commits = {str(row.commit) for row in known}
    return f'engine {", ".join(sorted(how))}, commit {", ".join(sorted(commits))}'


def quality(rows: Rows) -> str:
    """The README's table: the default checkpoint on each set, in few words."""
    found = {name: shipped(rows, name) for name in SETS}
    lines = []
    for name, row in found.items():
        if row is None:
            continue
        rates = row.extra.get('operating', {})
        marked = percent(rates.get('false_positive_share'))
        if row.ap is None:
            cells = [f'mIoU {percent(row.miou)}', marked]
        else:
            found_share = percent(rates.get('recall'))
            cells = [f'{percent(row.ap)}/{percent(row.fpr95)}', f'{found_share}/{marked}']
        lines.append([SETS[name].partition(',')[0].removeprefix('CamVid val with '), *cells])
    return markdown_table(['%', 'AP/FPR95', 'found/false'], lines)


def speed(rows: Rows) -> str:
    """The README's line: latency of frames at a pace, frames/s as fast as the node answers."""
    found = [row for row in rows if row.extra['kind'] == NODE]
    sizes = list(dict.fromkeys(tuple(row.extra['image_size']) for row in found))
    parts = []
    for height, width in sizes:
        paced, closed = (row for row in found if row.extra['image_size'] == [height, width])
        latency = (paced.latency_ms or {})['p50']
        rate = closed.extra['fps']
        parts.append(f'{width}x{height} {latency:.1f} ms (p50), {rate:.1f} frames/s')
    if not found:
        return DASH
    machine = found[0].extra['machine']
    cores = f'{machine["cores"]} cores of {machine["cpu"]}'
    return f'On {cores}, no GPU, image published to mask received: {"; ".join(parts)}'


RATES = {
    'precision': 'precision',
    'recall': 'recall',
    'false_positive_share': 'normal pixels marked',
}
"""Rates at the shipped threshold, and what the pages call them."""


def card(rows: Rows) -> str:
    """The model card's numbers, each with its interval over frames."""
    found = {name: shipped(rows, name) for name in SETS}
    lines = []
    for name, row in found.items():
        cells = [sure(row, key, getattr(row, key, None)) for key in ('miou', 'ap', 'fpr95')]
        rates = [operating(row, key) for key in RATES]
        mean = sure(row, 'f1_mean', getattr(row, 'f1_mean', None))
        lines.append([SETS[name], *cells, mean, *rates])
    head = ['in percent', 'mIoU', 'AP', 'FPR95', 'mean F1', *RATES.values()]
    text = (
        'In brackets what 95 % of 1000 resamples of the frames give; precision, recall and normal '
        'pixels marked are at the threshold that ships.'
    )
    return f'{text}\n\n{markdown_table(head, lines)}\n\n({made_by(found.values())})'


def classes(rows: Rows) -> str:
    """The model card's table by class, of CamVid test."""
    row = shipped(rows, 'camvid_test')
    if row is None:
        return DASH
    names = row.extra.get('class_names', [])
    iou = dict(zip(names, row.iou or [], strict=False))
    lines = [
        [
            str(group['class']),
            percent(iou.get(group['class'])),
            f'{group["n_normal"]:,}',
            percent(group['false_positive_share'], 2),
        ]
        for group in row.extra.get('by_class', [])
    ]
    return markdown_table(['CamVid test', 'IoU', 'pixels', 'marked, %'], lines)


def thirds(rows: Rows) -> str:
    """The model card's table by third of the image, of every set."""
    lines = []
    for name, title in SETS.items():
        row = shipped(rows, name)
        lines += [
            [title, group['third'], *(percent(group[key], 2) for key in RATES)]
            for group in (row.extra.get('by_third', []) if row else [])
        ]
    return markdown_table(['set', 'third', *RATES.values()], lines)


def scores(rows: Rows) -> str:
    """The evaluation page's table: every score of the default checkpoint."""
    found = [
        row for row in rows if row.extra['subject'] == BASELINE and row.extra['kind'] == SCORED
    ]
    names = list(dict.fromkeys(str(row.score) for row in found))
    ships = [shipped(rows, name) for name in SETS]
    own = next((str(row.score) for row in ships if row), DASH)
    lines = [[f'`{own}`, as it ships', *pairs(ships)]]
    for score in names:
        cells = [find(found, set=name, score=score) for name in ANOMALY_SETS]
        miou = find(found, set='camvid_test')
        lines.append([f'`{score}`, torch fp32', *pairs([miou, *cells])])
    head = ['AP / FPR95 in percent', 'mIoU, CamVid test', *(SETS[name] for name in ANOMALY_SETS)]
    return markdown_table(head, lines)


def pairs(found: Sequence[ResultRow | None]) -> list[str]:
    """Gives mIoU of the first row, AP / FPR95 of the others."""
    first, *rest = found
    cells = [f'{percent(row.ap)} / {percent(row.fpr95)}' if row else DASH for row in rest]
    return [percent(first.miou) if first else DASH, *cells]


def overview(rows: Rows) -> str:
    """The comparison's table of all methods."""
    lines = []
    for subject, score in methods(rows):
        timed = find(rows, subject=subject.name, kind=TIMED, score=score)
        miou = scored(rows, subject.name, 'camvid_test')
        cells = [scored(rows, subject.name, name, score) for name in ANOMALY_SETS]
        p50 = (timed.latency_ms or {}).get('p50') if timed else None
        lines.append(
            [
                subject.title,
                f'`{score}`',
                sure(miou, 'miou', miou.miou if miou else None),
                *(sure(row, 'ap', row.ap if row else None) for row in cells),
                DASH if p50 is None else f'{p50:.1f}',
                f'{timed.extra["ratio_to_first"]:.2f}' if timed else DASH,
                f'{timed.peak_mb:.0f}' if timed and timed.peak_mb else DASH,
                subject.published_of(score) or DASH,
            ]
        )
    head = ['network', 'score', 'mIoU']
    head += [f'AP, {SETS[name]}' for name in ANOMALY_SETS]
    head += ['ms', 'of the first', 'MiB', 'published AP / FPR95, other data']
    return markdown_table(head, lines)


def details(rows: Rows) -> str:
    """The comparison's tables of each set."""
    parts = []
    for name in ANOMALY_SETS:
        lines, base = [], None
        for subject, score in methods(rows):
            row = scored(rows, subject.name, name, score)
            if row is None:
                continue
            base = row.extra.get('base_rate')
            cells = [sure(row, key, getattr(row, key)) for key in ('ap', 'fpr95', 'f1_mean')]
            rates = [operating(row, key) for key in RATES]
            lines.append([subject.title, f'`{score}`', *cells, *rates])
        head = ['network', 'score', 'AP', 'FPR95', 'mean F1', *RATES.values()]
        title = f'### {SETS[name][0].upper()}{SETS[name][1:]}'
        chance = f'A random score has AP {percent(base)} and FPR95 95.'
        parts.append(f'{title}\n\n{chance}\n\n{markdown_table(head, lines)}')
    return '\n\n'.join(parts)


def left_out(rows: Rows) -> str:
    """Names the methods that have no rows, and what trains them."""
    known = {row.extra['subject'] for row in rows}
    missing = [subject for subject in subjects() if subject.name not in known]
    names = ', '.join(f'{subject.title} (`{subject.name}`)' for subject in missing)
    return f'Not measured in this state: {names or "nothing"}.'


def methods(rows: Rows) -> list[tuple[Subject, str]]:
    """Gives each measured method and score in the order of the tables."""
    found = []
    for subject in subjects():
        mine = [row for row in rows if row.extra['subject'] == subject.name]
        names = dict.fromkeys(
            str(row.score) for row in mine if row.extra['kind'] not in (TIMED, NODE)
        )
        found += [(subject, score) for score in names]
    return found


PARTS: dict[str, Callable[[Rows], str]] = {
    'quality': quality,
    'card': card,
    'classes': classes,
    'thirds': thirds,
    'scores': scores,
    'overview': overview,
    'details': details,
    'left_out': left_out,
    'speed': speed,
}
"""Name of a marked part to what prints it."""


def rewritten(page: str, rows: Rows) -> str:
    """Gives the text of a page with its marked parts printed anew.

    Raises:
        ValueError: A mark names no part.
    """

    def part(found: re.Match[str]) -> str:
        if found[2] not in PARTS:
            raise ValueError(f'unknown part {found[2]!r}; choose one of: {", ".join(PARTS)}')
        return f'{found[1]}{PARTS[found[2]](rows)}\n{found[3]}'

    return MARKED.sub(part, page)


def main() -> None:
    """Rewrites all pages."""
    rows: Any = read_results(ROOT / 'docs')
    for name in PAGES:
        page = ROOT / name
        page.write_text(rewritten(page.read_text(encoding='utf-8'), rows), encoding='utf-8')
        sys.stdout.write(f'{page}\n')


if __name__ == '__main__':
    argparse.ArgumentParser(prog='python -m docs.numbers', description=__doc__).parse_args()
    main()
