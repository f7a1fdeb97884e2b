"""The metrics of a bag's labelled frames, as `evaluate` measures those of a dataset."""

from __future__ import annotations

from pathlib import Path

from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from training.evaluation.measure import MeasureSettings
from training.evaluation.pictures import draw_pictures
from training.evaluation.processes import Processes
from training.evaluation.result_folder import write_evaluation
from training.evaluation.rows import result_row
from training.evaluation.run import evaluate_frames
from training.results import ResultRow

from .frames import LabelledFrames


def measure_frames(
    frames: LabelledFrames,
    meta: CheckpointMeta,
    calibrated: float,
    origin: ResultRow,
    out: Path,
) -> ResultRow:
    """Measures the frames and writes the result folder that `report` reads.

    Args:
        frames: All frames that have labels.
        meta: Of the checkpoint.
        calibrated: The threshold of the mask, 0..1.
        origin: What is known of the row beside the numbers.
        out: The result folder.

    Raises:
        ValueError: A score is NaN.
    """
    (score,) = frames.scores
    threshold = meta.calibrations[score].raw(calibrated)
    alone = Processes({})
    settings = MeasureSettings(thresholds={score: threshold}, label_map=frames.label_map)
    evaluation = evaluate_frames(frames, settings, alone)
    row = result_row(evaluation, score, origin)
    write_evaluation(out, [row], evaluation, draw_pictures(frames, evaluation, alone, out))
    return row
