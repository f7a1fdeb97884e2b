"""Finds the frames of a dataset by the layouts it is known to come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import logging
from pathlib import Path
import re
from typing import NamedTuple

from anomaly_seg_ros.frames.images import checked_file, folders_below, is_hidden, printable

from .missing import check_split, NothingThereError, refuse_lone_files

logger = logging.getLogger(__name__)

SHOWN = 5
"""How many names an error text lists."""


class Layout(NamedTuple):
    """One way in which a dataset is packed.

    Attributes:
        name: What to call it in errors.
        image: Pattern of the image paths below the root; its group `frame` names the frame.
        label: The same for the label files.
        ids: Raw label value to what it means here; other values are errors.
        more_images: Whether images without labels are normal, as for a validation subset.
    """

    name: str
    image: str
    label: str
    ids: Mapping[int, int]
    more_images: bool = False


class FrameFiles(NamedTuple):
    """The files of one frame; the label file is None where the truth is not public."""

    name: str
    image: Path
    label: Path | None


def find_frames(
    dataset: str,
    root: Path,
    layouts: Sequence[Layout],
    keep: Callable[[str], bool] = lambda frame: True,
    needs_labels: bool = True,
) -> tuple[Layout, list[FrameFiles]]:
    """Gives the first layout that `root` follows and its frames, sorted by name.

    Args:
        dataset: For the error texts.
        root: The folder.
        layouts: What is looked for, in this order.
        keep: Tells which frames belong to the split.
        needs_labels: Whether a frame without a label file is an error.

    Raises:
        NothingThereError: No layout fits.
        FileNotFoundError: No folder, or a file has no partner.
        ValueError: Two files for one frame.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'no folder {str(root)!r}; check --root')
    files = sorted(_relative_files(root))
    for layout in layouts:
        images = _by_frame(root, files, layout.image, keep)
        labels = _by_frame(root, files, layout.label, keep)
        if images and (labels or not needs_labels):
            _check_partners(dataset, layout, images, labels, needs_labels)
            names = images.keys() if not needs_labels else images.keys() & labels.keys()
            return layout, [FrameFiles(n, images[n], labels.get(n)) for n in sorted(names)]
    known = '; '.join(f'{x.name}: {_readable(x.image)} with {_readable(x.label)}' for x in layouts)
    raise NothingThereError(f'no frames of {dataset} in {str(root)!r}; known layouts: {known}')


def expect_count(dataset: str, split: str, frames: Sequence[FrameFiles], count: int) -> None:
    """Warns when a published split has another number of frames than it should."""
    if len(frames) != count:
        logger.warning(
            '%s %s holds %d frames, the published split has %d; numbers will not compare',
            dataset, split, len(frames), count,
        )  # fmt: skip


def expect_names(
    dataset: str, split: str, frames: Sequence[FrameFiles], names: Iterable[str]
) -> None:
    """Warns about frames that a published split should have, by name."""
    missing = sorted(set(names) - {frame.name for frame in frames})
    if missing:
        logger.warning(
            '%s %s lacks %d published frames, numbers will not compare: %s%s',
            dataset, split, len(missing), ', '.join(missing[:SHOWN]),
            ', ...' if len(missing) > SHOWN else '',
        )  # fmt: skip


def split_rule(
    dataset: str, split: str, splits: Sequence[str], rules: Sequence[str]
) -> tuple[str, str]:
    """Takes 'SPLIT' or 'SPLIT:RULE' apart; the first rule is the default.

    Raises:
        UnknownSplitError: Unknown split.
        ValueError: Unknown rule; the text lists those that are.
    """
    base, _, rule = split.partition(':')
    if base not in splits:
        check_split(dataset, split, splits)
    if rule and rule not in rules:
        raise ValueError(
            f'unknown label rule {rule!r} of {dataset}; choose one of: '
            f'{", ".join(f"{base}:{known}" for known in rules)}'
        )
    return base, rule or rules[0]


def _relative_files(root: Path) -> Iterable[str]:
    """Gives the paths of all files below `root`, with '/' on every system; hidden are no data."""
    for folder in folders_below(root):
        for file in folder.iterdir():
            if not file.is_dir() and not is_hidden(file.name):
                yield file.relative_to(root).as_posix()


def _by_frame(
    root: Path, files: Iterable[str], pattern: str, keep: Callable[[str], bool]
) -> dict[str, Path]:
    """Gives the files that match, by frame name; a '/' in the name becomes '_'."""
    found: dict[str, Path] = {}
    compiled = re.compile(pattern)
    for file in files:
        match = compiled.fullmatch(file)
        if match is None:
            continue
        name = printable(match['frame']).replace('/', '_')
        if not keep(name):
            continue
        if name in found:
            raise ValueError(f'two files for frame {name!r}: {str(found[name])!r} and {file!r}')
        found[name] = checked_file(root / file)
    return found


def _check_partners(
    dataset: str,
    layout: Layout,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    needs_labels: bool,
) -> None:
    """Checks that no file stands alone that should not.

    Raises:
        FileNotFoundError: The text names the first.
    """
    alone = sorted(labels.keys() - images.keys())
    if alone:
        refuse_lone_files(
            f'{len(alone)} label files of {dataset} ({layout.name}) have no image, the first is '
            f'{str(labels[alone[0]])!r}'
        )
    alone = sorted(images.keys() - labels.keys())
    if alone and needs_labels and not layout.more_images:
        refuse_lone_files(
            f'{len(alone)} images of {dataset} ({layout.name}) have no label file, the first is '
            f'{str(images[alone[0]])!r}'
        )


def _readable(pattern: str) -> str:
    r"""Gives a path pattern as people write it: `*`, folders `**/`, and `[what may be left out]`.

    >>> _readable(r'images/(?P<frame>[^/]+)\.(png|jpg)')
    'images/NAME.{png,jpg}'
    >>> _readable(r'(?:.+/)?(?:set/)?labels/(?P<frame>[^/]+/[^/]+)_\d+\.png')
    '**/[set/]labels/*/NAME_*.png'
    >>> _readable(r'(?P<frame>(?:train|val)/[^/]+)\.jpg')
    '{train,val}/NAME.jpg'
    """
    text = pattern.replace('[^/]+', '*').replace('(?:.+/)?', '**/')
    text = re.sub(r'\((?:\?:)?([^()|?]+(?:\|[^()|]+)+)\)', _alternatives, text)
    text = re.sub(r'\(\?P<frame>([^()]*/)?[^()/]*\)', r'\1NAME', text)
    text = re.sub(r'\(\?:([^()]*)\)\?', r'[\1]', text)
    return text.replace(r'\.', '.').replace(r'\d+', '*').replace('.+', '**')


def _alternatives(match: re.Match[str]) -> str:
    return '{' + match[1].replace('|', ',') + '}'
