"""Every parameter of the node, once: default, meaning, valid values and when it takes effect.

The node declares what stands here, `config/node.yaml` is printed from it
(`python -m anomaly_seg_ros.node.config`), and no ROS is needed to read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, Field, field, fields, replace
import re
from typing import Any, NamedTuple

from anomaly_seg_ros.adaptation.limits import LEAST, MOST
from anomaly_seg_ros.engines import AUTO, ENGINES, precisions
from anomaly_seg_ros.frames.persistence import Persistence
from anomaly_seg_ros.registry import did_you_mean

READ_ONLY = 'read-only'
"""Fixed when the process starts."""
CONFIGURE = 'configure'
"""Taken at the next configure; refused while the node is active."""
DYNAMIC = 'dynamic'
"""Taken by the next frame."""


MEAN = 'mean'
"""The rule of the frame score that needs no fitted method."""


class Parameter(NamedTuple):
    """One row of the table.

    Attributes:
        name: As users write it.
        default: Its type is the parameter's type.
        help: What it does.
        effect: `READ_ONLY`, `CONFIGURE` or `DYNAMIC`.
        range: Smallest and largest value of a number, both included.
        choices: Valid words of a text; empty for any.
    """

    name: str
    default: Any
    help: str
    effect: str
    range: tuple[float, float] | None
    choices: tuple[str, ...]

    @property
    def form(self) -> str:
        """What a value must be, and how it is written."""
        if isinstance(self.default, tuple):
            return 'a list of names, one at least; write it like [front, left]'
        return f'of type {type(self.default).__name__}; write it like {self.default!r}'

    def check(self, value: Any) -> None:
        """Refuses a value that does not fit.

        Raises:
            ValueError: Another type, out of range, or not one of the choices.
        """
        kind = type(self.default)
        is_list = type(value) is tuple and value and all(type(v) is str for v in value)
        if kind is tuple and not is_list:
            raise ValueError(f'parameter {self.name} is {value!r}; it must be {self.form}')
        if type(value) is not kind:
            hint = f'; write {float(value)}' if kind is float and type(value) is int else ''
            raise ValueError(
                f'parameter {self.name} is {value!r}; it must be of type {kind.__name__}{hint}'
            )
        if self.range is not None and not self.range[0] <= float(value) <= self.range[1]:
            raise ValueError(
                f'parameter {self.name} is {value}; it must lie in '
                f'{self.range[0]}..{self.range[1]}'
            )
        if self.choices and value not in self.choices:
            raise ValueError(
                f'parameter {self.name} is {value!r}; choose one of: {", ".join(self.choices)}'
            )


def param(
    default: Any,
    help: str,  # noqa: A002
    effect: str = CONFIGURE,
    range: tuple[float, float] | None = None,  # noqa: A002
    choices: tuple[str, ...] = (),
) -> Any:
    """Declares one parameter as a dataclass field."""
    return field(
        default=default,
        metadata={'help': help, 'effect': effect, 'range': range, 'choices': choices},
    )


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """The values of all parameters at one moment."""

    checkpoint: str = param('default', "checkpoint folder, or 'default' for the one shipped")
    engine_path: str = param('', 'engine folder made by export; empty: beside the checkpoint')
    engine: str = param(
        'auto',
        'what runs the network; auto: the best here',
        choices=(AUTO, *ENGINES),
    )
    precision: str = param(
        'auto',
        'what the engine computes in; auto: half precision where the device is made for it, by '
        'torch float32',
        choices=precisions(),
    )
    score: str = param('', "anomaly score; empty: the checkpoint's own")
    threshold: float = param(
        -1.0,
        'calibrated score (0..1) at or above which a pixel is anomalous; '
        "negative: the checkpoint's own",
        DYNAMIC,
        range=(-1.0, 1.0),
    )
    min_region_area: int = param(
        0, 'anomalous regions of fewer camera pixels are dropped', DYNAMIC, range=(0, 10**9)
    )
    max_regions: int = param(
        100, 'anomalous regions that are listed, by size times score', DYNAMIC, range=(0, 10000)
    )
    persistence: str = param(
        '1/5',
        'regions count that were there in so many of the last frames, of 1 to 60: 3/5 drops what '
        'flickers and delays what is new by 2 frames',
        DYNAMIC,
    )
    smoothing: float = param(
        0.0,
        'share of the frames before in the score that is compared with the threshold; 0: none',
        DYNAMIC,
        range=(0.0, 0.95),
    )
    overlay_alpha: float = param(
        0.45, 'share of the class colours in the overlay', DYNAMIC, range=(0.0, 1.0)
    )
    frame_score: str = param(
        'auto',
        "what ~/frame_score says; auto: the checkpoint's method for whole frames, where it has "
        'one, else as mean; mean: the mean calibrated score, by which no camera is out of domain',
        choices=('auto', MEAN),
    )
    frame_threshold: float = param(
        0.5,
        'frame score at or above which a frame is out of domain; above 1: none is',
        DYNAMIC,
        range=(0.0, 2.0),
    )
    health_frames: int = param(
        3,
        'bad frames in a row that make the camera unfit, and good ones that make it fit again',
        DYNAMIC,
        range=(1, 10000),
    )
    frozen_frames: int = param(
        5,
        'the same picture so often in a row is a frozen camera; 0: none is, for simulators',
        DYNAMIC,
        range=(0, 10000),
    )
    max_age_s: float = param(
        0.0,
        'frames whose stamp is more than so many seconds old are skipped; 0: none; the camera '
        "must share the node's clock",
        DYNAMIC,
        range=(0.0, 3600.0),
    )
    cameras: tuple[str, ...] = param(
        ('',),
        'names of several cameras that share the engine, each with its own topics: NAME/image, '
        '~/NAME/overlay; one without a name: image, ~/overlay',
        READ_ONLY,
    )
    input_transport: str = param(
        'raw',
        'raw: images as the topic `image` has them; compressed: those of `image`/compressed, JPEG '
        'or PNG',
        READ_ONLY,
        choices=('raw', 'compressed'),
    )
    input_reliability: str = param(
        'auto',
        'auto: reliable where all publishers of the image are, else best_effort',
        READ_ONLY,
        choices=('auto', 'best_effort', 'reliable'),
    )
    ignore_mask: str = param(
        '',
        'image of the pixels that do not count (not black), the own bonnet for instance; {camera} '
        'stands for the name of a camera, or for the namespace of a node of one; empty: none',
    )
    significant_bits: int = param(
        0,
        'bits that the camera uses of its 16-bit images; 0: found from the largest value so far',
        range=(0, 16),
    )
    calibration_file: str = param(
        '',
        'JSON file that keeps what ~/calibrate has found, and is read at configure; it need not '
        'be there yet; empty: kept until cleanup',
    )
    calibration_frames: int = param(
        100, 'frames that ~/calibrate takes as ordinary', DYNAMIC, range=(LEAST, MOST)
    )
    score_encoding: str = param('mono8', 'encoding of anomaly_score', choices=('mono8', '32FC1'))
    score_scale: str = param(
        'calibrated',
        'calibrated: 0..1, the share of normal pixels that score lower; raw: as the score '
        'gives it, with 32FC1 only',
        choices=('calibrated', 'raw'),
    )
    static_mask_inverted: bool = param(
        False,
        'turns static_mask round: 255 where the class moves or the pixel is anomalous',
        DYNAMIC,
    )
    output_resolution: str = param(
        'input',
        'size of the published masks and scores: of the camera image or of the network',
        DYNAMIC,
        choices=('input', 'network'),
    )
    snapshot_dir: str = param(
        '~/.ros/anomaly_seg', 'where ~/snapshot writes; made where it is missing', DYNAMIC
    )
    idle_without_listeners: bool = param(
        True,
        'read no camera while nobody listens to an output of it; false: process its images for '
        '/diagnostics alone',
        DYNAMIC,
    )
    executor: str = param(
        'auto',
        "what runs the node's callbacks; events costs the least and is not in every version of "
        'rclpy; auto: events where it is',
        READ_ONLY,
        choices=('auto', 'events', 'single'),
    )
    tune_allocator: bool = param(
        True, 'keep freed memory in the process: much cheaper big messages', READ_ONLY
    )
    autostart: bool = param(
        True, 'configure and activate by itself; false: an outside manager does', READ_ONLY
    )
    exit_on_failure: bool = param(
        False,
        'end with status 1 when autostart fails, so that launch starts the node again; false: try '
        'again after a pause that grows',
        READ_ONLY,
    )

    def __post_init__(self) -> None:
        for parameter in parameters():
            value = getattr(self, parameter.name)
            if isinstance(parameter.default, tuple) and isinstance(value, list):
                value = tuple(value)  # as ROS and YAML have it
                object.__setattr__(self, parameter.name, value)
            parameter.check(value)
        _check_cameras(self.cameras)
        if not self.snapshot_dir:
            raise ValueError(
                "parameter snapshot_dir is ''; write a folder, or . for that of the node's process"
            )
        Persistence.parse(self.persistence)
        if self.score_scale == 'raw' and self.score_encoding != '32FC1':
            raise ValueError(
                'score_scale raw does not fit score_encoding mono8; set score_encoding to 32FC1'
            )

    def in_force(self, configured: NodeConfig) -> NodeConfig:
        """Gives these values where they hold from the next frame on, else those of a configure."""
        now = {row.name: getattr(self, row.name) for row in parameters() if row.effect == DYNAMIC}
        return replace(configured, **now)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> NodeConfig:
        """Builds the configuration from names and values.

        Raises:
            ValueError: An unknown name, or a value that does not fit.
        """
        refuse_unknown(values)
        return cls(**values)


CAMERA_NAME = '[A-Za-z][A-Za-z0-9_]*'
"""What a camera of a node may be called."""
CAMERA_KEY = f'{CAMERA_NAME}(/{CAMERA_NAME})*'
"""What `topics.camera_key` may call one: its name, or the namespace of its node."""
CAMERA_RULE = 'a name is a letter, then letters, digits or _'
"""The same in words."""


def _check_cameras(names: tuple[str, ...]) -> None:
    wrong = next((name for name in names if not re.fullmatch(CAMERA_NAME, name)), None)
    if wrong is not None and names != ('',):
        raise ValueError(f'parameter cameras holds {wrong!r}; {CAMERA_RULE}')
    if len(set(names)) < len(names):
        raise ValueError(f'parameter cameras is {list(names)}; give each camera once')


def refuse_unknown(names: Iterable[str]) -> None:
    """Refuses names that are no parameter of the node.

    Raises:
        ValueError: Names them, each with the one that was probably meant.
    """
    known = [row.name for row in fields(NodeConfig)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            '; '.join(f'unknown parameter {name!r}{did_you_mean(name, known)}' for name in unknown)
        )


def parameters() -> Iterator[Parameter]:
    """Gives the table, row by row."""
    for row in fields(NodeConfig):
        yield _parameter(row)


def _parameter(row: Field[Any]) -> Parameter:
    metadata = row.metadata
    return Parameter(
        row.name,
        row.default,
        metadata['help'],
        metadata['effect'],
        metadata['range'],
        metadata['choices'],
    )


def as_yaml() -> str:
    """Gives the text of `config/node.yaml`: every parameter with its meaning and default."""
    lines = [
        '# Every parameter of anomaly_seg_node with its default.',
        '# Printed by: python -m anomaly_seg_ros.node.config > config/node.yaml',
        '/**:',
        '  ros__parameters:',
    ]
    for parameter in parameters():
        lines.append(f'    # {parameter.help} ({_valid(parameter)})')
        lines.append(f'    {parameter.name}: {_yaml_value(parameter.default)}')
    return '\n'.join(lines) + '\n'


def _valid(parameter: Parameter) -> str:
    if parameter.choices:
        return f'{" | ".join(parameter.choices)}; {parameter.effect}'
    if parameter.range is not None:
        return f'{parameter.range[0]} to {parameter.range[1]}; {parameter.effect}'
    return parameter.effect


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return repr(value) if isinstance(value, str) else str(value)


if __name__ == '__main__':
    print(as_yaml(), end='')
