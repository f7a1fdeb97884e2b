"""The section with the grids of worst and best frames of those who judge whole frames."""

from __future__ import annotations

from collections.abc import Sequence

from training.results import GRID_FILES

from .markup import Markup, tag
from .pictures import picture_cell, PictureStore
from .plots import place
from .runs import Run


def grids_section(runs: Sequence[Run]) -> Markup:
    """Gives the grids of each result folder that has some."""
    store, parts = PictureStore(), []
    for run in runs:
        files = {kind: name for kind, name in GRID_FILES.items() if (run.folder / name).is_file()}
        if not files:
            continue
        row = run.rows[0]
        parts.append(tag('h3', f'{row.name("score")} of {row.name("model")}: {place(row)}'))
        cells = [
            picture_cell(
                f'{kind} frames', f'{kind}: normal above, abnormal below', name, run.folder, store
            )
            for kind, name in files.items()
        ]
        parts.append(tag('figure', tag('div', *cells, class_='row'), class_='frame'))
    return tag('section', tag('h2', 'Whole frames'), *parts, id='grids') if parts else Markup()
