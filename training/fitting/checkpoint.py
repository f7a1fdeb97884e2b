"""Fits what the scores of a checkpoint need, in its folder, and drops what that outdates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
import shutil
from typing import Any

import numpy as np

from anomaly_seg_ros.adaptation.normal_scores import calibrated_on
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.frame_fit import FrameFit
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.engines import open_engine
from anomaly_seg_ros.engines.export import check_size
from anomaly_seg_ros.engines.folder import engine_folders
from anomaly_seg_ros.models.forward import run_fields
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.scores import check_needs, is_tempered, score_class, SCORES
from training.datasets import Dataset
from training.datasets.frame_folders import refuse_abnormal
from training.evaluation.network_pass import open_pass

from .calibration import fit_calibration
from .frame_method import check_method, fit_frames, pooled_frames, scenes_said
from .score_statistics import check_frames, fit_statistics
from .temperature import check_classes, collect_logits, fit_temperature, TemperatureFit

Say = Callable[[str], object]
"""Takes a line for the user."""


@dataclass(frozen=True)
class NormalFrames:
    """Frames without anomalies, and what they are called."""

    dataset: str
    split: str
    frames: Dataset

    def __str__(self) -> str:
        return f'{self.dataset} {self.split}'


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What is to be fitted.

    Attributes:
        scores: Keys of `SCORES` to calibrate; those that have statistics get them before.
        temperature: Whether to fit the temperature of the softmax first.
        gamma: A new exponent on the image; None leaves it.
        input_size: A new (height, width) of the network's input; None leaves it.
        options: Score name to options that are kept in the checkpoint.
        engine: What computes the calibrated scores.
        threshold: Calibrated score from which on a pixel is anomalous.
        sure: Raise it until the upper end of the share's interval is what it promises.
        method: One of `METHODS` that is to judge whole frames; '' leaves what is there.
        false_alarms: Share of normal frames that may be out of domain.
    """

    scores: Sequence[str]
    temperature: bool = False
    gamma: float | None = None
    input_size: tuple[int, int] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    engine: str = 'torch'
    threshold: float = 0.99
    sure: bool = False
    method: str = ''
    false_alarms: float = 0.005

    @property
    def fitted(self) -> list[str]:
        """The scores that get statistics."""
        return [name for name in self.scores if score_class(name).statistics]

    def of_image(self, meta: CheckpointMeta) -> dict[str, Any]:
        """What the network is shown of an image from now on, where that is not what it was."""
        wanted = {'gamma': self.gamma, 'input_size': self.input_size}
        return {k: v for k, v in wanted.items() if v not in (None, getattr(meta, k))}


def check_fit(
    checkpoint: Checkpoint, request: FitRequest, validation: Dataset, training: Dataset
) -> None:
    """Checks before the work that frames fit what is to be fitted.

    Raises:
        ValueError: Class labels are needed, and the dataset has others than the checkpoint; or
            a score needs what the network lacks.
    """
    # What is refused is so before anything is said.
    meta = replace(checkpoint.meta, **request.of_image(checkpoint.meta))
    check_size(meta.model, meta.input_size)
    fields = run_fields(checkpoint.network(), meta.void_index)
    for score in request.scores:
        check_needs(score, checkpoint.meta.model, fields)
    if request.temperature:
        check_classes(checkpoint.meta, validation)
    check_frames(checkpoint.meta, request.fitted, training)
    for frames in (validation, training):
        refuse_abnormal(frames)


def fit_checkpoint(
    checkpoint: Checkpoint,
    request: FitRequest,
    validation: NormalFrames,
    training: NormalFrames,
    say: Say,
) -> Checkpoint:
    """Fits what was asked for, step by step in the checkpoint's folder, and gives the result.

    What changes the graph goes first, because all later fits are made with it.

    Args:
        checkpoint: Its folder is written to; another must be there for who fears an interruption.
        request: What to fit.
        validation: For temperature and calibrations.
        training: For statistics.
        say: Is told what was fitted, and what was dropped because it is outdated.

    Raises:
        ValueError: The frames or the options do not fit, or there is nothing to fit.
    """
    if of_image := request.of_image(checkpoint.meta):
        checkpoint = with_image(checkpoint, of_image, request, say)
    before = {score: checkpoint.score_key(score) for score in checkpoint.meta.calibrations}
    if request.options:
        kept = checkpoint.meta.score_options
        added = {s: {**kept.get(s, {}), **options} for s, options in request.options.items()}
        checkpoint = checkpoint.with_meta(score_options={**kept, **added})
    if request.temperature:
        checkpoint = with_temperature(checkpoint, request, validation, say)
    if request.fitted:
        statistics = fit_statistics(checkpoint, request.fitted, training.frames)
        checkpoint = checkpoint.with_statistics(statistics, str(training))
        say(f'statistics of {", ".join(request.fitted)}: {len(training.frames)} frames')
    outdated = {score for score, key in before.items() if checkpoint.score_key(score) != key}
    if outdated:
        checkpoint = checkpoint.with_meta(**uncalibrated(checkpoint, outdated, say))
    remove_stale_engines(checkpoint, say)
    if request.method:
        checkpoint = with_frame_method(checkpoint, request, validation, training, say)
    for score in request.scores:
        checkpoint = with_calibration(checkpoint, request, score, validation, say)
    return checkpoint


def with_image(
    checkpoint: Checkpoint, of_image: Mapping[str, Any], request: FitRequest, say: Say
) -> Checkpoint:
    """Changes what the network is shown of an image and removes what was fitted before."""
    meta = checkpoint.meta
    texts = {'gamma': f'gamma {meta.gamma:g}', 'input_size': 'x'.join(map(str, meta.input_size))}
    before = ' and '.join(texts[key] for key in of_image)
    made = f'made at {before}; fit them again with --score'
    for what, names in (('calibrations', meta.calibrations), ('statistics', meta.fitted)):
        if lost := sorted(set(names) - set(request.scores)):
            say(f'dropped the {what} of {", ".join(lost)}, {made} {",".join(lost)}')
    if meta.temperature != 1 and not request.temperature:
        say(
            f'the temperature {meta.temperature:g} was fitted at {before}; fit it again with '
            '--score temperature'
        )
    if meta.fitted:
        checkpoint = checkpoint.with_statistics(dict.fromkeys(meta.fitted), '')
    if meta.frame is not None:
        if not request.method:
            method = meta.frame.method
            say(f'dropped frame method {method}, {made} {method}')
        checkpoint = checkpoint.with_frame(None, {})
    return checkpoint.with_meta(**of_image, **uncalibrated(checkpoint, SCORES, say))


def with_temperature(
    checkpoint: Checkpoint, request: FitRequest, validation: NormalFrames, say: Say
) -> Checkpoint:
    """Fits the temperature and drops the calibrations that it outdates."""
    meta = checkpoint.meta
    fit = _temperature_of(checkpoint, validation.frames, say)
    changed = fit.temperature != meta.temperature
    outdated = {name for name in meta.calibrations if changed and is_tempered(name)}
    if lost := sorted(set(outdated) - set(request.scores)):
        say(
            f'dropped the calibrations of {", ".join(lost)}, made at temperature '
            f'{meta.temperature:g}; fit them again with --score {",".join(lost)}'
        )
    about = {
        'fitted_on': str(validation),
        'ece_before': fit.ece_before,
        'nll_before': fit.nll_before,
        'ece': fit.ece,
        'nll': fit.nll,
    }
    return checkpoint.with_meta(
        temperature=fit.temperature,
        training={**meta.training, 'temperature': about},
        **uncalibrated(checkpoint, outdated, say),
    )


def _temperature_of(checkpoint: Checkpoint, frames: Dataset, say: Say) -> TemperatureFit:
    """Fits the temperature of a checkpoint's logits and says the gain."""
    network = open_pass(checkpoint, 'torch', ['max_logit'])
    pixels = collect_logits(network, checkpoint.meta, frames)
    network.close()
    fit = fit_temperature(pixels)
    say(
        f'temperature {fit.temperature:.4f} from {fit.pixels} pixels of {len(frames)} frames: '
        f'ECE {fit.ece_before:.4f} -> {fit.ece:.4f}, NLL {fit.nll_before:.4f} -> {fit.nll:.4f}'
    )
    return fit


def with_frame_method(
    checkpoint: Checkpoint,
    request: FitRequest,
    validation: NormalFrames,
    training: NormalFrames,
    say: Say,
) -> Checkpoint:
    """Fits the method for whole frames and puts it in with its threshold.

    Raises:
        ValueError: The method needs an autoencoder, or the frames do not fit.
    """
    name, rate = request.method, request.false_alarms
    check_method(name, checkpoint.meta)
    engine = open_engine(checkpoint, request.engine)
    learned = pooled_frames(engine, training.frames, name)
    ordinary = pooled_frames(engine, validation.frames, f'{name} threshold')
    engine.close()
    fitted = fit_frames(name, learned, ordinary, rate, request.sure)
    alarms = int(np.count_nonzero(fitted.method.raw(ordinary.values) >= fitted.threshold))
    if lost := sorted(filter(None, checkpoint.meta.frame_cameras)):
        say(f'dropped what cameras {", ".join(lost)} had of whole frames; run adapt anew')
    count = len(learned.values)
    where = f', {scenes_said(learned.scenes)} of {training} left out in turn'
    say(
        f'{name}: {count} frames, threshold {fitted.threshold:.4g} for {1000 * rate:.3g} false '
        f'alarms per 1000 frames{where if request.sure else ""}; {alarms} of '
        f'{len(ordinary.values)} frames of {validation} lie above'
    )
    fit = FrameFit(
        method=name,
        threshold=fitted.threshold,
        false_alarms=1000 * rate,
        fitted_on=str(training),
        frames=count,
        threshold_on=f'{validation}{where if request.sure else ""}',
        commit=code_version(),
    )
    return checkpoint.with_frame(fit, fitted.method.arrays)


def with_calibration(
    checkpoint: Checkpoint, request: FitRequest, score: str, validation: NormalFrames, say: Say
) -> Checkpoint:
    """Fits the calibration of a score and puts it in with the threshold."""
    engine = open_engine(checkpoint, request.engine, score)
    promised = 1 - request.threshold
    fit, rate = fit_calibration(engine, validation.frames, promised, request.sure)
    engine.close()
    origin = calibrated_on(fit, validation.dataset, validation.split)
    say(
        f'{score}: {fit.frames} frames, threshold {1 - rate:.4g}; of frames that were '
        f'left out {fit.promise} of the pixels lie above, promised '
        f'{"at most " if request.sure else ""}{100 * promised:.2f} %'
    )
    meta = checkpoint.meta
    return checkpoint.with_meta(
        calibrations={**meta.calibrations, score: fit.calibration},
        calibrated_on={**meta.calibrated_on, score: origin},
        thresholds={**meta.thresholds, score: round(1 - rate, 6)},
    )


def uncalibrated(checkpoint: Checkpoint, scores: Collection[str], say: Say) -> dict[str, Any]:
    """Gives the fields of the meta data that hold calibrations, without those of some scores.

    Which cameras lose one of their own is said; the common ones are a matter of the caller.
    """
    meta = checkpoint.meta
    for camera, own in sorted(meta.cameras.items()):
        if lost := sorted(set(own) & set(scores)):
            say(
                f'dropped the calibration of {", ".join(lost)} that camera {camera!r} had; run '
                f'adapt --camera {camera} anew'
            )

    def without(values: Mapping[str, Any]) -> dict[str, Any]:
        return {score: value for score, value in values.items() if score not in scores}

    return {
        'calibrations': without(meta.calibrations),
        'calibrated_on': without(meta.calibrated_on),
        'thresholds': without(meta.thresholds),
        'cameras': {camera: without(own) for camera, own in meta.cameras.items()},
    }


def remove_stale_engines(checkpoint: Checkpoint, say: Say) -> None:
    """Removes exported engines that could only be refused: of another key or format."""
    for folder, meta in engine_folders(checkpoint.folder):
        if isinstance(meta, str) or meta.score not in SCORES:
            why = 'that cannot be used'
        elif meta.key != checkpoint.score_key(meta.score):
            why = 'of another graph'
        else:
            continue
        shutil.rmtree(folder)
        say(f'removed engine {folder.name} {why}; export it again')
