"""One line of what was found, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GOOD, DOUBTFUL, BAD = 'good', 'doubtful', 'bad'


class Observation(NamedTuple):
    """What was found of one thing.

    Attributes:
        what: Its name.
        text: What was found.
        state: `GOOD`, `DOUBTFUL` (it works, and something will be missed) or `BAD`.
        next_step: What to do; '' where nothing is.
    """

    what: str
    text: str
    state: str = GOOD
    next_step: str = ''

    def __str__(self) -> str:
        return f'{self.state:8}  {self.what:11}  {self.text}'


def verdict(findings: Sequence[Observation]) -> str:
    """Gives one line: whether the node can do its work here, and what to do first.

    >>> verdict([Observation('engine', 'none', BAD, 'pip install openvino')])
    'not ready: engine: none; next: pip install openvino'
    """
    for state, word in ((BAD, 'not ready'), (DOUBTFUL, 'ready, but')):
        for finding in findings:
            if finding.state == state:
                step = f'; next: {finding.next_step}' if finding.next_step else ''
                return f'{word}: {finding.what}: {finding.text}{step}'
    steps = [finding.next_step for finding in findings if finding.next_step]
    return f'ready: {steps[0] if steps else "start the node"}'
