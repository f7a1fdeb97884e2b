"""What tells a consumer the meaning of ids, scores and masks: JSON, and fields of LabelInfo."""

from __future__ import annotations

from dataclasses import asdict
import json
from typing import Any

from anomaly_seg_ros.calibration import level_shares
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import dynamic_ids, IGNORE
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.prediction import Engine

from .config import MEAN, NodeConfig
from .regions import CLASS_ID

SCHEMA = 1


def label_info(
    checkpoint: Checkpoint, engine: Engine, threshold: float, config: NodeConfig
) -> dict[str, Any]:
    """Gives plain values for JSON.

    Args:
        checkpoint: What the node runs.
        engine: That runs it.
        threshold: Calibrated score at or above which a pixel is anomalous.
        config: The node's parameters, for how the score is encoded.
    """
    meta = checkpoint.meta
    calibration = meta.calibrations[engine.score_name]
    on = meta.calibrated_on.get(engine.score_name)
    mono8 = config.score_encoding == 'mono8'
    return {
        'schema': SCHEMA,
        'classes': [
            {'id': index, 'name': name, 'color': list(color)}
            for index, (name, color) in enumerate(
                zip(meta.class_names, meta.class_colors, strict=True)
            )
        ],
        'unlabelled_id': IGNORE,
        'anomaly_id': len(meta.class_names),
        'dynamic_ids': list(dynamic_ids(meta.class_names, meta.dynamic_classes)),
        'score': {
            'name': engine.score_name,
            'higher_is': 'more anomalous',
            'encoding': config.score_encoding,
            'scale': config.score_scale,
            'value': 'pixel / 255' if mono8 else 'pixel',
            'calibrated_meaning': 'share of normal pixels that score lower, 0..1',
            'threshold': threshold,
            'false_positive_rate': round(1 - threshold, 6),
            'calibrated_on': None if on is None else asdict(on),
            'calibration': {
                'shares': [
                    round(float(share), 6) for share in level_shares(len(calibration.levels))
                ],
                'raw_scores': list(calibration.levels),
            },
        },
        'frame_score': asdict(meta.frame) if meta.frame and config.frame_score != MEAN else None,
        'model': {
            'name': meta.model,
            'weights_sha256': checkpoint.weights_sha256,
            'trained_on': list(meta.trained_on),
        },
        'engine': {
            'name': engine.name,
            'key': checkpoint.score_key(engine.score_name),
            'precision': engine.precision,
            'input_size': list(engine.input_size),
            'description': engine.description,
        },
    }


def label_info_fields(meta: CheckpointMeta, threshold: float) -> dict[str, Any]:
    """Gives the fields of a `vision_msgs/LabelInfo`: the classes and, behind them, `anomaly`."""
    names = (*meta.class_names, CLASS_ID)
    return {
        'class_map': [{'class_id': i, 'class_name': name} for i, name in enumerate(names)],
        'threshold': threshold,
    }


def latched_contents(
    checkpoint: Checkpoint, engine: Engine, threshold: float, config: NodeConfig
) -> dict[str, Any]:
    """Gives topic to content of all of `LATCHED`; arguments as of `label_info`."""
    return {
        topics.LABEL_INFO: label_info_fields(checkpoint.meta, threshold),
        topics.LABEL_INFO_JSON: json.dumps(label_info(checkpoint, engine, threshold, config)),
    }
