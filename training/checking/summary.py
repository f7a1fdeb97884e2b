"""A survey as one screen of text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from anomaly_seg_ros.frames.orientation import UPRIGHT
from training.datasets import Dataset

from .facts import FrameFacts
from .survey import Finding, OWN, Survey

MOST_CLASSES = 24
MOST_FINDINGS = 14


def summary(survey: Survey, findings: Sequence[Finding]) -> Iterator[str]:
    """Gives the lines: what there is, what would be learned, what is wrong."""
    counts = ', '.join(f'{split} {len(part)}' for split, part in survey.parts.items())
    parted = f', parted by {survey.parted}' if survey.parted else ''
    yield f'{survey.root}: {survey.name}, {len(survey.facts)} frames ({counts or "none"}{parted})'
    if survey.facts:
        yield f'images    {_images(survey)}'
        yield f'labels    {_labels(survey)}'
        if survey.labelled:
            yield from _table(survey)
            yield _lesson(survey)
    for finding in findings[:MOST_FINDINGS]:
        yield f'{finding.kind}: {finding.text}'
    if len(findings) > MOST_FINDINGS:
        yield f'and {len(findings) - MOST_FINDINGS} more'
    errors = sum(finding.kind == 'error' for finding in findings)
    yield f'{errors} errors, {len(findings) - errors} warnings'


def _images(survey: Survey) -> str:
    read = [facts for facts in survey.facts if facts.size is not None]
    sizes = Counter(facts.size for facts in read if facts.size is not None)
    turned = sum(facts.turned != UPRIGHT for facts in read)
    parts = [
        _listed((f'{w}x{h}', n) for (h, w), n in sizes.most_common()),
        _listed((f'{bits} bits', n) for bits, n in Counter(f.bits for f in read).most_common()),
        _listed(
            ({1: 'grey', 4: 'colour and alpha'}.get(c, 'colour'), n)
            for c, n in Counter(f.channels for f in read).most_common()
        ),
    ]
    if turned:
        parts.append(f'{turned} turned by Exif')
    if survey.unlabelled:
        parts.append(f'{survey.unlabelled} more without labels')
    return '; '.join(part for part in parts if part)


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    found = list(counts)
    if len(found) == 1:
        return found[0][0]
    text = ', '.join(f'{name} ({count})' for name, count in found[:3])
    return text + (f' and {len(found) - 3} others' if len(found) > 3 else '')


def _labels(survey: Survey) -> str:
    if not survey.labelled:
        return 'none: who made the set keeps them' if survey.tells_pixels else 'none: whole frames'
    pixels = max(sum(facts.pixels for facts in survey.facts), 1)
    ignored = sum(facts.ignored for facts in survey.facts)
    unknown = sum(sum(facts.unknown.values()) for facts in survey.facts)
    what = 'colours' if survey.file is not None and survey.file.by_color else 'ids'
    text = f'{what}; {ignored / pixels:.1%} of the pixels unlabelled'
    return text + (f', {unknown / pixels:.1%} without a meaning' if unknown else '')


class _Row(NamedTuple):
    """A line of the table."""

    name: str
    stored: str
    pixels: int
    frames: str


def _table(survey: Survey) -> Iterator[str]:
    """Gives a line a class, the largest first, and one of the anomalies that are in none."""
    classes = dict(enumerate(survey.classes.names))
    if classes:
        masks = {1: 'anomaly'} if any(f.anomaly is not None for f in survey.facts) else {}
    else:
        masks = {} if survey.name == OWN else {0: 'normal', 1: 'anomaly'}
    rows = [
        *_rows(survey, classes, lambda facts: facts.labelled, lambda part: part.class_ids),
        *_rows(survey, masks, lambda facts: facts.anomaly or {}, lambda part: part.anomaly_ids),
    ]
    if not rows:
        return
    whole = max(sum(f.pixels - f.ignored - sum(f.unknown.values()) for f in survey.facts), 1)
    width = max(5, *(len(row.name) for row in rows))
    known = any(row.stored for row in rows)
    head = f' {"stored as":14}' if known else ''
    yield f'{"class":{width}}{head}  pixels  frames: {", ".join(survey.parts)}'
    rest = rows[MOST_CLASSES : len(classes)]
    for row in (*rows[: min(MOST_CLASSES, len(classes))], *rows[len(classes) :]):
        stored = f' {row.stored:14}' if known else ''
        yield f'{row.name:{width}}{stored} {row.pixels / whole:7.2%}  {row.frames}'
    if rest:
        pixels = sum(row.pixels for row in rest)
        yield f'and {len(rest)} smaller classes, {pixels / whole:.2%} of the pixels'


def _rows(
    survey: Survey,
    names: Mapping[int, str],
    counts: Callable[[FrameFacts], Mapping[int, int]],
    ids: Callable[[Dataset], Mapping[int, int]],
) -> list[_Row]:
    """Gives a row of each value that has a name, the largest first."""
    stored = _stored(survey, ids)
    rows = []
    for value, name in names.items():
        frames = ', '.join(
            str(sum(value in counts(facts) for facts in survey.of(split)))
            for split in survey.parts
        )
        pixels = sum(counts(facts).get(value, 0) for facts in survey.facts)
        rows.append(_Row(name, stored.get(value, ''), pixels, frames))
    return sorted(rows, key=lambda row: -row.pixels)


def _stored(survey: Survey, ids: Callable[[Dataset], Mapping[int, int]]) -> dict[int, str]:
    """Gives what stands for a class in the label files, as text; of its ids those that occur."""
    by_color = survey.file is not None and survey.file.by_color
    known: dict[int, set[int]] = defaultdict(set)
    seen: dict[int, set[int]] = defaultdict(set)
    for split, part in survey.parts.items():
        held = {value for facts in survey.facts if facts.split == split for value in facts.stored}
        for value, meant in ids(part).items():
            known[meant].add(value)
            if value in held:
                seen[meant].add(value)
    found = {}
    for meant, values in known.items():
        order = sorted(seen[meant] or values)
        texts = [f'{value:06x}' for value in order] if by_color else _spans(order)
        more = f'{texts[0]} and {len(texts) - 1} more'
        found[meant] = ' '.join(texts) if len(texts) < 4 else more
    return found


def _spans(ids: Sequence[int]) -> list[str]:
    """Gives sorted ids as text, three and more in a row as one.

    >>> _spans([2, 3, 4, 7, 8])
    ['2-4', '7', '8']
    """
    spans: list[list[int]] = []
    for value in ids:
        if spans and value == spans[-1][-1] + 1:
            spans[-1].append(value)
        else:
            spans.append([value])
    return [
        text
        for span in spans
        for text in ([f'{span[0]}-{span[-1]}'] if len(span) > 2 else map(str, span))
    ]


def _lesson(survey: Survey) -> str:
    """Says what training would take."""
    if not survey.classes.names:
        return 'no classes: it can be evaluated on, not learned'
    learned = {t for facts in survey.of('train') for t in facts.labelled}
    frames, measured = (len(survey.of(split)) for split in ('train', 'val'))
    return (
        f'would be learned: {len(learned)} of {len(survey.classes.names)} classes from {frames} '
        f'frames, validated on {measured}'
    )
