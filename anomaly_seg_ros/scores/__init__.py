"""The anomaly scores, by public name; each is one formula over `ModelOutput`.

Every score is higher where the pixel is more anomalous, computed in float32, and raw: its range
is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import inspect
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.registry import check_name, lookup, read_fact

if TYPE_CHECKING:
    from torch import Tensor

    from .score import AnomalyScore

SCORES = {
    'cdnp': 'anomaly_seg_ros.scores.cdnp:CDNP',
    'dense_hybrid': 'anomaly_seg_ros.scores.dense_hybrid:DenseHybrid',
    'dense_hybrid_odds': 'anomaly_seg_ros.scores.dense_hybrid_odds:DenseHybridOdds',
    'dnp': 'anomaly_seg_ros.scores.dnp:DNP',
    'eam': 'anomaly_seg_ros.scores.eam:EAM',
    'energy': 'anomaly_seg_ros.scores.energy:Energy',
    'entropy': 'anomaly_seg_ros.scores.entropy:Entropy',
    'mahalanobis': 'anomaly_seg_ros.scores.mahalanobis:Mahalanobis',
    'margin': 'anomaly_seg_ros.scores.margin:Margin',
    'mask2anomaly': 'anomaly_seg_ros.scores.mask2anomaly:Mask2Anomaly',
    'mask_msp': 'anomaly_seg_ros.scores.mask_msp:MaskMSP',
    'max_logit': 'anomaly_seg_ros.scores.max_logit:MaxLogit',
    'msp': 'anomaly_seg_ros.scores.msp:MSP',
    'neco': 'anomaly_seg_ros.scores.neco:NECO',
    'nflow_js': 'anomaly_seg_ros.scores.nflow_js:NFlowJS',
    'ood_posterior': 'anomaly_seg_ros.scores.ood_posterior:OODPosterior',
    'rba': 'anomaly_seg_ros.scores.rba:RbA',
    'reconstruction_error': 'anomaly_seg_ros.scores.reconstruction_error:ReconstructionError',
    'sml': 'anomaly_seg_ros.scores.sml:SML',
    'uno': 'anomaly_seg_ros.scores.uno:UNO',
    'void': 'anomaly_seg_ros.scores.void:Void',
}

PRESET = 'preset'
"""Option of scores that have presets: the name of one stands for the options in it."""

STEP = 'step'
STEPS = (1, 2, 4, 8)
"""Values of the option `step` of coarse scores: pixels between two values; 1 computes all."""


def score_class(name: str) -> type[AnomalyScore]:
    """Gives the class of a score, which says what it needs and how it is fitted.

    Raises:
        ValueError: Unknown score; the text lists those that are.
    """
    kind: type[AnomalyScore] = lookup('score', SCORES, name)
    return kind


def is_tempered(name: str) -> bool:
    """Whether a score changes with the temperature of its checkpoint; needs no torch.

    Raises:
        ValueError: Unknown score; the text lists those that are.
    """
    return bool(read_fact('score', SCORES, name, 'tempered', False))


def has_statistics(name: str) -> bool:
    """Whether a score is fitted on training frames; needs no torch.

    Raises:
        ValueError: Unknown score; the text lists those that are.
    """
    return bool(read_fact('score', SCORES, name, 'statistics', ()))


def build_score(
    name: str,
    model_name: str,
    provides: Iterable[str],
    temperature: float = 1.0,
    statistics: Mapping[str, Tensor] | None = None,
    options: Mapping[str, Any] | None = None,
) -> AnomalyScore:
    """Gives a score that fits a network.

    Args:
        name: A key of `SCORES`.
        model_name: The network's name, for the error text.
        provides: The fields of `ModelOutput` that the network fills.
        temperature: Divides the logits of tempered scores.
        statistics: What `fit_score` has fitted.
        options: Other keyword arguments of the score; `step`, one of `STEPS`, makes a
            `CoarseScore` of one that may be.

    Raises:
        ValueError: Unknown score or option, the network lacks a field that the score needs, or
            the score has no statistics, or such as do not fit.
    """
    score = score_class(name)
    check_needs(name, model_name, provides)
    if score.statistics and not statistics:
        raise ValueError(
            f'score {name!r} has no statistics; run fit_score on the checkpoint first'
        )
    if statistics and statistics.keys() != set(score.statistics):
        raise ValueError(
            f'the checkpoint holds {", ".join(sorted(statistics))} for score {name!r}; '
            'run fit_score again'
        )
    check_options(name, options or {})
    tempered = {'temperature': temperature} if score.tempered else {}
    fitted = fit_parameters(name)
    taken = inspect.signature(score).parameters
    own = {k: v for k, v in (options or {}).items() if k in taken or k not in fitted}
    step = own.pop(STEP, 1)
    built = score(**tempered, **(statistics or {}), **own)
    if step == 1:
        return built
    from .parts.coarse import CoarseScore

    return CoarseScore(built, step)


def check_needs(name: str, model_name: str, provides: Iterable[str]) -> None:
    """Checks that a network gives what a score reads.

    Args:
        name: A key of `SCORES`.
        model_name: The network's name, for the error text.
        provides: The fields of `ModelOutput` that the network fills.

    Raises:
        ValueError: Unknown score, or it does not; the text names those that it can serve.
    """
    score, given = score_class(name), set(provides)
    needs = score.reads(given)
    if needs - given:
        others = [other for other in sorted(SCORES) if score_class(other).reads(given) <= given]
        raise ValueError(
            f'score {name!r} needs {", ".join(sorted(needs))}; '
            f'model {model_name!r} gives {", ".join(sorted(given))}; '
            f'choose one of: {", ".join(others)}'
        )


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Checks the options that a user gives a score.

    Raises:
        ValueError: Unknown score, an option that it does not take, or a value of another type.
    """
    score = score_class(name)
    fixed = {*score.statistics, *({'temperature'} if score.tempered else ())}
    parameters = {**inspect.signature(score).parameters, **fit_parameters(name)}
    fixed |= {key for key, p in parameters.items() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    valid = {key: p.default for key, p in parameters.items() if key not in fixed}
    if score.coarse:
        valid[STEP] = 1
    for key, value in options.items():
        if key not in valid:
            raise ValueError(
                f'unknown option {key!r} of score {name!r}; it takes: '
                f'{", ".join(sorted(valid)) or "none"}'
            )
        usual = valid[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # JSON and YAML know no tuples.
        alike = isinstance(value, (list, tuple) if isinstance(usual, tuple) else type(usual))
        alike &= isinstance(value, bool) == isinstance(usual, bool)
        if not alike and not (isinstance(usual, float) and number):
            like = list(usual) or [2, 3] if isinstance(usual, tuple) else usual
            raise ValueError(
                f'option {key!r} of score {name!r} is {value!r}; it must be like {like!r}'
            )
        if key == STEP and value not in STEPS:
            raise ValueError(
                f'option {key!r} of score {name!r} is {value}; it must be one of {STEPS}'
            )
        if type(usual) is int and usual > 0 and value < 1:
            raise ValueError(f'option {key!r} of score {name!r} is {value}; it must be 1 or more')


def fit_parameters(name: str) -> dict[str, inspect.Parameter]:
    """Gives the options that `fit_score` takes for the statistics of a score, by name."""
    fit = score_class(name).fit
    found = inspect.signature(fit).parameters if fit else {}
    return {key: p for key, p in found.items() if key not in ('classes', 'class_names')}


def expanded(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Gives options with those of a preset in its place.

    Raises:
        ValueError: The score has no such preset.
    """
    presets = score_class(name).presets
    if PRESET not in options or not presets:
        return dict(options)
    check_name(f'preset of score {name!r}', presets, str(options[PRESET]))
    rest = {key: value for key, value in options.items() if key != PRESET}
    return {**presets[str(options[PRESET])], **rest}
