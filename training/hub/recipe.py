"""Puts the network of `model: hf:FOLDER_OR_REPO` into a recipe, which then needs no folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facts import read_facts
from .source import find_folder, PREFIX

MODEL = 'hf'
"""Key of `MODELS`."""


def fill_in_network(
    values: Mapping[str, Any], stored: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Gives a recipe's values with `model` and its configuration in place of `hf:...`.

    Where the recipe names none, normalisation and size are those of the folder too.

    Args:
        values: As `read_recipe` gives them.
        stored: Values of the run that is resumed: the folder is not looked at again.

    Raises:
        FileNotFoundError: There is no such folder, or no configuration in it.
        ImportError: A repository is wanted, and `transformers` is not installed.
        ValueError: The configuration is of another task, or the repository cannot be fetched.
    """
    model = str(values.get('model', ''))
    if not model.startswith(PREFIX):
        return dict(values)
    if stored is not None:
        found = {key: stored[key] for key in ('mean', 'std', 'input_size') if key in stored}
        own = {'model': stored['model'], 'model_options': stored['model_options']}
        return found | dict(values) | own
    facts = read_facts(find_folder(model, weights=False))
    found = {
        'mean': list(facts.mean),
        'std': list(facts.std),
        'input_size': list(facts.input_size),
    }
    options = {**(values.get('model_options') or {}), 'config': facts.config}
    return found | dict(values) | {'model': MODEL, 'model_options': options}
