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
from training.datasets import (
    build_dataset,
    Dataset,
    known_splits,
    NO_CLASSES,
    refuse_label_map,
)
from training.datasets.classes import frame_names, is_lossy, own_files, OwnClasses, OwnFiles
from training.datasets.classes_file import ClassesFile, FILE_NAME, read_classes_file
from training.datasets.layout import FrameFiles
from training.datasets.missing import (
    heard_warnings,
    lone_files_left_out,
    NothingThereError,
    UnknownSplitError,
)
from training.datasets.splits import part_frames, SPELLINGS, SplitRule, SPLITS

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
        """Gives the frames of a split; those of 'val' where the set calls it 'validation'."""
        return [facts for facts in self.facts if split in (facts.split, usual(facts.split))]

    @property
    def learnable(self) -> bool:
        """Whether it has classes, or is a user's own that shall have some."""
        return bool(self.classes.names) or self.name == OWN

    @property
    def measured(self) -> list[FrameFacts]:
        """The frames on which anomalies are measured, which no class is learned from."""
        learned = ('train', 'val') if self.classes.names else ()
        return [
            facts for facts in self.facts
            if facts.anomaly is not None and usual(facts.split) not in learned
        ]  # fmt: skip

    @property
    def labelled(self) -> bool:
        """Whether its frames have labels of pixels that are here."""
        return self.tells_pixels and not self.kept_back

    @property
    def tells_pixels(self) -> bool:
        """Whether its labels are of pixels, and not of whole frames."""
        return all(part.tells_pixels for part in self.parts.values())

    @property
    def kept_back(self) -> bool:
        """Whether not one of its images has a label file, as of a benchmark's test split."""
        alone = [facts.image is not None and facts.label is None for facts in self.facts]
        return self.name != OWN and bool(alone) and all(alone)

    def where(self, facts: FrameFacts) -> str:
        """Gives a frame's image file as people find it."""
        if facts.image is None:
            return f'frame {facts.index} of {facts.split}'
        return repr(str(facts.image))


def usual(split: str) -> str:
    """Gives 'train', 'val' or 'test' for what a set may call so; other names as they are.

    >>> usual('validation:original'), usual('test_t5')
    ('val', 'test_t5')
    """
    return SPELLINGS.get(split.partition(':')[0], split)


def make_survey(
    name: str,
    root: Path,
    split: str | None,
    classes: Path | None,
    label_map: Mapping[int, int] | None = None,
) -> Survey:
    """Looks at a dataset.

    Args:
        name: A key of `DATASETS`.
        root: Its folder.
        split: The part to look at; None: all that it has.
        classes: The classes of a user's own set; None takes `ROOT/classes.yaml`.
        label_map: What the ids of its label files mean, where the dataset leaves that open.

    Raises:
        FileNotFoundError: No such folder or file of classes; of sets that are not own, no frames.
        ValueError: No such dataset or split, or an option that does not go with the dataset.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {str(root)!r}; check --root')
    if label_map is not None:
        refuse_label_map(name)
    survey = Survey(name, root)
    if name == OWN:
        if classes is not None and not classes.is_file():
            raise FileNotFoundError(f'no file {str(classes)!r}; check --classes')
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
        _open_known(survey, split, label_map)
    if survey.parts:
        survey.classes = next(iter(survey.parts.values())).classes
    survey.facts = _look_at_all(survey.parts)
    return survey


def _open_known(survey: Survey, split: str | None, label_map: Mapping[int, int] | None) -> None:
    """Finds what there is of a set whose layout is known, and says of everything that is amiss.

    Raises:
        UnknownSplitError: The split that was asked for.
        NothingThereError: There is nothing of it, or of any split.
    """
    seen: set[tuple[Path, Path | None]] = set()
    absent: dict[str, NothingThereError] = {}
    for name in _candidates(survey) if split is None else [split]:
        try:
            with lone_files_left_out() as alone, heard_warnings() as heard:
                part = build_dataset(survey.name, survey.root, name, label_map)
        except UnknownSplitError:
            if split is not None:
                raise
            continue
        except NothingThereError as error:
            absent[name] = error
            continue
        except (ValueError, OSError) as error:
            survey.fail(f'split {name!r}: {error}')
            continue
        files = {part.files(index) for index in range(len(part))}
        own = {pair for pair in files if pair is not None}
        if own and own == files and own <= seen:
            continue  # as the towns of StreetHazards' test, which the test itself has
        seen |= own
        survey.parts[name] = part
        for text in alone:
            survey.fail(f'split {name!r}: {text}; add the partners, or delete them')
        survey.findings += [Finding('warning', text) for text in heard]
    if absent and not survey.parts and not survey.findings:
        raise next(iter(absent.values()))
    _say_absent(survey, absent)


def _candidates(survey: Survey) -> list[str]:
    """Gives the splits to look for: of a set that may be taken whole those that parts are for."""
    known = known_splits(survey.name, survey.root)
    if 'all' not in known:
        return list(known)
    return [name for name in known if usual(name) in SPLITS] or ['all']


def _say_absent(survey: Survey, absent: Mapping[str, NothingThereError]) -> None:
    """Says which splits are not there: without some of them nothing is learned."""
    learned = any(part.classes.names for part in survey.parts.values())
    needed = [name for name in absent if learned and usual(name) in ('train', 'val')]
    for name in needed:
        survey.fail(f'split {name!r}: {absent[name]}')
    if others := [name for name in absent if name not in needed]:
        survey.findings.append(
            Finding('warning', f'there is nothing of the splits {", ".join(others)}; with --split '
                    'the error says what is looked for')
        )  # fmt: skip


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
