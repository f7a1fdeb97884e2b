"""Many bags by many processes: what each is to do, and what all of them come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
import hashlib
import json
from pathlib import Path
from typing import Any

from anomaly_seg_ros.bags.storage import find_bag_files, METADATA
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.frames.ignore_mask import read_ignored
from anomaly_seg_ros.node.config import NodeConfig, refuse_unknown
from anomaly_seg_ros.prediction import Engine
from anomaly_seg_ros.process.whole_file import whole_file
from anomaly_seg_ros.process.yaml_text import parse_yaml

from .alarms import Alarms

SUMMARY_FILE = 'summary.json'
NAMED = 3
"""Bags that are named at most where some are not done."""

INSTEAD = {
    'checkpoint': '--checkpoint',
    'engine': '--engine',
    'engine_path': '--checkpoint with one that holds it below engines/',
    'precision': '--precision',
    'score': '--score',
    'cameras': '--topic',
    'input_transport': '--topic',
}
"""Parameters of the node that `bag` has an option for."""

MEANINGLESS = (
    'autostart', 'calibration_frames', 'executor', 'exit_on_failure', 'idle_without_listeners',
    'input_reliability', 'max_age_s', 'snapshot_dir', 'tune_allocator',
)  # fmt: skip
"""Parameters of a node that runs; a bag has every frame taken once."""


@dataclass(frozen=True)
class Plan:
    """What is done with each bag.

    Attributes:
        outputs: Topics to write.
        config: The node's parameters.
        topic: Of the images; None for the only one.
        camera: Whose calibration and ignore mask are taken.
    """

    outputs: tuple[str, ...]
    config: NodeConfig
    topic: str | None
    camera: str = ''

    def key(self, checkpoint: Checkpoint, engine: Engine) -> str:
        """Gives what is the same where the results would be.

        Raises:
            FileNotFoundError: There is no such ignore mask.
            ValueError: It cannot be used.
        """
        score, meta = engine.score_name, checkpoint.meta
        calibration, threshold = meta.calibrations[score].levels, meta.thresholds.get(score)
        parts: list[Any] = [checkpoint.score_key(score), calibration, threshold]
        parts += [engine.name, engine.precision, self.outputs, asdict(self.config), self.topic]
        parts.append(self.camera)
        if meta.frame is not None:  # which judges whole frames by arrays in the weights file
            shift = meta.frame_shift()
            parts += [meta.weights_sha256, asdict(meta.frame), shift and asdict(shift)]
        ignored = read_ignored(self.config.ignore_mask, self.camera, engine.input_size)
        if ignored is not None:
            parts.append(hashlib.sha256(ignored.tobytes()).hexdigest())
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def parse_parameters(texts: Iterable[str]) -> NodeConfig:
    """Reads texts such as 'persistence:=3/5', as ROS takes them behind `-p`.

    Raises:
        ValueError: Another form, an unknown parameter, one that does nothing here, or a value that
            does not fit.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, parted, value = text.partition(':=')
        if not parted:
            raise ValueError(f'parameter {text!r} is not of the form NAME:=VALUE')
        try:
            values[name] = parse_yaml(value, 'the value')
        except ValueError:
            raise ValueError(f'the value of parameter {text!r} cannot be read') from None
    refuse_unknown(values)
    for name in values:
        if name in INSTEAD:
            raise ValueError(f'parameter {name} does nothing here; give {INSTEAD[name]}')
        if name in MEANINGLESS:
            raise ValueError(f'parameter {name} has no meaning for a bag; leave it out')
    return NodeConfig.from_mapping(values)


def bag_folders(bags: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Gives each bag with the folder of its results, named as the bag.

    Raises:
        ValueError: Two bags have one name.
    """
    names = [bag.resolve().stem if bag.is_file() else bag.resolve().name for bag in bags]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f'two bags are called {twice!r}, and so would be their results; give each of them an '
            '--out of its own'
        )
    return [(bag, out / name) for bag, name in zip(bags, names, strict=True)]


def finished(out: Path, bag: Path, key: str) -> Mapping[str, Any] | None:
    """Gives the summary of a bag that has been taken through to its end, and in the same way."""
    try:
        summary: Mapping[str, Any] = json.loads((out / SUMMARY_FILE).read_text(encoding='utf-8'))
        same = summary['run'] == key and Path(summary['bag']).resolve() == bag.resolve()
        same = same and summary['bag_files'] == file_sizes(bag)
        return summary if same and summary['frames'] and not summary['stopped'] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def file_sizes(bag: Path) -> dict[str, int]:
    """Gives the size in bytes of each file of a bag: a mended recording has others.

    Not when they were written, which copies on several machines need not agree on.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is no bag.
    """
    files = [*find_bag_files(bag).files, *bag.glob(METADATA)]
    return {file.name: file.stat().st_size for file in files}


def merge(out: Path, folders: Sequence[tuple[Path, Path]], key: str) -> str:
    """Writes `summary.json` of all bags once the last of them is done; says how far it is.

    The same numbers come out however the bags were shared: counts are added in the order of the
    bags, and rates are taken of the sums.
    """
    summaries = [finished(folder, bag, key) for bag, folder in folders]
    done = [summary for summary in summaries if summary is not None]
    if len(done) < len(folders):
        left = [str(bag) for (bag, _), of in zip(folders, summaries, strict=True) if of is None]
        more = f' and {len(left) - NAMED} more' if len(left) > NAMED else ''
        return (
            f'{out}: {len(done)} of {len(folders)} bags are done, not {", ".join(left[:NAMED])}'
            f'{more}; the same command goes on, and without a bag that cannot be read it ends'
        )
    alarms = Alarms.merged([summary['alarms'] for summary in done])
    whole = {
        'bags': [summary['bag'] for summary in done],
        'messages': sum(summary['messages'] for summary in done),
        'frames': sum(summary['frames'] for summary in done),
        'broken': sum(len(summary['broken']) for summary in done),
        'problems': [problem for summary in done for problem in summary['problems']],
        **{name: done[0][name] for name in _COMMON},
        'alarms': {**alarms.counts(), **alarms.report()},
        'run': key,
    }
    write_json(out / SUMMARY_FILE, whole)
    return f'{out}: {whole["frames"]} frames of {len(done)} bags; {alarms.sentence()}'


_COMMON = ('score', 'engine', 'precision', 'threshold', 'persistence')


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a file that others see whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')
