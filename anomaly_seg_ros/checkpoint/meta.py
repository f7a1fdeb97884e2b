"""The meta data of a checkpoint: what must travel with weights to use them rightly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
import json
import math
from pathlib import Path
from typing import Any

from anomaly_seg_ros.calibration import Calibration

FORMAT = 1
META_FILE = 'meta.json'


@dataclass(frozen=True, kw_only=True)
class CheckpointMeta:
    """What must travel with the weights to use them rightly.

    Attributes:
        model: A key of `MODELS`.
        model_options: Keyword arguments of the network's constructor.
        class_names: Names in train-id order, void not among them.
        class_colors: RGB 0..255 of each class.
        gamma: Exponent on the image in 0..1 before `mean` and `std`; below 1 brightens it.
        mean: RGB mean that is subtracted from an image in 0..1.
        std: RGB standard deviation that it is divided by.
        input_size: (height, width) the network was trained for.
        void_index: Index of the void channel in the network's own output, or None.
        score: The anomaly score used when none is asked for.
        temperature: Divides the logits where a score is made of class probabilities.
        score_options: Score name to keyword arguments of the score, where not the default.
        fitted: Score name to the data set and split whose statistics the weights file holds.
        calibrations: Score name to its calibration on normal validation pixels.
        thresholds: Score name to the calibrated value (0..1) above which a pixel is anomalous.
        trained_on: Data sets and splits the weights have seen.
        training: How the weights were made: recipe, selection, measured quality.
        weights_sha256: Of the bytes of `weights.safetensors`; '' in folders of before.
        commit: Commit of the code that wrote the folder.
        format: Version of this layout.
    """

    model: str
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]
    model_options: dict[str, Any] = field(default_factory=dict)
    void_index: int | None = None
    gamma: float = 1.0
    score: str = 'max_logit'
    temperature: float = 1.0
    score_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    fitted: dict[str, str] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ''
    commit: str = ''
    format: int = FORMAT

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.class_colors):
            raise ValueError(
                f'{len(self.class_names)} class_names but {len(self.class_colors)} class_colors'
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f'mean {self.mean} and std {self.std} must be three numbers, std > 0')
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise ValueError(f'input_size {self.input_size} must be (height, width)')
        if self.void_index is not None and not 0 <= self.void_index <= len(self.class_names):
            raise ValueError(f'void_index {self.void_index} is outside of the network output')
        if not 0 < self.gamma < math.inf:
            raise ValueError(f'gamma {self.gamma} must be above 0')
        if not 0 < self.temperature < math.inf:
            raise ValueError(f'temperature {self.temperature} must be above 0')

    @property
    def channels(self) -> int:
        """Channels of the network's own output: the classes, and void where it is trained."""
        return len(self.class_names) + (self.void_index is not None)

    def to_json(self) -> str:
        """Gives the text of `meta.json`."""
        values = asdict(self)
        values['calibrations'] = {k: list(c.levels) for k, c in self.calibrations.items()}
        return json.dumps(values, indent=1) + '\n'

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CheckpointMeta:
        """Builds the meta data from parsed JSON.

        Raises:
            ValueError: A key is missing or unknown, a value does not fit, or another format.
        """
        if values.get('format') != FORMAT:
            raise ValueError(
                f'checkpoint format {values.get("format")!r} is not {FORMAT}; make it again with '
                'import_weights or train'
            )
        known = {f.name for f in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f'unknown keys {unknown} in {META_FILE}')
        try:
            return cls(
                **{
                    **values,
                    'class_names': tuple(values['class_names']),
                    'class_colors': tuple(tuple(color) for color in values['class_colors']),
                    'mean': tuple(values['mean']),
                    'std': tuple(values['std']),
                    'input_size': tuple(values['input_size']),
                    'trained_on': tuple(values.get('trained_on', ())),
                    'calibrations': {
                        score: Calibration(tuple(levels))
                        for score, levels in values.get('calibrations', {}).items()
                    },
                }
            )
        except KeyError as error:
            raise ValueError(f'key {error} is missing in {META_FILE}') from None
        except (TypeError, AttributeError) as error:
            raise ValueError(f'{META_FILE} does not fit: {error}') from None


def read_meta(folder: Path) -> CheckpointMeta:
    """Reads the meta data of a checkpoint folder.

    Raises:
        FileNotFoundError: No `meta.json` there.
        ValueError: It is not one of ours; the text names the file and what is wrong.
    """
    path = folder / META_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'{str(folder)!r} is no checkpoint folder: it has no {META_FILE}; public weights '
            'files become one by import_weights'
        )
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(values, dict):
            raise ValueError('it holds no JSON object')
        return CheckpointMeta.from_mapping(values)
    except ValueError as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def write_meta(folder: Path, meta: CheckpointMeta) -> None:
    """Writes `meta.json` alone, at once."""
    part = folder / f'{META_FILE}.part'
    part.write_text(meta.to_json(), encoding='utf-8')
    part.replace(folder / META_FILE)
