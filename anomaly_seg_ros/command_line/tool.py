"""Tools beside the verbs, each run by `python -m`: one parser and one ending for all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import shlex
import sys
from typing import NoReturn

from .errors import say, say_error
from .parser import Parser


class ToolError(RuntimeError):
    """What a process that a tool started could not do."""


def tool_name() -> str:
    """Gives what runs as it is typed, such as 'python -m training.bench.node'."""
    spec = sys.modules['__main__'].__spec__
    return f'python -m {spec.name.removesuffix(".__main__")}' if spec else Path(sys.argv[0]).name


def typed_tool() -> str:
    """Gives the running command as it was typed."""
    return f'{tool_name()} {shlex.join(sys.argv[1:])}'.rstrip()


def tool_parser(doc: str | None) -> Parser:
    """Gives the parser of a tool, whose help is the text at the top of its file."""
    return Parser(prog=tool_name(), description=doc)


def run_tool(main: Callable[[], int]) -> NoReturn:
    """Runs a tool and ends with its status; an error is one line, as of a verb."""
    try:
        status = main()
    except ToolError as error:
        say(tool_name(), str(error))
        status = 1
    except KeyboardInterrupt:
        say(tool_name(), 'stopped by SIGINT')
        status = 1
    except Exception as error:  # noqa: BLE001 - raises what could not be foreseen
        status = say_error(tool_name(), error, None)
    raise SystemExit(status)
