"""Reads YAML that people write: what is wrong with it is one line."""

from __future__ import annotations

from typing import Any

import yaml


def parse_yaml(text: str | bytes, source: str) -> Any:
    """Gives what a YAML text says.

    Args:
        text: As bytes of a file YAML knows UTF-16 too, as Windows writes it, by its first two.
        source: What to call it in errors.

    Raises:
        ValueError: It is no YAML, or no text.
    """
    try:
        return yaml.safe_load(text)
    except yaml.reader.ReaderError as error:
        raise ValueError(
            f'{source} is no text in UTF-8 ({error.reason}); save it as UTF-8'
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{source} is not valid YAML: {reason}') from None
