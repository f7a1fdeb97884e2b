"""The meta data of a checkpoint: what must travel with weights to use them rightly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, MISSING, replace
import json
from pathlib import Path
from typing import Any

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.classes import IGNORE
from anomaly_seg_ros.process.whole_file import whole_file
from anomaly_seg_ros.scores import SCORES

from .calibrated import (
    calibrated_on,
    CalibratedOn,
    calibration,
    camera_calibration,
    CameraCalibration,
    share,
)
from .fields import (
    anything,
    Check,
    listed,
    mapped,
    matching,
    name,
    number,
    one_of,
    or_none,
    text,
    unfit,
    whole,
)
from .frame_fit import frame_fit, frame_shift, FrameFit, FrameShift

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
        dynamic_classes: Names of the classes that can move by themselves; None: nobody has said.
        gamma: Exponent on the image in 0..1 before `mean` and `std`; below 1 brightens it.
        mean: RGB mean that is subtracted from an image in 0..1.
        std: RGB standard deviation that it is divided by.
        input_size: (height, width) the network was trained for.
        void_index: Index of the void channel in the network's own output, or None.
        score: The anomaly score used when none is asked for.
        temperature: Divides the logits where a score is made of class probabilities.
        score_options: Score name to keyword arguments of the score, where not the default.
        fitted: Score name to the data set and split whose statistics the weights file holds.
        fitted_network: Score name to the key of the network that those statistics are of.
        calibrations: Score name to its calibration on normal validation pixels.
        calibrated_on: Score name to what its calibration was fitted on, where that is known.
        thresholds: Score name to the calibrated value (0..1) from which on a pixel is anomalous.
        cameras: Name of one of several cameras to score name to what it has of its own.
        frame: How whole frames are judged; its arrays lie in the weights file.
        frame_cameras: Name of a camera to what its frames look like as a whole; '' is for all
            that have nothing of their own.
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
    dynamic_classes: tuple[str, ...] | None = None
    gamma: float = 1.0
    score: str = 'max_logit'
    temperature: float = 1.0
    score_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    fitted: dict[str, str] = field(default_factory=dict)
    fitted_network: dict[str, str] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    calibrated_on: dict[str, CalibratedOn] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    cameras: dict[str, dict[str, CameraCalibration]] = field(default_factory=dict)
    frame: FrameFit | None = None
    frame_cameras: dict[str, FrameShift] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ''
    commit: str = ''
    format: int = FORMAT

    def __post_init__(self) -> None:
        for key, check in _CHECKS.items():
            object.__setattr__(self, key, check(key, getattr(self, key)))
        if not 0 < len(self.class_names) <= IGNORE:
            raise ValueError(
                f'{len(self.class_names)} class_names; there must be 1 to {IGNORE}, because ids '
                f'are bytes and {IGNORE} is unlabelled'
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise unfit('class_names', self.class_names, 'names of which none stands there twice')
        if len(self.class_names) != len(self.class_colors):
            raise ValueError(
                f'{len(self.class_names)} class_names but {len(self.class_colors)} class_colors'
            )
        if unknown := sorted({*(self.dynamic_classes or ())} - {*self.class_names}):
            raise unfit('dynamic_classes', unknown, 'names of class_names')
        if self.void_index is not None and self.void_index > len(self.class_names):
            what = f'below {len(self.class_names) + 1}, the channels of the network'
            raise unfit('void_index', self.void_index, what)

    @property
    def channels(self) -> int:
        """Channels of the network's own output: the classes, and void where it is trained."""
        return len(self.class_names) + (self.void_index is not None)

    def calibration_of(self, score: str) -> Calibration:
        """Gives the calibration of a score.

        Raises:
            ValueError: It has none.
        """
        if score not in self.calibrations:
            others = (
                f', or take {", ".join(sorted(self.calibrations))}' if self.calibrations else ''
            )
            raise ValueError(
                f'score {score!r} of this checkpoint has no calibration; run fit_score on it '
                f'first{others}'
            )
        return self.calibrations[score]

    def of_camera(self, camera: str) -> CheckpointMeta:
        """Gives the same with the calibrations of a camera in place of those that it replaces."""
        shifts = {'': own} if (own := self.frame_shift(camera)) else {}
        return replace(self.with_calibrations(self.cameras.get(camera, {})), frame_cameras=shifts)

    def frame_shift(self, camera: str = '') -> FrameShift | None:
        """Gives what the frames of a camera look like as a whole, where that is known."""
        return self.frame_cameras.get(camera, self.frame_cameras.get(''))

    def with_calibrations(self, own: Mapping[str, CameraCalibration]) -> CheckpointMeta:
        """Gives the same with other calibrations, by score."""
        return replace(
            self,
            calibrations=self.calibrations | {k: fit.calibration for k, fit in own.items()},
            thresholds=self.thresholds | {k: fit.threshold for k, fit in own.items()},
            calibrated_on=self.calibrated_on | {k: fit.calibrated_on for k, fit in own.items()},
        )

    def to_json(self) -> str:
        """Gives the text of `meta.json`."""
        values = asdict(self)
        values['calibrations'] = {k: list(c.levels) for k, c in self.calibrations.items()}
        values['cameras'] = {
            camera: {score: own.to_json() for score, own in scores.items()}
            for camera, scores in self.cameras.items()
        }
        return json.dumps(values, indent=1) + '\n'

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CheckpointMeta:
        """Builds the meta data from parsed JSON.

        Raises:
            ValueError: A key is missing or unknown, a value does not fit, or another format.
        """
        if values.get('format') != FORMAT:
            raise ValueError(f'checkpoint format {values.get("format")!r} is not {FORMAT}')
        known = {
            f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls)
        }
        if unknown := sorted(values.keys() - known.keys()):
            raise ValueError(f'unknown keys {unknown}; this package may be older than the file')
        if missing := [key for key, needed in known.items() if needed and key not in values]:
            raise ValueError(f'key {missing[0]!r} is missing')
        return _as_trained(cls(**values))


def _as_trained(meta: CheckpointMeta) -> CheckpointMeta:
    """Gives an ENet that `train` made before checksums were kept the form that it had then.

    It had the activation that is now the option `expansion_activation`. An imported file never
    wanted it.
    """
    options = {'layout': 'a', 'expansion_activation': True} | meta.model_options
    ours = meta.model == 'enet' and options['layout'] == 'a'
    if not ours or meta.weights_sha256 or 'imported_from' in meta.training:
        return meta
    return replace(meta, model_options=options)


_score = one_of(SCORES)
_positive = number('a number above 0', lambda value: value > 0)
_CHECKS: dict[str, Check] = {
    'model': name,
    'class_names': listed(name),
    'class_colors': listed(listed(whole(0, 255), 3)),
    'mean': listed(number('a number'), 3),
    'std': listed(_positive, 3),
    'input_size': listed(whole(1), 2),
    'model_options': mapped(anything),
    'void_index': or_none(whole(0)),
    'dynamic_classes': or_none(listed(name)),
    'gamma': _positive,
    'score': _score,
    'temperature': _positive,
    'score_options': mapped(mapped(anything), _score),
    'fitted': mapped(text, _score),
    'fitted_network': mapped(text, _score),
    'calibrations': mapped(calibration, _score),
    'calibrated_on': mapped(calibrated_on, _score),
    'thresholds': mapped(share, _score),
    'cameras': mapped(mapped(camera_calibration, _score), name),
    'frame': or_none(frame_fit),
    'frame_cameras': mapped(frame_shift),
    'trained_on': listed(text),
    'training': mapped(anything),
    'weights_sha256': matching('(?:[0-9a-f]{64})?', "64 digits of 0..9 and a..f, or ''"),
    'commit': text,
    'format': whole(FORMAT, FORMAT),
}
"""How each field is checked, as it comes from JSON and as it comes from our code."""


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
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'cannot use {str(path)!r}: {error}; correct it, or make the checkpoint again by '
            'train, import_weights or fit_score'
        ) from None


def write_meta(folder: Path, meta: CheckpointMeta) -> None:
    """Writes `meta.json` alone, at once."""
    with whole_file(folder / META_FILE) as part:
        part.write_text(meta.to_json(), encoding='utf-8')
