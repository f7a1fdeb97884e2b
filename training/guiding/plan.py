"""What a run will do, in a few lines before it starts."""

from __future__ import annotations

from collections.abc import Iterator

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from training.datasets import Dataset
from training.loop.class_rows import match_classes
from training.loop.estimate import in_words
from training.recipes.train_config import TrainConfig


def plan(
    config: TrainConfig, train_set: Dataset, val_set: Dataset, seconds: float
) -> Iterator[str]:
    """Gives the lines.

    Args:
        config: The recipe.
        train_set: What is learned.
        val_set: What is validated on.
        seconds: That the whole run will take.
    """
    height, width = config.input_size
    names = train_set.classes.names
    if config.init:
        meta = Checkpoint.open(config.init).meta
        places = match_classes(names, meta.class_names)
        known = [_known(names[i], meta.class_names[place]) for i, place in places.items()]
        new = [name for i, name in enumerate(names) if i not in places]
        yield f'start    {config.init} ({config.model}, {", ".join(meta.trained_on) or "-"})'
        yield f'classes  known: {", ".join(known) or "none"}; new: {", ".join(new) or "none"}'
    else:
        yield f'start    {config.model} from scratch'
        yield f'classes  {", ".join(names)}'
    counts = f'{len(train_set)} to learn from, {len(val_set)} to validate on'
    yield f'frames   {counts}, at {width}x{height}'
    pasted = f'pasted from {config.outliers["root"]}' if config.outliers else (
        'none: the anomaly score gets better with outliers=FOLDER_OF_PHOTOS'
    )  # fmt: skip
    yield f'outliers {pasted}'
    steps = config.epochs * max(len(train_set) // config.batch_size, 1)
    early = ', or less: it ends where validation gets no better' if config.patience else ''
    yield (
        f'run      {steps} steps of {config.batch_size} crops in {config.epochs} epochs: '
        f'{in_words(seconds)}{early}; Ctrl-C stops it, --resume goes on'
    )


def _known(ours: str, theirs: str) -> str:
    return ours if ours == theirs else f'{ours} (as {theirs})'
