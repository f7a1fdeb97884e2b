"""One frame through resize, engine and calibration, with an engine that is known by heart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.frames.camera_frame import CameraFrame
from anomaly_seg_ros.frames.maps import PipelineSettings
from anomaly_seg_ros.frames.overlay import color_table, colorize, draw_overlay
from anomaly_seg_ros.frames.pipeline import build_pipeline, default_threshold, run_engine
from anomaly_seg_ros.frames.preprocess import to_input_size


def picture(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """Red gives labels, green the score: left half 0 (normal), right half 255 (anomalous)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 3
    image[:, width // 2 :, 1] = 255
    return image


@pytest.fixture
def meta(make_fake_meta: Callable[..., Any]) -> Any:
    return make_fake_meta()


@pytest.fixture
def pipeline(fake_engine: Any, meta: Any) -> Any:
    return build_pipeline(fake_engine, meta)


def test_outputs_at_the_networks_own_size(pipeline: Any) -> None:
    image = picture()
    result = pipeline(image)
    anomalous = image[..., 1] == 255
    assert (result.labels == 3).all()
    assert result.score[0].tolist() == [-5] * 16 + [5] * 16
    assert result.share[0].tolist() == [0] * 16 + [1] * 16
    assert result.heat[0].tolist() == [0] * 16 + [255] * 16
    assert ((result.mask == 255) == anomalous).all()
    assert ((result.mask == 0) == ~anomalous).all()
    assert result.anomalous_share == 0.5
    assert (result.color == (128, 64, 128)).all()
    assert set(result.times_ms) == {'preprocess', 'inference'}


def test_the_middle_of_the_calibration(pipeline: Any) -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 1] = np.arange(24 * 32).reshape(24, 32) % 256
    result = pipeline(image)
    expected = image[..., 1] / 255
    assert np.abs(result.share - expected).max() < 2e-3
    assert (result.heat == np.rint(result.share * 255)).all()


@pytest.mark.parametrize('size', [(48, 64), (50, 70), (12, 16), (23, 33), (24, 64)])
def test_every_output_has_the_cameras_size(pipeline: Any, size: tuple[int, int]) -> None:
    result = pipeline(picture(*size))
    for name in ('labels', 'score', 'share', 'heat', 'mask'):
        assert getattr(result, name).shape == size, name
    for name in ('color', 'overlay'):
        assert getattr(result, name).shape == (*size, 3), name
    assert (result.labels == 3).all()
    assert result.mask[:, 0].tolist() == [0] * size[0]
    assert result.mask[:, -1].tolist() == [255] * size[0]


def test_network_size_on_request(pipeline: Any) -> None:
    result = pipeline(picture(48, 64)).at(whole=False)
    for name in ('labels', 'score', 'share', 'heat', 'mask'):
        assert getattr(result, name).shape == (24, 32), name
    assert result.overlay.shape == (24, 32, 3)


def test_network_size_is_the_result_itself_where_the_camera_has_it(pipeline: Any) -> None:
    result = pipeline(picture())
    assert result.at(whole=False) is result
    assert pipeline(picture(48, 64)).at(whole=True).size == (48, 64)


def test_float_and_byte_score_agree_at_any_size(pipeline: Any) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (37, 50, 3), dtype=np.uint8)
    for whole in (True, False):
        result = pipeline(image).at(whole)
        assert np.abs(result.heat / 255 - result.share).max() < 1.5 / 255


def test_the_area_counts_camera_pixels_at_both_sizes(fake_engine: Any, meta: Any) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[8:16, 8:16, 1] = 255  # 64 camera pixels, 16 network pixels
    for area, kept in ((60, True), (68, False)):
        pipeline = build_pipeline(fake_engine, meta, PipelineSettings(0.9, area))
        result = pipeline(image)
        assert bool(result.mask.any()) is kept
        assert bool(result.at(whole=False).mask.any()) is kept
        assert result.anomalous_share > 0


def test_settings_hold_from_the_next_frame_on(pipeline: Any) -> None:
    image = picture()
    image[..., 1] = 128  # share 0.5
    first = pipeline(image)
    pipeline.settings = PipelineSettings(0.4, 0, 0.0)
    assert not first.mask.any()
    second = pipeline(image)
    assert second.mask.all()
    assert (second.overlay[12, 16] == image[12, 16]).all()  # alpha 0, away from the outline


def test_the_way_of_a_frame_in_its_three_steps(fake_engine: Any, meta: Any) -> None:
    """Frames of two cameras, each with its own pipeline, in one pass of the engine."""
    pipelines = [
        build_pipeline(fake_engine, meta, PipelineSettings(threshold)) for threshold in (0.4, 0.9)
    ]
    image = picture(48, 64)
    image[..., 1] = 128  # share 0.5
    prepared = [pipeline.prepare(image) for pipeline in pipelines]
    assert [set(frame.times_ms) for frame in prepared] == [{'preprocess'}] * 2
    batches: list[int] = []
    infer_batch = fake_engine.infer_batch
    fake_engine.infer_batch = lambda images: batches.append(len(images)) or infer_batch(images)
    predictions = run_engine(fake_engine, prepared)
    assert batches == [2]
    for pipeline, frame, prediction, marked in zip(
        pipelines, prepared, predictions, (True, False), strict=True
    ):
        result = pipeline.finish(frame, prediction)
        assert result.mask.shape == (48, 64)
        assert result.mask.all() == result.mask.any() == marked
        assert (result.overlay == pipeline(image).overlay).all()
        assert result.times_ms is result.at(whole=False).times_ms is frame.times_ms
        assert set(result.times_ms) == {'preprocess', 'inference'}


def test_the_stages_of_a_frame_are_timed(pipeline: Any, fake_engine: Any) -> None:
    fake_engine.latency_s = 0.05
    times_ms = pipeline(picture(480, 640)).times_ms
    assert times_ms['inference'] >= 50
    assert 0 < times_ms['preprocess'] < times_ms['inference']


def test_overlay_is_made_of_the_other_outputs(pipeline: Any, meta: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    result = pipeline(image)
    colors = colorize(result.labels, color_table(meta.class_colors))
    assert (result.color == colors).all()
    small = pipeline(image).at(whole=False)
    drawn = draw_overlay(image, small.color, 0.45, small.heat, small.mask)
    assert (result.overlay == drawn).all()


def test_without_calibration_there_are_labels_and_a_raw_score(
    fake_engine: Any, make_fake_meta: Callable[..., Any]
) -> None:
    result = build_pipeline(fake_engine, make_fake_meta(calibrations={}))(picture())
    assert not result.calibrated
    assert result.labels.shape == result.score.shape == (24, 32)
    assert result.overlay.shape == (24, 32, 3)
    for name in ('share', 'heat', 'mask', 'anomalous_share'):
        with pytest.raises(ValueError, match='no calibration; run fit_score'):
            getattr(result, name)


def test_a_score_without_calibration_names_those_that_have_one(
    make_fake_meta: Callable[..., Any],
) -> None:
    meta = make_fake_meta()
    calibrated = ', '.join(sorted(meta.calibrations))
    with pytest.raises(ValueError, match=f'run fit_score on it first, or take {calibrated}$'):
        meta.calibration_of('void')
    with pytest.raises(ValueError, match=r'run fit_score on it first$'):
        make_fake_meta(calibrations={}).calibration_of('void')


def test_scores_that_are_not_numbers_are_anomalous(
    fake_engine: Any, meta: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = fake_engine.infer

    def broken(image: NDArray[np.uint8]) -> Any:
        prediction = infer(image)
        prediction.score[0, :3] = np.nan, np.inf, 1e30
        prediction.score[0, 3:5] = -np.inf, -1e30
        return prediction

    monkeypatch.setattr(fake_engine, 'infer', broken)
    result = build_pipeline(fake_engine, meta)(picture())
    assert result.heat[0, :5].tolist() == [255, 255, 255, 0, 0]


@pytest.mark.parametrize('shape', [(0, 5, 3), (5, 0, 3), (5, 5), (5, 5, 4), (5, 5, 0)])
def test_what_is_no_image_is_refused(pipeline: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'an image must be \(H, W, 3\)'):
        pipeline(np.zeros(shape, np.uint8))


def test_threshold_of_the_checkpoint_or_the_usual_one(make_fake_meta: Callable[..., Any]) -> None:
    meta = make_fake_meta(thresholds={'msp': 0.5})
    assert default_threshold(meta, 'msp') == 0.5
    assert default_threshold(meta, 'energy') == 0.99


@pytest.mark.parametrize('scale', [2, 4, 8])
def test_reduction_by_powers_of_two_averages(scale: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6 * scale, 8 * scale, 3), dtype=np.uint8)
    means = image.reshape(6, scale, 8, scale, 3).mean((1, 3))
    assert np.abs(to_input_size(image, (6, 8)) - means).max() <= 0.51 * np.log2(scale)


@pytest.mark.parametrize('size', [(10, 14), (13, 17), (18, 24), (21, 50), (47, 31), (60, 80)])
def test_reduction_skips_no_row_and_no_column(size: tuple[int, int]) -> None:
    for axis in (0, 1):
        for line in range(size[axis]):
            image = np.zeros((*size, 3), np.uint8)
            np.moveaxis(image, axis, 0)[line] = 255
            assert to_input_size(image, (6, 8)).any(), (axis, line)


def test_the_encoding_of_the_camera_changes_nothing(pipeline: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    expected = pipeline(image)
    bgr = pipeline(CameraFrame(np.ascontiguousarray(image[..., ::-1]), cv2.COLOR_BGR2RGB))
    rgba = pipeline(CameraFrame(np.dstack([image, image[..., 0]]), cv2.COLOR_RGBA2RGB))
    for result in (bgr, rgba):
        assert (result.network_input == expected.network_input).all()
        assert (result.overlay == expected.overlay).all()
    grey = pipeline(CameraFrame(image[..., 0], cv2.COLOR_GRAY2RGB))
    assert (grey.network_input == pipeline(image[..., [0, 0, 0]]).network_input).all()


def test_an_image_that_fits_is_not_copied() -> None:
    image = picture()
    assert to_input_size(image, (24, 32)) is image


def test_calibration_is_that_of_the_engines_score(
    make_fake_engine: Callable[..., Any], make_fake_meta: Callable[..., Any]
) -> None:
    calibrations = {
        'max_logit': Calibration((-5.0, 5.0)),
        'msp': Calibration((100.0, 101.0)),
    }
    meta = make_fake_meta(calibrations=calibrations, thresholds={'msp': 0.1, 'max_logit': 0.9})
    result = build_pipeline(make_fake_engine(score='msp'), meta)(picture())
    assert not result.share.any()
    assert result.settings.threshold == 0.1


def test_no_ros_and_no_torch_is_needed(root: Path) -> None:
    import subprocess
    import sys

    code = (
        'import sys, anomaly_seg_ros.frames.pipeline\n'
        'print(*{"torch", "rclpy"} & set(sys.modules))'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ''
