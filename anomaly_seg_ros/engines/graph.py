"""The torch graph that every exported engine is made from."""

from __future__ import annotations

import warnings

import torch
from torch.utils._pytree import tree_unflatten

from .scored_model import ScoredModel


def export_graph(
    scored: ScoredModel, input_size: tuple[int, int], batch_size: int | None = None
) -> torch.export.ExportedProgram:
    """Gives the graph of a scored model.

    Args:
        scored: In evaluation mode, in the spelling of the engine.
        input_size: (height, width) of the images, fixed in the graph.
        batch_size: Number of images, fixed in the graph; None = any number.

    Raises:
        ValueError: The network or score cannot be exported; the text says why.
    """
    # A batch of one would be taken for a fixed size.
    example = torch.zeros(
        batch_size or 2, *input_size, 3, dtype=torch.uint8, device=scored.mean.device
    )
    shapes = ({0: torch.export.Dim('batch')},) if batch_size is None else None
    with torch.no_grad(), warnings.catch_warnings():
        # Of torch about itself; nobody who exports can act on it.
        warnings.simplefilter('ignore', FutureWarning)
        return torch.export.export(scored, (example,), dynamic_shapes=shapes)


def output_names(program: torch.export.ExportedProgram) -> list[str]:
    """Gives the names of a graph's outputs, in the order that they have in it."""
    spec = program.call_spec.out_spec
    assert spec is not None
    return list(tree_unflatten(range(spec.num_leaves), spec))
