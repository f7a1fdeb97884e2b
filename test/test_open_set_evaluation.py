"""open-mIoU across the two test towns of StreetHazards, from files to results, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.classes import STREETHAZARDS
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import write_image
from training.commands import evaluate
from training.evaluation.network_pass import PassOutput

SIZE = (4, 8)
ROAD, BUILDING, OTHER, ANOMALY = 8, 2, 4, 14
"""Values in the label files."""
TRAIN_ID = {
    ROAD: STREETHAZARDS.names.index('road'),
    BUILDING: STREETHAZARDS.names.index('building'),
}

# Eight cells of 2x2 pixels: true value, predicted value, score of the left and right column.
T5 = [
    (ROAD, ROAD, 1, 1),
    (ROAD, ROAD, 5, 5),
    (BUILDING, BUILDING, 3, 3),
    (BUILDING, ROAD, 1, 1),
    (ANOMALY, ROAD, 4, 8),
    (ANOMALY, BUILDING, 9, 9),
    (OTHER, ROAD, 9, 9),
    (ROAD, ROAD, 7, 7),
]
T6 = [
    (ROAD, ROAD, 1, 1),
    (BUILDING, BUILDING, 5, 5),
    (BUILDING, BUILDING, 8, 8),
    (ROAD, ROAD, 2, 2),
    (ANOMALY, BUILDING, 5, 5),
    (ANOMALY, ROAD, 9, 9),
    (ANOMALY, BUILDING, 7, 7),
    (ANOMALY, BUILDING, 5, 5),
]


class ReadsTheImage:
    """Stands for a network: the label is red, the score is green."""

    engine, precision, description, input_size = 'fake', 'fp32', 'fake network', SIZE

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = {'msp': []}

    def infer(self, image: np.ndarray) -> PassOutput:
        return PassOutput(image[..., 0].copy(), {'msp': image[..., 1].astype(np.float32)}, None)

    def close(self) -> None:
        pass


def spread(cells: list[Any]) -> np.ndarray:
    """Eight cells in two rows, each as 2x2 pixels."""
    return np.array(cells, np.uint8).reshape(2, 4).repeat(2, 0).repeat(2, 1)


def write_frame(root: Path, town: str, name: str, cells: list[tuple[int, ...]]) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 0] = spread([TRAIN_ID[guess] for _, guess, *_ in cells])
    image[:, 0::2, 1] = spread([left for *_, left, _ in cells])[:, 0::2]
    image[:, 1::2, 1] = spread([right for *_, right in cells])[:, 1::2]
    for kind, content in (('images', image), ('annotations', spread([c[0] for c in cells]))):
        folder = root / 'test' / kind / 'test' / town
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f'{name}.png', content)


@pytest.fixture
def row(fake_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `evaluate` writes of two equal frames of t5 and one of t6."""
    Checkpoint.open(fake_checkpoint).with_meta(
        class_names=STREETHAZARDS.names,
        class_colors=STREETHAZARDS.colors,
        input_size=SIZE,
        calibrations={'msp': Calibration((0.0, 3.5, 9.0))},
        thresholds={'msp': 15 / 16},  # 3.5 in raw
    )
    for town, name, cells in (('t5', '0', T5), ('t5', '1', T5), ('t6', '0', T6)):
        write_frame(tmp_path / 'data', town, name, cells)
    monkeypatch.setattr(evaluate, 'open_pass', lambda *_, **__: ReadsTheImage())
    arguments = ['--dataset', 'streethazards', '--root', str(tmp_path / 'data'), '--score', 'msp']
    out = ['--out', str(tmp_path / 'out')]
    assert main(['evaluate', '--checkpoint', str(fake_checkpoint), *arguments, *out]) == 0
    (found,) = json.loads((tmp_path / 'out' / 'results.json').read_text())['rows']
    return dict(found)


def test_open_miou_is_the_mean_of_the_towns_each_at_the_threshold_of_the_other(
    row: dict[str, Any],
) -> None:
    # At half size t5's anomalies score 6 (the mean of 4 and 8) and 9, t6's 5, 9, 7 and 5:
    # TPR above 95 % needs all of them, hence 5 for t5's pixels and 6 for t6's.
    # What scores above is flagged; 4 of t5's road score 5 and stay road.
    # t5 at 5, in pixels. Road: 8 hit, 4 flagged, 4 of building and 2 of the anomaly taken for
    # it. Building: 4 hit, 4 taken for road. Anomaly: 6 flagged, 2 missed, 4 of road flagged.
    five_road, five_building, five_anomaly = 8 / 18, 4 / 8, 6 / 12
    # t6 at 6. Road: all 8 hit. Building: 4 hit, 4 flagged, 8 of the anomaly taken for it.
    # Anomaly: 8 flagged, 8 missed, 4 of building flagged.
    six_road, six_building, six_anomaly = 1, 4 / 16, 8 / 20
    five, six = (five_road + five_building) / 2, (six_road + six_building) / 2
    assert row['open_miou'] == pytest.approx((2 * five + six) / 3, abs=1e-12)
    assert row['open_miou'] == pytest.approx(113 / 216, abs=1e-12)
    assert row['anomaly_iou'] == pytest.approx((2 * five_anomaly + six_anomaly) / 3, abs=1e-12)


def test_closed_miou_beside_it_ignores_anomalies_and_the_other_class(row: dict[str, Any]) -> None:
    # Road: 3 + 3 + 2 cells hit, 1 + 1 of building taken for it. Building: 1 + 1 + 2 hit, 2 not.
    assert row['miou'] == pytest.approx((8 / 10 + 4 / 6) / 2, abs=1e-12)


def test_the_usual_metrics_pool_both_towns_and_leave_the_other_class_out(
    row: dict[str, Any],
) -> None:
    assert row['n_images'] == 3
    assert row['n_pixels'] == 2 * 7 * 4 + 8 * 4


def test_the_threshold_in_force_is_counted_by_the_class_that_is_true(row: dict[str, Any]) -> None:
    # Above 3.5 are two cells of road in each frame of t5 and both of building in t6. The other
    # cells of building lie below it, one of them predicted as road.
    assert row['by_class_rule'] == 'true class'
    found = {group['class']: group for group in row['by_class'] if group['n_normal']}
    assert {name: group['n_normal'] for name, group in found.items()} == {
        'road': (2 * 3 + 2) * 4,
        'building': (2 * 2 + 2) * 4,
    }
    marked = {name: group['false_positive_share'] for name, group in found.items()}
    assert marked == pytest.approx({'road': (2 * 2) / 8, 'building': 2 / 6})
