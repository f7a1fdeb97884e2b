"""Looks at all frames of a dataset, as far as they can be found and read."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from tqdm import tqdm

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.process.cores import usable_cores
from training.datasets import build_dataset, Dataset, NO_CLASSES
from training.datasets.classes import frame_names, is_lossy, own_files, OwnClasses, OwnFiles
from training.datasets.classes_file import ClassesFile, FILE_NAME, read_classes_file
from training.datasets.layout import FrameFiles
from training.datasets.splits import part_frames, SplitRule, SPLITS

from .facts import FrameFacts, look

OWN = 'classes'


class Finding(NamedTuple):
    """What is wrong: as an error training would fail or learn something else than is meant."""

    kind: Literal['error', 'warning']
    text: str


@dataclass
class Survey:
    """What a dataset is.

    Attributes:
        name: A key of `DATASETS`.
        root: Its folder.
        file: The classes of a user's own set; None for others, or where they cannot be read.
        parted: What parted its frames.
        classes: What train ids mean.
        parts: Split to its frames.
        facts: What each frame is.
        unlabelled: Images without a label file.
        findings: What was wrong before the frames were read.
    """

    name: str
    root: Path
    file: ClassesFile | None = None
    parted: str = ''
    classes: LabelSet = NO_CLASSES
    parts: dict[str, Dataset] = field(default_factory=dict)
    facts: list[FrameFacts] = field(default_factory=list)
    unlabelled: int = 0
    findings: list[Finding] = field(default_factory=list)

    def fail(self, text: str) -> None:
        """Adds an error."""
        self.findings.append(Finding('error', text))

    def of(self, split: str) -> list[FrameFacts]:
        """Gives the frames of a split."""
        return [facts for facts in self.facts if facts.split == split]

    def where(self, facts: FrameFacts) -> str:
        """Gives a frame's image file as people find it."""
        if facts.image is None:
            return f'frame {facts.index} of {facts.split}'
        return repr(str(facts.image))


def make_survey(name: str, root: Path, split: str | None, classes: Path | None) -> Survey:
    """Looks at a dataset.

    Args:
        name: A key of `DATASETS`.
        root: Its folder.
        split: The part to look at; None: all that it has.
        classes: The classes of a user's own set; None takes `ROOT/classes.yaml`.

    Raises:
        FileNotFoundError: No such folder; of other sets than own ones, no frames in it.
        ValueError: No such dataset or split.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {str(root)!r}; check --root')
    survey = Survey(name, root)
    if name == OWN:
        _open_own(survey, root / FILE_NAME if classes is None else classes)
        if split is not None:
            if split not in (*SPLITS, 'all'):
                raise ValueError(
                    f'unknown split {split!r} of {name}; choose one of: {", ".join(SPLITS)}, all'
                )
            survey.parts = {s: part for s, part in survey.parts.items() if split in (s, 'all')}
    else:
        if classes is not None:
            raise ValueError(f'--classes does not go with dataset {name!r}, whose are known')
        survey.parts = _known_parts(name, root, split)
    if survey.parts:
        survey.classes = next(iter(survey.parts.values())).classes
    survey.facts = _look_at_all(survey.parts)
    return survey


def _known_parts(name: str, root: Path, split: str | None) -> dict[str, Dataset]:
    if split is not None:
        return {split: build_dataset(name, root, split)}
    parts: dict[str, Dataset] = {}
    for candidate in SPLITS:
        try:
            parts[candidate] = build_dataset(name, root, candidate)
        except (ValueError, FileNotFoundError):  # noqa: PERF203 - there are three
            continue
    return parts or {'all': build_dataset(name, root)}


def _open_own(survey: Survey, path: Path) -> None:
    """Finds what there is of a user's own set, and says of everything that is amiss."""
    rule = SplitRule.from_value(None)
    try:
        survey.file = read_classes_file(path)
        rule = survey.file.rule
    except (ValueError, FileNotFoundError) as error:
        survey.fail(str(error))
    try:
        found = own_files(survey.root)
    except (ValueError, FileNotFoundError) as error:
        survey.fail(str(error))
        return
    _check_partners(survey, found)
    if lossy := [str(label) for _, label in found.frames.values() if is_lossy(label)]:
        survey.fail(
            f'{len(lossy)} label files are JPEG, which changes ids and colours, the first is '
            f'{lossy[0]!r}; export them as PNG'
        )
    frames = list(found.frames)
    if not frames:
        return
    try:
        parts, survey.parted = part_frames(survey.root, frames, rule)
    except ValueError as error:
        survey.fail(str(error))
        parts = {'all': frames}
    for split in ('train', 'val'):
        if 'all' not in parts and not parts[split]:
            survey.fail(
                f'split {split!r} holds no frame, as parted by {survey.parted}; list its frames '
                f'in {split}.txt, or say in {FILE_NAME} splits: {{val: 0.2}}'
            )
    file = survey.file or ClassesFile(path, NO_CLASSES, False, {}, rule)
    names = frame_names(frames)
    survey.parts = {
        split: OwnClasses(file, [FrameFiles(names[key], *found.frames[key]) for key in keys])
        for split, keys in parts.items()
        if keys
    }


def _check_partners(survey: Survey, found: OwnFiles) -> None:
    survey.unlabelled = len(found.unlabelled)
    if found.alone:
        first = next(iter(found.alone))
        by_stem = {key.rpartition('/')[2]: key for key in found.unlabelled}
        moved = by_stem.get(first.rpartition('/')[2])
        hint = f'is it that of images/{moved}? The paths must be the same' if moved else (
            'add the image, or delete the label file'
        )  # fmt: skip
        survey.fail(
            f'{len(found.alone)} label files have no image of the same path, the first is '
            f'{str(found.alone[first])!r}; {hint}'
        )
    if not found.frames:
        survey.fail(
            f'no image in {str(survey.root / "images")!r} has a label file of the same path in '
            'labels/, but for the suffix: there is nothing to learn'
        )
    elif found.unlabelled:
        every = len(found.unlabelled) + len(found.frames)
        survey.findings.append(
            Finding('warning', f'{len(found.unlabelled)} of {every} images have no label file and '
                    'are left out')
        )  # fmt: skip


def _look_at_all(parts: Mapping[str, Dataset]) -> list[FrameFacts]:
    jobs = [(part, split, i) for split, part in parts.items() for i in range(len(part))]
    with ThreadPoolExecutor(usable_cores()) as pool:
        seen = pool.map(lambda job: look(*job), jobs)
        return list(tqdm(seen, 'check', len(jobs), leave=False, disable=None))
