"""Finds the folder that `hf:FOLDER_OR_REPO` means, or fetches a repository of the hub."""

from __future__ import annotations

import logging
from pathlib import Path
import re
import sys

PREFIX = 'hf:'
"""Before a folder or a repository where a network's name is expected."""

REPOSITORY = re.compile(r'[\w-][\w.-]*/[\w-][\w.-]*')
TEXTS = ('config.json', 'preprocessor_config.json', 'processor_config.json')
SAFE = ('*.safetensors', '*.safetensors.index.json')
PICKLED = ('pytorch_model*.bin', 'pytorch_model*.bin.index.json')


def find_folder(place: str, weights: bool) -> Path:
    """Gives the folder of a network.

    Args:
        place: A folder, or the id of a repository; with the prefix or without.
        weights: Whether its weights are wanted too.

    Raises:
        FileNotFoundError: There is no such folder, and it is no id of a repository.
        ImportError: A repository, and `transformers` is not installed.
        ValueError: The repository cannot be fetched; the text says why.
    """
    name = place.removeprefix(PREFIX)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder
    if not REPOSITORY.fullmatch(name):
        raise FileNotFoundError(
            f'no folder {name!r}, and it is no repository either, which is OWNER/NAME; give a '
            'folder that save_pretrained wrote'
        )
    return fetch(name, weights)


def fetch(repository: str, weights: bool) -> Path:
    """Gives the folder of a repository in the hub's cache, with a progress bar while it comes.

    Raises:
        ImportError: `transformers` is not installed.
        ValueError: It cannot be fetched; the text says why.
    """
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise ImportError(
            f'fetching {repository!r} needs: pip install -r config/requirements/train.txt'
        ) from error
    if not sys.stderr.isatty():
        disable_progress_bars()
    # It warns of each pattern that no file fits.
    logging.getLogger('huggingface_hub').setLevel(logging.ERROR)
    hub = constants.ENDPOINT.partition('://')[2]
    try:
        patterns = [*TEXTS, *SAFE] if weights else [*TEXTS]
        folder = Path(snapshot_download(repository, allow_patterns=patterns))
        if weights and not any(folder.glob('*.safetensors')):
            snapshot_download(repository, allow_patterns=[*TEXTS, *PICKLED])
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f'cannot fetch {repository!r}: {hub} does not answer; where there is no '
            'network, copy the files here and give hf:FOLDER'
        ) from error
    except RepositoryNotFoundError as error:
        # Gated ones too: the hub says of either no more than that it is not for all.
        raise ValueError(
            f'{hub} has no repository {repository!r} that everybody may read; check the name, or '
            'log in to one that is private or gated: hf auth login, or HF_TOKEN in the environment'
        ) from error
    except Exception as error:
        # Whatever the connection, the hub and the disk have to say.
        line = ' '.join(str(error).split())[:160]
        raise ValueError(
            f'cannot fetch {repository!r} from {hub}: {type(error).__name__}: {line}; '
            'where there is no network, copy the files here and give hf:FOLDER'
        ) from error
    if not (folder / TEXTS[0]).is_file():
        raise ValueError(
            f'repository {repository!r} of {hub} has no {TEXTS[0]}: none of a network of '
            'transformers'
        )
    return folder
