"""The anomaly scores, by public name; each is one formula over `ModelOutput`.

Every score is higher where the pixel is more anomalous, computed in float32, and raw: its range
is its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TYPE_CHECKING

from anomaly_seg_ros.registry import lookup

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly_seg_ros.model_output import ModelOutput

SCORES = {
    'energy': 'anomaly_seg_ros.scores.energy:Energy',
    'entropy': 'anomaly_seg_ros.scores.entropy:Entropy',
    'max_logit': 'anomaly_seg_ros.scores.max_logit:MaxLogit',
    'msp': 'anomaly_seg_ros.scores.msp:MSP',
    'void': 'anomaly_seg_ros.scores.void:Void',
}

TEMPERED = frozenset({'energy', 'entropy', 'msp'})
"""The scores that change with the checkpoint's temperature."""


class AnomalyScore(Protocol):
    """A torch module from a network's output to one score per pixel.

    Attributes:
        needs: The fields of `ModelOutput` that it reads.
    """

    needs: frozenset[str]

    def __call__(self, output: ModelOutput) -> Tensor:
        """Gives (N, H, W) float32, higher = more anomalous."""
        ...


def build_score(
    name: str, model_name: str, provides: Iterable[str], temperature: float = 1.0
) -> AnomalyScore:
    """Gives a score that fits a network.

    Args:
        name: A key of `SCORES`.
        model_name: The network's name, for the error text.
        provides: The fields of `ModelOutput` that the network fills.
        temperature: Divides the logits of the scores in `TEMPERED`.

    Raises:
        ValueError: Unknown score, or the network lacks a field that the score needs.
    """
    options = {'temperature': temperature} if name in TEMPERED else {}
    score: AnomalyScore = lookup('score', SCORES, name)(**options)
    if score.needs - set(provides):
        raise ValueError(
            f'score {name!r} needs {", ".join(sorted(score.needs))}; '
            f'model {model_name!r} gives {", ".join(sorted(provides))}'
        )
    return score
