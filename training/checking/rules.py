"""What a survey shows that would go wrong, each with the way out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.frames.orientation import UPRIGHT
from training.datasets import takes_label_map
from training.datasets.classes_file import FILE_NAME
from training.datasets.splits import drives

from .facts import FEW_COLORS, FrameFacts
from .survey import Finding, OWN, Survey, usual

FEW_FRAMES = 10
RARE_FRAMES = 3
RARE = 0.001
MOSTLY_UNLABELLED = 0.5
MANY_VALUES = 5
"""More values without a meaning than this are said in one line."""

MOST_LISTED = 30

SMALL = 120
LEAST = 32
"""Shorter sides, pixels: networks halve their maps up to five times."""

SAME = 6
"""Largest difference of two thumbnails of one picture that was saved or resized again.

Of CamVid it is 5 at JPEG quality 60 and at half the size; of frames a second apart it is 19.
"""

SIDEWAYS = 5
"""From this turn of Exif on, rows are columns."""

PROBLEMS = {
    'image': ('image files cannot be read', 'copy them again, or delete them with their labels'),
    'label': ('label files cannot be read', 'export them again'),
    'size': ('label files are of another size than their image', 'export them at full size'),
}


PART_OTHERWISE = (
    f'part the frames otherwise: another seed in {FILE_NAME} splits: {{val: 0.2, seed: 1}}, or '
    'list files'
)
ADD_FRAMES = 'add the frames of train that are missing'


def find(survey: Survey) -> list[Finding]:
    """Gives all findings, errors first."""
    found = [*survey.findings]
    rules = [_problems, _images, _duplicates]
    if survey.labelled:
        rules += [_unknown, _classes, _amounts, _masks] if survey.learnable else [_masks]
    for rule in rules:
        found += rule(survey)
    return sorted(found, key=lambda finding: finding.kind)


def _error(text: str) -> Finding:
    return Finding('error', text)


def _warning(text: str) -> Finding:
    return Finding('warning', text)


def _problems(survey: Survey) -> Iterator[Finding]:
    for kind, (what, way_out) in PROBLEMS.items():
        texts = [facts.problems[kind] for facts in survey.facts if kind in facts.problems]
        if texts:
            yield _error(f'{len(texts)} {what}, the first: {texts[0]}; {way_out}')


def _masks(survey: Survey) -> Iterator[Finding]:
    """Masks of anomalies that leave nothing to tell apart."""
    seen = survey.measured
    for value, what in enumerate(('normal', 'anomalous')):
        if seen and not any((facts.anomaly or {}).get(value) for facts in seen):
            text = f'not a single pixel of {len(seen)} frames is {what}: no AP, no FPR95'
            ignores = any(facts.ignored for facts in seen)
            if value and ignores and takes_label_map(survey.name):
                text += f'; if {IGNORE} marks the anomaly, add --label-map {IGNORE}=1'
            yield _warning(text)


def _unknown(survey: Survey) -> Iterator[Finding]:
    """Ids and colours without a meaning."""
    pixels: Counter[int] = Counter()
    first: dict[int, FrameFacts] = {}
    shown: Counter[int] = Counter()
    for facts in survey.facts:
        pixels.update(facts.unknown)
        shown.update(facts.unknown.keys())
        for value in facts.unknown:
            first.setdefault(value, facts)
    if not pixels:
        return
    by_color = survey.file is not None and survey.file.by_color
    whole = sum(facts.pixels for facts in survey.facts)
    if survey.file is None:
        lines = ', '.join(f'{{name: ..., id: {value}}}' for value in sorted(pixels)[:20])
        yield _error(
            f'the label files hold {len(pixels)} ids; with their names {FILE_NAME} is: '
            f'classes: [{lines}]'
        )
        return
    void = sorted(v for v, meant in survey.file.meanings.items() if meant == IGNORE)
    if len(pixels) > MANY_VALUES:
        values = sorted(pixels)
        listed = [_plain(v, by_color) for v in sorted([*void, *values])[:MOST_LISTED]]
        yield _error(
            f'{len(values)} {"colours" if by_color else "ids"} have no meaning, from '
            f'{_plain(values[0], by_color)} to {_plain(values[-1], by_color)}: '
            f'{sum(pixels.values()) / whole:.2%} of the pixels, the first in '
            f'{str(first[values[0]].label)!r}; if they are not yours, the labels were smoothed or '
            f'resized as pictures: export them again; else name them in {FILE_NAME}, or void: '
            f'{listed}'
        )
        return
    for value, count in pixels.most_common():
        line = f'void: {[_plain(v, by_color) for v in [*void, value]]}'
        entry = f'color: {_plain(value, True)}' if by_color else f'id: {value}'
        yield _error(
            f'{_shown(value, by_color)} has no meaning: {count / whole:.2%} of the pixels in '
            f'{shown[value]} frames, the first {str(first[value].label)!r}; in {FILE_NAME} add '
            f'- {{name: ..., {entry}}}, or {line}'
        )


def _plain(value: int, by_color: bool) -> int | list[int]:
    return [value >> 16, value >> 8 & 255, value & 255] if by_color else value


def _shown(value: int, by_color: bool) -> str:
    return f'{"colour" if by_color else "id"} {_plain(value, by_color)}'


def _classes(survey: Survey) -> Iterator[Finding]:
    """Classes that are never seen, or not where they are needed."""
    frames = {usual(split): _frames_of(survey, split) for split in survey.parts}
    known = {'train', 'val'} <= frames.keys()
    if not any(frames.values()) and survey.facts:
        return  # `_amounts` says so once
    enough = len(survey.of('train')) >= FEW_FRAMES
    for train_id, name in enumerate(survey.classes.names):
        counts = {split: len(shown.get(train_id, ())) for split, shown in frames.items()}
        total = sum(sum(shown.get(train_id, ())) for shown in frames.values())
        whole = max(sum(sum(f.labelled.values()) for f in survey.facts), 1)
        if not any(counts.values()):
            yield _error(f'class {name!r} is nowhere in the labels{_void_hint(survey, train_id)}')
        elif known and not counts['train']:
            yield _error(
                f'class {name!r} is in {sum(counts.values())} frames, but in none of train, so '
                'that it cannot be learned; '
                f'{PART_OTHERWISE if survey.name == OWN else ADD_FRAMES}'
            )
        elif known and not counts['val']:
            yield _warning(f'class {name!r} is in no frame of val: its IoU will not be measured')
        elif (known and enough and counts['train'] < RARE_FRAMES) or total / whole < RARE:
            yield _warning(
                f'class {name!r} is rare: {total / whole:.3%} of the labelled pixels, in '
                f'{counts.get("train", sum(counts.values()))} frames to learn from; label more '
                'of it, or merge it with another'
            )


def _frames_of(survey: Survey, split: str) -> dict[int, list[int]]:
    """Gives the pixels of each class in each frame of a split that shows it."""
    shown: dict[int, list[int]] = defaultdict(list)
    for facts in survey.of(split):
        for train_id, count in facts.labelled.items():
            shown[train_id].append(count)
    return shown


def _void_hint(survey: Survey, train_id: int) -> str:
    if survey.file is None:
        return ''
    ids = [v for v, meant in survey.file.meanings.items() if meant == train_id]
    values = ' or '.join(_shown(value, survey.file.by_color) for value in ids)
    ignored = sum(facts.ignored for facts in survey.facts)
    hint = f', which hold no {values}; correct it in {FILE_NAME}, or take the class out'
    if ignored and not survey.file.by_color:
        share = ignored / max(sum(facts.pixels for facts in survey.facts), 1)
        hint += f' ({share:.0%} of the pixels are void: is it one of those ids?)'
    return hint


def _amounts(survey: Survey) -> Iterator[Finding]:
    """Too few frames, too few labels."""
    pixels = sum(facts.pixels for facts in survey.facts)
    ignored = sum(facts.ignored for facts in survey.facts)
    for split in ('train', 'val'):
        part = survey.of(split)
        if part and not any(facts.labelled or facts.unknown for facts in part):
            yield _error(
                f'no pixel of the {len(part)} frames of {split} has a class; correct void in '
                f'{FILE_NAME}, or the label files'
            )
    seen = {train_id for facts in survey.facts for train_id in facts.labelled}
    if len(seen) == 1 and not any(facts.unknown for facts in survey.facts):
        name = survey.classes.names[next(iter(seen))]
        yield _error(
            f'all labelled pixels are {name!r}: with one class there is nothing to tell apart; '
            'label what is around it as a class too'
        )
    if pixels and ignored / pixels > MOSTLY_UNLABELLED and seen:
        yield _warning(
            f'{ignored / pixels:.0%} of the pixels are unlabelled; what is there is not learned'
        )
    if survey.name == OWN and 0 < len(survey.of('train')) < FEW_FRAMES:
        yield _warning(
            f'{len(survey.of("train"))} frames to learn from are few; 20 to 30 that show '
            'different places and light are a start'
        )


def _images(survey: Survey) -> Iterator[Finding]:
    """Sizes, bits, Exif and pictures that are no photos."""
    read = [facts for facts in survey.facts if facts.size is not None]
    sides = [(min(facts.size), facts) for facts in read if facts.size is not None]
    if sides and (least := min(sides, key=lambda pair: pair[0]))[0] < SMALL:
        what, where = f'{least[0]} pixels', survey.where(least[1])
        if least[0] < LEAST and survey.learnable:
            yield _error(f'an image has a side of {what}, too few to learn from: {where}')
        else:
            yield _warning(f'an image has a side of only {what}: {where}')
    shapes = sorted({round(f.size[1] / f.size[0], 1) for f in read if f.size is not None})
    if len(shapes) > 1 and shapes[-1] > 1.2 * shapes[0]:
        yield _warning(
            f'the shapes of the images differ, width / height {shapes[0]} to {shapes[-1]}; all '
            'become one input size, so that some are squeezed: crop them alike'
        )
    if len(bits := sorted({facts.bits for facts in read})) > 1:
        yield _warning(
            f'the images have {", ".join(map(str, bits))} bits a value; each is brightened by its '
            'own, so that the same camera looks different: export all alike'
        )
    if len({facts.channels == 1 for facts in read}) > 1:
        yield _warning('some images are grey, others in colour')
    flipped = [facts for facts in read if facts.turned not in (UPRIGHT, *range(SIDEWAYS, 9))]
    if flipped:
        yield _warning(
            f'{len(flipped)} images are turned round or mirrored by Exif, the first '
            f'{survey.where(flipped[0])}; look in the contact sheet (--out) whether the labels '
            'are too'
        )
    if flat := [facts for facts in read if facts.colors == 1]:
        yield _warning(f'{len(flat)} images are of one colour, the first '
                       f'{survey.where(flat[0])}; delete them')  # fmt: skip
    drawn = [facts for facts in read if 1 < facts.colors < FEW_COLORS and survey.name == OWN]
    if read and len(drawn) > len(read) / 2:
        yield _error(
            f'{len(drawn)} images have fewer than {FEW_COLORS} colours, as label files have, the '
            f'first {survey.where(drawn[0])}; are images/ and labels/ swapped?'
        )


def _duplicates(survey: Survey) -> Iterator[Finding]:
    """One picture in two splits, or with two truths; one truth for many pictures."""
    seen = [f for f in survey.facts if f.thumbnail is not None and f.colors > 1]
    pairs = list(_same_pictures(seen))
    over = [(a, b) for a, b in pairs if a.split != b.split]
    if over and survey.of('train'):
        a, b = over[0]
        yield _error(
            f'{len(over)} pictures stand in two splits, the first {survey.where(a)} ({a.split}) '
            f'as {survey.where(b)} ({b.split}): what is measured was learned; delete one of each'
        )
    differ = [(a, b) for a, b in pairs if a.label_digest != b.label_digest]
    differ = [(a, b) for a, b in differ if a.split == b.split and a.size == b.size]
    if differ:
        a, b = differ[0]
        yield _error(
            f'{len(differ)} pictures have two different truths, the first {survey.where(a)} and '
            f'{survey.where(b)}; keep the right one'
        )
    elif len(pairs) > len(over):
        a, b = next((a, b) for a, b in pairs if a.split == b.split)
        yield _warning(
            f'{len(pairs) - len(over)} pictures stand twice in a split, the first '
            f'{survey.where(a)} and {survey.where(b)}'
        )
    yield from _one_truth_for_many(survey, {(id(a), id(b)) for a, b in pairs})
    yield from _torn_drives(survey)


def _same_pictures(
    seen: Sequence[FrameFacts],
) -> Iterator[tuple[FrameFacts, FrameFacts]]:
    """Gives pairs of frames that show the same picture, perhaps saved or resized again."""
    if not seen:
        return
    small: NDArray[np.int16] = np.stack([f.thumbnail for f in seen if f.thumbnail is not None])
    small = small.reshape(len(seen), -1).astype(np.int16)
    for index, facts in enumerate(seen):
        near = np.abs(small[index + 1 :] - small[index]).max(axis=1) <= SAME
        for other in np.flatnonzero(near):
            yield facts, seen[index + 1 + int(other)]


def _one_truth_for_many(survey: Survey, same: set[tuple[int, int]]) -> Iterator[Finding]:
    by_label: dict[bytes, list[FrameFacts]] = defaultdict(list)
    for facts in survey.facts:
        if len(facts.labelled) > 1:
            by_label[facts.label_digest].append(facts)
    for group in by_label.values():
        if len(group) > 1 and (id(group[0]), id(group[1])) not in same:
            yield _warning(
                f'{len(group)} different pictures have the very same labels, the first '
                f'{survey.where(group[0])} and {survey.where(group[1])}; was one file copied?'
            )
            return


def _torn_drives(survey: Survey) -> Iterator[Finding]:
    if survey.name != OWN or not survey.parted.startswith('lists'):
        return
    images = survey.root / 'images'
    place = {
        facts.image.relative_to(images).as_posix(): facts.split
        for facts in survey.facts
        if facts.image is not None
    }
    folders = drives(list(place))
    for folder, frames in folders.items():
        splits = sorted({place[frame] for frame in frames})
        if len(folders) > 1 and len(splits) > 1:
            yield _warning(
                f'drive images/{folder} stands in {" and ".join(splits)}: frames of one drive are '
                'alike, so that what is measured is too good; list whole drives'
            )
            return
