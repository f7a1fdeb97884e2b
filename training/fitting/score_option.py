"""An option of a score as users type it."""

from __future__ import annotations

from typing import Any

import yaml

from anomaly_seg_ros.scores import check_options


def parse_option(text: str) -> tuple[str, dict[str, Any]]:
    """Reads 'SCORE.KEY=VALUE', the value as YAML.

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
        options = {key: yaml.safe_load(value)}
    except (ValueError, yaml.YAMLError):
        raise ValueError(f'option {text!r} is not of the form score.key=value') from None
    check_options(score, options)
    return score, options
