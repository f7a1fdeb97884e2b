"""The parser of every command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from anomaly_seg_ros.registry import did_you_mean


class Help(argparse.RawDescriptionHelpFormatter):
    """Says the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ''
        has_one = action.option_strings and action.default not in (None, '', False)
        if has_one and action.default != argparse.SUPPRESS and 'default' not in text:
            return f'{text} (default: %(default)s)'.lstrip()
        return text


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a guess at what was meant."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(prog=prog, description=description, formatter_class=Help)

    def error(self, message: str) -> NoReturn:
        """Ends with status 2."""
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parses arguments in any order, so that `key=value` may also stand behind options."""
        args, surplus = self.parse_known_intermixed_args(argv)
        if surplus:
            hint = did_you_mean(surplus[0].partition('=')[0], self._option_string_actions)
            self.error(f'unknown argument {surplus[0]!r}{hint}')
        return args
