"""Whether an engine folder fits: what of its key is binding, in one place.

| part of the key | one that is tied to its machine | the others |
| --- | --- | --- |
| score and its key (weights, options, statistics) | the same | the same |
| code of network, score and graph | the same | the same |
| files | as they were written | as they were written |
| size | beside the checkpoint the same; asked for by name: its own | likewise |
| precision | the same, or 'auto' asked | the same, or either side 'auto'; int8 only if asked for |
| library versions | the same | the one here is not older (major.minor) |
| device | the same GPU, capability, driver | any: the graph is compiled where it is loaded |
"""

from __future__ import annotations

from dataclasses import dataclass
import re
from typing import TYPE_CHECKING

from .folder import EngineMeta

if TYPE_CHECKING:
    from .facts import EngineModule


@dataclass(frozen=True, kw_only=True)
class Here:
    """What a folder is held against.

    Attributes:
        key: `score_key` of the checkpoint.
        code: `graph_code` of its network and score.
        score: The score asked for.
        precision: The precision asked for.
        versions: Library name to version on this machine.
        device: This machine, as `EngineMeta.device` says it.
    """

    key: str
    code: str
    score: str
    precision: str
    versions: dict[str, str]
    device: str


def fits_precision(made: str, asked: str) -> bool:
    """Whether an engine made for one precision may serve another that is asked for."""
    if made == 'auto':
        return asked in ('auto', 'fp32', 'bf16')
    return asked in ('auto', made)


def misfit(meta: EngineMeta, here: Here, module: EngineModule) -> str | None:
    """Gives why an engine folder cannot be used here, both values named; None if it can."""
    if meta.score != here.score:
        return (
            f'was exported with score {meta.score!r}, not {here.score!r}; '
            f'ask for {meta.score!r} or export again'
        )
    if not fits_precision(meta.precision, here.precision):
        return f'was exported for precision {meta.precision!r}, not {here.precision!r}'
    if meta.key != here.key:
        return (
            f'was exported from other weights, options or statistics (key {meta.key[:12]}, here '
            f'{here.key[:12]}); run export again'
        )
    if meta.code != here.code:
        return (
            f'was exported by other code of the network or the score ({meta.code[:12]}, here '
            f'{here.code[:12]}); run export again'
        )
    tied = module.FACTS.tied
    for library, made in meta.versions.items():
        found = here.versions.get(library, 'none')
        if found != made if tied else _release(found) < _release(made):
            older = '' if tied else ', which is older'
            return f'was made by {library} {made}, here is {found}{older}; run export again'
    if tied and meta.device != here.device:
        return f'was built on {meta.device!r}, this is {here.device!r}; run export again here'
    if not module.runs(meta.precision):
        return f'was exported for precision {meta.precision!r}, which this device does not have'
    return None


def _release(version: str) -> tuple[int, ...]:
    """Gives the first two numbers of a version.

    >>> _release('2026.4.1-22982-abc'), _release('none')
    ((2026, 4), ())
    """
    found = re.match(r'(\d+)\.(\d+)', version)
    return tuple(map(int, found.groups())) if found else ()
