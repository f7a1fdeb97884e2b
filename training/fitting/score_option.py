"""An option of a score as users type it."""

from __future__ import annotations

from typing import Any

from anomaly_seg_ros.process.yaml_text import parse_yaml
from anomaly_seg_ros.scores import check_options, expanded


def parse_option(text: str) -> tuple[str, dict[str, Any]]:
    """Reads 'SCORE.KEY=VALUE', the value as YAML; a preset gives the options in it.

    Raises:
        ValueError: Another form, or what the score does not take.

    >>> parse_option('energy.step=4')
    ('energy', {'step': 4})
    """
    name, equals, value = text.partition('=')
    score, dot, key = name.partition('.')
    try:
        if not equals or not dot:
            raise ValueError
        given = {key: parse_yaml(value, 'the value')}
    except ValueError:
        raise ValueError(f'option {text!r} is not of the form score.key=value') from None
    options = expanded(score, given)
    check_options(score, options)
    return score, options
