"""Reads YAML that people write: what is wrong with it is one line."""

from __future__ import annotations

from typing import Any

import yaml

MOST_REPEATED = 100_000
"""Values and characters that the aliases of a text may stand for together."""


class _Loader(yaml.SafeLoader):
    """Bounds what aliases and numbers of a few bytes may grow to."""

    def __init__(self, text: str | bytes):
        super().__init__(text)
        self._sizes: dict[yaml.Node, int] = {}
        self._size = self._repeated = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._size
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if not is_alias:
            self._size += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
            self._sizes[node] = self._size - before
            return node
        if node not in self._sizes:
            raise ValueError('an alias stands for what it is a part of')
        self._size += self._sizes[node]
        self._repeated += self._sizes[node]
        if self._repeated > MOST_REPEATED:
            raise ValueError(f'its aliases stand for more than {MOST_REPEATED} values')
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = int(super().construct_yaml_int(node))
        float(value)  # hexadecimal ones may be longer than Python shows
        return value


_Loader.add_constructor('tag:yaml.org,2002:int', _Loader.construct_yaml_int)


def parse_yaml(text: str | bytes, source: str) -> Any:
    """Gives what a YAML text says.

    Args:
        text: As bytes of a file YAML knows UTF-16 too, as Windows writes it, by its first two.
        source: What to call it in errors.

    Raises:
        ValueError: It is no YAML, or no text; a number is beyond float, or aliases stand for more
            than `MOST_REPEATED`.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.reader.ReaderError as error:
        raise ValueError(
            f'{source} is no text in UTF-8 ({error.reason}); save it as UTF-8'
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{source} is not valid YAML: {reason}') from None
    except (ValueError, LookupError, AttributeError, ArithmeticError) as error:
        # A value that is not of the type its tag or form speaks of.
        raise ValueError(f'{source} is not valid YAML: a value cannot be read ({error})') from None
