"""Brings values that were read from YAML to the types of a configuration's fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly_seg_ros.checkpoint.fields import unfit


def convert(key: str, kind: str, value: Any) -> Any:
    """Brings a value to the type that a dataclass field is annotated with.

    Args:
        key: The field's name, for the error text.
        kind: Its annotation as text: 'bool', 'int', 'float', 'str', 'Path', a tuple of numbers
            ('tuple[float, ...]' for any length), a list, a dict, or two of them with ' | '.
        value: What YAML gave.

    Raises:
        ValueError: The value does not fit; the text names key, value and type.
    """
    first, _, second = kind.partition(' | ')
    if second:
        return convert(key, second if isinstance(value, (list, tuple, dict)) else first, value)
    if kind.startswith('tuple'):
        return _convert_tuple(key, kind, value)
    if kind.startswith('list'):
        if not isinstance(value, (list, tuple)):
            raise unfit(key, value, 'a list')
        return list(value)
    if kind.startswith('dict'):
        return _convert_dict(key, kind, value)
    if kind == 'bool':
        if not isinstance(value, bool):
            raise unfit(key, value, 'true or false')
        return value
    return _convert_scalar(key, kind, value)


def _convert_tuple(key: str, kind: str, value: Any) -> tuple[Any, ...]:
    any_length = '...' in kind
    length = kind.count(',') + 1
    if not isinstance(value, (list, tuple)) or not (any_length or len(value) == length):
        numbers = 'numbers' if any_length else f'{length} numbers'
        raise unfit(key, value, f'a list of {numbers}')
    of = 'float' if 'float' in kind else 'int'
    return tuple(_convert_scalar(key, of, item) for item in value)


def _convert_dict(key: str, kind: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unfit(key, value, 'a mapping')
    of = kind.partition(', ')[2].removesuffix(']')
    if of == 'Any':
        return dict(value)
    return {str(name): convert(f'{key}.{name}', of, item) for name, item in value.items()}


def _convert_scalar(key: str, kind: str, value: Any) -> Any:
    if kind == 'Path':
        return Path(str(value)).expanduser()
    if kind == 'str' and value is None:
        return ''  # `key=` on the command line, and `key:` in a file
    make = {'str': str, 'int': int, 'float': float}[kind]
    wrong = isinstance(value, (list, dict)) or value is None or isinstance(value, bool)
    try:
        if wrong or (kind == 'int' and int(value) != float(value)):
            raise ValueError
        return make(value)
    except (ValueError, TypeError, OverflowError):
        raise unfit(key, value, f'of type {kind}') from None
