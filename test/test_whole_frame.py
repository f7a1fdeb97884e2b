"""Whole frames: the density, the methods on it, and the health of a camera."""

import json
from pathlib import Path

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.frame_fit import FrameFit
from anomaly_seg_ros.whole_frame.density import Density
from anomaly_seg_ros.whole_frame.health import CameraHealth, HealthSettings
from anomaly_seg_ros.whole_frame.methods import fit_camera, fit_method, FrameJudge, latent_values
from anomaly_seg_ros.whole_frame.picture import is_dark, thumbnail

GOLDEN = Path(__file__).parent / 'golden' / 'dfkde.json'


def vectors(count: int = 60, seed: int = 0) -> np.ndarray:
    mixing = np.random.default_rng(99).normal(size=(3, 8))
    return np.random.default_rng(seed).normal(size=(count, 3)) @ mixing + 5


def test_log_densities_are_those_of_anomalib() -> None:
    golden = json.loads(GOLDEN.read_text())
    density = Density.fit(np.array(golden['normal']), golden['components'])
    found = density.log_density(np.array(golden['asked']))
    # anomalib divides by the largest length first, which moves all logarithms alike.
    moved = found + golden['components'] * np.log(golden['max_length'])
    assert moved == pytest.approx(golden['log_density'], abs=2e-3)


def test_energies_are_those_of_the_plain_formula() -> None:
    normal, asked = vectors(), vectors(5, 1)
    density = Density.fit(normal, 2)
    placed = (asked - density.mean) @ density.components
    squares = np.square(placed[:, None] - density.support[None]).sum(2)
    expected = -np.log(np.exp(-squares / 2).mean(1))
    assert density.energy(asked) == pytest.approx(expected)


def test_a_far_vector_has_a_finite_density_and_the_further_the_less() -> None:
    density = Density.fit(vectors(), 3)
    energies = density.energy(np.array([[5.0] * 8, [1e3] * 8, [1e4] * 8]))
    assert np.isfinite(energies).all()
    assert (np.diff(energies) > 0).all()


def test_what_lies_behind_the_components_counts_where_it_is_asked_for() -> None:
    normal = vectors() + np.random.default_rng(2).normal(0, 0.01, (60, 8))
    beside = normal[:1] + np.linalg.svd(normal - normal.mean(0))[2][-1] * 3
    plain = Density.fit(normal, 3)
    whole = Density.fit(normal, 3, residual=True)
    assert plain.energy(beside) == pytest.approx(plain.energy(normal[:1]), rel=1e-3)
    assert whole.energy(beside)[0] > 1000 * whole.energy(normal[:1])[0]


def test_a_density_comes_back_from_its_arrays() -> None:
    normal = np.column_stack([vectors(), np.ones(60)])  # one value never changes
    for residual in (False, True):
        density = Density.fit(normal, 3, residual=residual)
        again = Density.from_arrays(density.arrays())
        assert again.energy(normal) == pytest.approx(density.energy(normal), rel=1e-2, abs=1e-2)


@pytest.mark.parametrize(
    ('normal', 'why'),
    [
        (np.ones((15, 3)), '15 frames; a density needs 16'),
        (np.ones((20, 3)), 'all 20 frames are the same'),
    ],
)
def test_frames_that_make_no_density_are_refused(normal: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Density.fit(normal)


def test_the_score_is_one_half_at_the_threshold() -> None:
    method = fit_method('dfkde', vectors())
    far = vectors(1, 3)[0] + 9
    judge = FrameJudge(method, 'dfkde', float(method.raw(far[None])[0]))
    assert judge.score(far) == pytest.approx(0.5)
    assert judge.score(vectors()[0]) < 0.1 < 0.9 < judge.score(far + 1e4) <= 1
    assert judge.score(np.full(8, np.nan)) == 1


def test_a_camera_that_differs_is_normal_once_its_frames_are_known() -> None:
    normal, camera = vectors(), vectors(30, 4) + 40
    method = fit_method('dfkde', normal)
    judge = FrameJudge(method, 'dfkde', 20.0)
    assert min(judge.score(frame) for frame in camera) > 0.9
    own = judge.of_camera(fit_camera(judge, camera[:10], 20.0, 'here'))
    assert max(own.score(frame) for frame in camera[10:]) < 0.5
    assert own.score(normal[0]) > 0.9


def test_a_fit_is_checked() -> None:
    good = {'threshold': 1.0, 'false_alarms': 5.0, 'fitted_on': 'x', 'frames': 20}
    from anomaly_seg_ros.checkpoint.frame_fit import frame_fit

    whole = {**good, 'method': 'dfkde', 'threshold_on': 'x', 'commit': ''}
    assert frame_fit('frame', whole) == FrameFit(**whole)
    with pytest.raises(ValueError, match=r'frame.method is .padim.; it must be one of: dfkde'):
        frame_fit('frame', {**whole, 'method': 'padim'})
    with pytest.raises(ValueError, match=r'frame.threshold is 0'):
        frame_fit('frame', {**whole, 'threshold': 0})


# --- cheap statistics and health -----------------------------------------------------------------


def scene(seed: int, level: int = 120) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.clip(random.normal(level, 40, (48, 64, 3)), 0, 255).astype(np.uint8)


def test_black_is_dark_with_the_noise_of_a_sensor_and_a_night_street_is_not() -> None:
    assert is_dark(thumbnail(np.zeros((448, 576, 3), np.uint8)))
    assert is_dark(thumbnail((scene(0) * 0.04).astype(np.uint8)))
    night = np.zeros((448, 576, 3), np.uint8)
    night[200:260, 100:300] = 90
    assert not is_dark(thumbnail(night))


def judged(frames: list[tuple[np.ndarray, float | None]], settings: HealthSettings) -> list[str]:
    health, found = CameraHealth(), []
    for image, score in frames:
        health = health.after(image, score, settings)
        found.append(health.reason)
    return found


def test_health_changes_behind_some_frames_and_comes_back_behind_some() -> None:
    settings = HealthSettings(threshold=0.5, frames=2)
    scores = [0.1, 0.9, 0.1, 0.9, 0.5, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1]
    found = judged([(scene(i), score) for i, score in enumerate(scores)], settings)
    out = 'out of domain'
    assert found == ['', '', '', '', out, out, out, out, out, '', '']


def test_health_says_the_reason_that_holds_now() -> None:
    settings = HealthSettings(frames=2, frozen_frames=3)
    black = np.zeros((48, 64, 3), np.uint8)
    frames = [(scene(0), 0.9), (scene(1), 0.9), (black, 0.9), (scene(2), None), (scene(2), None)]
    found = judged([*frames, (scene(2), None), (scene(3), None), (scene(4), None)], settings)
    assert found[1:3] == ['out of domain', 'dark']
    assert found[4:] == ['', 'frozen', 'frozen', '']


def test_a_picture_that_comes_again_may_be_allowed() -> None:
    again = [(scene(0), 0.0)] * 9
    assert judged(again, HealthSettings(frozen_frames=4)) == 3 * [''] + 6 * ['frozen']
    assert judged(again, HealthSettings(frozen_frames=0)) == 9 * ['']


def test_the_latent_values_are_the_means_and_the_relative_distance() -> None:
    """Pooled of two channels: means, deviations, the squared and the relative error."""
    assert latent_values(np.array([[1.0, 2, 3, 4, 5, 6]])).tolist() == [[1, 2, 6]]
