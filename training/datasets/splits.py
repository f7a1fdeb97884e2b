"""Parts the frames of a user's own set into what is learned, validated on and tested on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from anomaly_seg_ros.frames.images import SUFFIXES

SPLITS = ('train', 'val', 'test')
SPELLINGS = {
    'training': 'train', 'validation': 'val', 'valid': 'val', 'testing': 'test',
} | {name: name for name in SPLITS}  # fmt: skip
"""Names of folders, as people spell them."""

VAL_SHARE = 0.2
"""What is validated on where nobody says."""

_FORM = (
    'it must be shares, as {val: 0.2, test: 0.1, seed: 0}, or folders of images, as '
    '{val: [monday], test: [friday/town]}; the rest is train'
)

Parts = dict[str, list[str]]
"""Split to its frames, each by its path below `images` without suffix."""


@dataclass(frozen=True)
class SplitRule:
    """How frames are parted, where no list files and no folders named so say it.

    Attributes:
        shares: Share of the frames in 'val' and 'test'.
        seed: Of the draw.
        folders: Split to the folders that are its own; in place of shares.
    """

    shares: Mapping[str, float]
    seed: int = 0
    folders: Mapping[str, tuple[str, ...]] | None = None
    given: bool = True

    @classmethod
    def from_value(cls, value: Any) -> SplitRule:
        """Reads the key `splits` of `classes.yaml`; None takes a fifth for validation.

        Raises:
            ValueError: Another form.
        """
        if value is None:
            return cls({'val': VAL_SHARE}, given=False)
        wrong = ValueError(f'splits is {value!r}; {_FORM}')
        if not isinstance(value, dict) or not value or not value.keys() <= {*SPLITS, 'seed'}:
            raise wrong
        parts = {name: part for name, part in value.items() if name != 'seed'}
        if all(isinstance(part, (list, str)) for part in parts.values()):
            if 'seed' in value or not parts:
                raise wrong
            return cls({}, folders={name: _folders(part, wrong) for name, part in parts.items()})
        seed = value.get('seed', 0)
        numbers = [*parts.values(), seed]
        if any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers):
            raise wrong
        if 'train' in parts or not float(seed).is_integer():
            raise wrong
        if not (min(parts.values()) >= 0 and sum(parts.values()) < 1):
            raise ValueError(f'splits is {value!r}; the shares must leave some frames for train')
        return cls({name: float(share) for name, share in parts.items() if share}, int(seed))


def _folders(value: Any, wrong: ValueError) -> tuple[str, ...]:
    folders = [value] if isinstance(value, str) else value
    if not folders or not all(isinstance(folder, str) for folder in folders):
        raise wrong
    return tuple(folder.strip('/') for folder in folders)


def part_frames(root: Path, frames: Sequence[str], rule: SplitRule) -> tuple[Parts, str]:
    """Parts frames by list files, by folders, or by share, in this order of what is there.

    Args:
        root: Folder of the set; `train.txt`, `val.txt`, `test.txt` lie there or in `splits/`.
        frames: Paths below `images` without suffix, each once.
        rule: What `classes.yaml` says.

    Returns:
        The frames of each split in the order of `frames`, and a word on what parted them.

    Raises:
        ValueError: Two ways are given at once, or one does not fit the frames.
    """
    lists = find_lists(root)
    if lists and rule.given:
        raise ValueError(
            f"the split lists {str(next(iter(lists.values())))!r} and 'splits' of classes.yaml "
            'both part the frames; delete one of them'
        )
    if lists:
        chosen = _by_lists(lists, frames)
        how = f'lists {", ".join(path.name for path in lists.values())}'
    elif rule.folders is not None:
        chosen, how = _by_folders(rule.folders, frames), 'folders that classes.yaml names'
    elif not rule.given and (named := _named_folders(frames)):
        chosen, how = named, 'folders train, val, test'
    else:
        return _by_share(frames, rule)
    return {name: [f for f in frames if chosen.get(f) == name] for name in SPLITS}, how


def find_lists(root: Path) -> dict[str, Path]:
    """Gives the list file of each split that has one."""
    places = {name: (root / f'{name}.txt', root / 'splits' / f'{name}.txt') for name in SPLITS}
    return {
        name: path
        for name, paths in places.items()
        if (path := next((p for p in paths if p.is_file()), None)) is not None
    }


def _by_lists(lists: Mapping[str, Path], frames: Sequence[str]) -> dict[str, str]:
    """Gives the split of each listed frame; where train or val has no list it gets the rest."""
    known, chosen = set(frames), dict[str, str]()
    for name, path in lists.items():
        for number, frame in _listed(path, known):
            if frame not in known:
                raise ValueError(
                    f'{str(path)!r} line {number}: no frame {frame!r} with image and label; give '
                    'paths below images/, with or without suffix'
                )
            if chosen.setdefault(frame, name) != name:
                raise ValueError(
                    f'{str(path)!r} line {number}: frame {frame!r} stands in {chosen[frame]}.txt '
                    'too; it can be in one split'
                )
    missing = [name for name in ('train', 'val') if name not in lists]
    if len(missing) == 1:
        chosen |= {frame: missing[0] for frame in frames if frame not in chosen}
    return chosen


def _listed(path: Path, known: Collection[str]) -> list[tuple[int, str]]:
    """Gives (line number, frame) of a list file."""
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError:
        raise ValueError(f'{str(path)!r} is no text in UTF-8; save it as UTF-8') from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip().replace('\\', '/').removeprefix('./')
        if not entry or (entry.startswith('#') and entry not in known):
            continue
        meant = list(_meant(entry))
        found.append((number, next((frame for frame in meant if frame in known), meant[-1])))
    return found


def _meant(entry: str) -> Iterator[str]:
    """Gives the frames that a line may mean, likeliest first: as it stands, and below images/."""
    for name in dict.fromkeys((entry, entry.removeprefix('images/'))):
        yield name
        if name.lower().endswith(SUFFIXES):
            yield name.rpartition('.')[0]


def _by_folders(folders: Mapping[str, Sequence[str]], frames: Sequence[str]) -> dict[str, str]:
    """Gives the split of each frame by its folder; where train names none it gets the rest."""
    owners = [(folder, name) for name, own in folders.items() for folder in own]
    for folder, name in owners:
        if not any(_below(frame, folder) for frame in frames):
            raise ValueError(f'no frame lies in images/{folder}, which is {name} in classes.yaml')
        for other, theirs in owners:
            if name != theirs and (folder == other or _below(folder, other)):
                raise ValueError(
                    f'images/{folder} is {name} in classes.yaml and lies in images/{other}, which '
                    f'is {theirs}; a folder can be in one split'
                )
    rest = None if 'train' in folders else 'train'
    chosen = {}
    for frame in frames:
        owner = next((name for folder, name in owners if _below(frame, folder)), rest)
        if owner is not None:
            chosen[frame] = owner
    return chosen


def _below(frame: str, folder: str) -> bool:
    return frame.startswith(f'{folder}/')


def _named_folders(frames: Sequence[str]) -> dict[str, str]:
    """Gives the split of each frame where the folders right below `images` are splits.

    Raises:
        ValueError: Other folders or frames lie beside them.
    """
    tops = {frame: frame.partition('/')[0] if '/' in frame else '' for frame in frames}
    named = {top for top in tops.values() if top.lower() in SPELLINGS}
    if len({SPELLINGS[top.lower()] for top in named}) < 2:
        return {}
    if other := sorted(set(tops.values()) - named):
        raise ValueError(
            f'images/ holds {", ".join(sorted(named))} and beside them '
            f'{other[0] or "frames"}, of which the split is not known; move it, or say in '
            f'classes.yaml splits: {{val: [...]}}'
        )
    return {frame: SPELLINGS[top.lower()] for frame, top in tops.items()}


def drives(frames: Sequence[str]) -> dict[str, list[str]]:
    """Gives the frames of each drive: a folder right below the last one that all share.

    >>> drives(['town/a/1', 'town/a/2', 'town/b/left/1'])
    {'town/a': ['town/a/1', 'town/a/2'], 'town/b': ['town/b/left/1']}
    """
    parents = [frame.split('/')[:-1] for frame in frames]
    depth = 0
    while parents and all(len(p) > depth and p[depth] == parents[0][depth] for p in parents):
        depth += 1
    found: dict[str, list[str]] = {}
    for frame, parent in zip(frames, parents, strict=True):
        found.setdefault('/'.join(parent[: depth + 1]), []).append(frame)
    return found


def _by_share(frames: Sequence[str], rule: SplitRule) -> tuple[Parts, str]:
    """Deals whole drives where there are several, else single frames.

    The order comes from the names and the seed alone: on every machine the same, and a frame that
    is added leaves the order of the others as it was.
    """
    units = drives(frames)
    what = 'drives'
    if len(units) < 2:
        units, what = {frame: [frame] for frame in frames}, 'frames'
    if len(units) <= len(rule.shares):
        raise ValueError(
            f'{len(units)} {what} cannot be dealt into {", ".join(("train", *rule.shares))}; '
            'label more, or list the frames of each split in train.txt and val.txt'
        )
    left = sorted(units, key=lambda unit: sha256(f'{rule.seed}/{unit}'.encode()).digest())
    owner: dict[str, str] = {}
    for later, (name, share) in enumerate(rule.shares.items(), 1):
        taken = 0
        keep = 1 + len(rule.shares) - later
        while len(left) > keep and (
            not taken or taken + len(units[left[0]]) / 2 <= share * len(frames)
        ):
            unit = left.pop(0)
            taken += len(units[unit])
            owner |= dict.fromkeys(units[unit], name)
    parts = {name: [f for f in frames if owner.get(f, 'train') == name] for name in SPLITS}
    shares = ', '.join(f'{name} {share:g}' for name, share in rule.shares.items())
    return parts, f'shares of {what} ({shares}, seed {rule.seed})'
