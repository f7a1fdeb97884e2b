"""The checkpoint folder: `meta.json` beside `weights.safetensors`, one value, loaded strictly.

Importing this file needs neither torch nor safetensors, so that a robot without torch can read
what it needs to run an exported engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
import hashlib
import json
from pathlib import Path
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.process.whole_file import whole_file

from .arrays import read_arrays
from .digests import digest_weights, file_sha256, WeightsDigest
from .frame_fit import FrameFit
from .meta import CheckpointMeta, read_meta, write_meta
from .weights import load_state, read_stored, read_tensors, write_tensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from anomaly_seg_ros.models.network import Network

WEIGHTS_FILE = 'weights.safetensors'
SCORE_PREFIX = 'score.'
"""Of the keys that scores have in the weights file; no network has such keys."""

FRAME_PREFIX = 'frame.'
"""Likewise of the method that judges whole frames, which is no part of any graph."""
NO_NETWORK = (SCORE_PREFIX, FRAME_PREFIX)

DEFAULT = 'default'
DEFAULT_FOLDER = Path(__file__).parents[1] / 'checkpoints' / 'default'


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose meta data has been read.

    What is written through it gives a new value; the files behind a value must stay as they are.

    Attributes:
        folder: Where it lies.
        meta: What `meta.json` holds.
    """

    folder: Path
    meta: CheckpointMeta

    @classmethod
    def open(cls, name: str | Path) -> Checkpoint:
        """Opens a folder; the word 'default' means the one in the package.

        Raises:
            FileNotFoundError: There is no such folder, or no `meta.json` in it.
            ValueError: Its meta data is not one of ours; the text names the file and what is
                wrong.
        """
        folder = DEFAULT_FOLDER if str(name) == DEFAULT else Path(name).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f'no checkpoint folder {str(folder)!r}; give a folder made by train or '
                f"import_weights, or 'default'"
            )
        return cls(folder, read_meta(folder))

    @cached_property
    def _digest(self) -> WeightsDigest:
        """Hashes of the weights file, which is read only once.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: It is truncated, a git-lfs pointer, not safetensors, or another one than
                the meta data was written for.
        """
        path = self.folder / WEIGHTS_FILE
        if not path.is_file():
            raise FileNotFoundError(f'checkpoint {str(self.folder)!r} has no {WEIGHTS_FILE}')
        digest = digest_weights(path)
        if self.meta.weights_sha256 not in ('', digest.file):
            raise ValueError(
                f'{str(path)!r} has sha256 {digest.file[:12]}..., its meta.json was written for '
                f'{self.meta.weights_sha256[:12]}...; it has been changed or copied in part, so '
                'fetch or make the checkpoint again'
            )
        return digest

    @property
    def weights_sha256(self) -> str:
        """sha256 of the weights file.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: It is not the one that belongs here; see `Checkpoint.network`.
        """
        return self._digest.file

    @cached_property
    def network_key(self) -> str:
        """sha256 of the network's weights and of the meta data that shape its graph.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: It is not the one that belongs here; see `Checkpoint.network`.
        """
        meta = self.meta
        graph = [meta.model, meta.model_options, meta.channels, meta.void_index]
        return _key(
            [*graph, meta.mean, meta.std, meta.gamma],
            {k: v for k, v in self._digest.tensors.items() if not k.startswith(NO_NETWORK)},
        )

    def score_key(self, score: str) -> str:
        """Gives the sha256 of all that the network with a score is made of.

        An engine that was exported from this checkpoint carries the same value.

        Args:
            score: A key of `SCORES`.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: It is not the one that belongs here; see `Checkpoint.network`.
        """
        from anomaly_seg_ros.scores import is_tempered

        prefix = f'{SCORE_PREFIX}{score}.'
        return _key(
            self.network_key,
            score,
            self.meta.score_options.get(score, {}),
            self.meta.temperature if is_tempered(score) else 1.0,
            {k: v for k, v in self._digest.tensors.items() if k.startswith(prefix)},
        )

    @property
    def weight_names(self) -> list[str]:
        """Keys of the network's weights; raises as `network_key`."""
        return [key for key in self._digest.tensors if not key.startswith(NO_NETWORK)]

    def network_weights(self) -> dict[str, Tensor]:
        """Gives the network's weights as float32 tensors on the CPU.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: It is truncated, a git-lfs pointer, not safetensors, not finite, or
                another one than the meta data was written for.
        """
        return read_tensors(self.folder / WEIGHTS_FILE, self.weight_names)

    def statistics(self, score: str) -> dict[str, Tensor]:
        """Gives what `fit_score` stored of a score, by the names of its buffers, or nothing.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: As of `network_weights`, or they were fitted to another network.
        """
        fitted_to = self.meta.fitted_network.get(score, self.network_key)
        if fitted_to != self.network_key:
            raise ValueError(
                f'the statistics of score {score!r} were fitted to network {fitted_to[:12]}, this '
                f'checkpoint has {self.network_key[:12]}; run fit_score again'
            )
        prefix = f'{SCORE_PREFIX}{score}.'
        keys = [key for key in self._digest.tensors if key.startswith(prefix)]
        tensors = read_tensors(self.folder / WEIGHTS_FILE, keys)
        return {key[len(prefix) :]: value for key, value in tensors.items()}

    def frame_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Gives what `fit_score` stored of the method for whole frames; needs no torch.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: As of `network_weights`.
        """
        _ = self._digest  # refuses weights that are not these
        return read_arrays(self.folder / WEIGHTS_FILE, FRAME_PREFIX)

    def network(self) -> Network:
        """Builds the network, in evaluation mode, with its weights.

        Raises:
            FileNotFoundError: No weights file.
            ValueError: Wrong, truncated or foreign content; the text says which.
        """
        from anomaly_seg_ros.models import build_model

        model = build_model(self.meta.model, self.meta.channels, self.meta.model_options)
        load_state(model, self.network_weights(), f'checkpoint {str(self.folder)!r}')
        return model.eval()

    def in_memory(self, meta: CheckpointMeta) -> Checkpoint:
        """Gives the same weights with other meta data; nothing is written or read again."""
        other = Checkpoint(self.folder, meta)
        if '_digest' in self.__dict__:
            other.__dict__['_digest'] = self._digest
        return other

    def of_camera(self, camera: str) -> Checkpoint:
        """Gives the same as one camera has it, by its own calibrations.

        Args:
            camera: As `adapt --camera` called it; '' for those that all have in common.

        Raises:
            ValueError: It has no such camera.
        """
        known = self.meta.cameras
        if camera and camera not in known:
            has = f'it has {", ".join(known)}' if known else 'it has none'
            raise ValueError(f'the checkpoint has no camera {camera!r}; {has}')
        return self.in_memory(self.meta.of_camera(camera))

    def with_meta(self, **changes: Any) -> Checkpoint:
        """Changes fields of the meta data on disk, at once, and gives the result."""
        meta = replace(self.meta, **changes)
        write_meta(self.folder, meta)
        return Checkpoint(self.folder, meta)

    def with_statistics(
        self, statistics: Mapping[str, Mapping[str, Tensor] | None], fitted_on: str
    ) -> Checkpoint:
        """Puts statistics of scores into the folder and gives the result.

        All else in it stays bit for bit.

        Args:
            statistics: Score name to its buffers; None removes those that are there.
            fitted_on: Data set and split.
        """
        replaced = tuple(f'{SCORE_PREFIX}{score}.' for score in statistics)
        kept = [key for key in self._digest.tensors if not key.startswith(replaced)]
        tensors = read_stored(self.folder / WEIGHTS_FILE, kept)
        fitted = {k: on for k, on in self.meta.fitted.items() if k not in statistics}
        networks = {k: v for k, v in self.meta.fitted_network.items() if k not in statistics}
        for score, buffers in statistics.items():
            for key, value in (buffers or {}).items():
                tensors[f'{SCORE_PREFIX}{score}.{key}'] = value
            if buffers:
                fitted[score], networks[score] = fitted_on, self.network_key
        meta = replace(self.meta, fitted=fitted, fitted_network=networks)
        return save_checkpoint(self.folder, meta, tensors)

    def with_frame(
        self, fit: FrameFit | None, arrays: Mapping[str, NDArray[np.float32]]
    ) -> Checkpoint:
        """Puts a method for whole frames into the folder and gives the result.

        All else in it stays bit for bit; what cameras had of another method goes.
        """
        import torch

        kept = [key for key in self._digest.tensors if not key.startswith(FRAME_PREFIX)]
        tensors = read_stored(self.folder / WEIGHTS_FILE, kept)
        for name, values in arrays.items():
            tensors[f'{FRAME_PREFIX}{name}'] = torch.from_numpy(values)
        meta = replace(self.meta, frame=fit, frame_cameras={})
        return save_checkpoint(self.folder, meta, tensors)


def save_checkpoint(
    folder: Path, meta: CheckpointMeta, weights: Mapping[str, Tensor]
) -> Checkpoint:
    """Writes a checkpoint folder; an existing one is replaced file by file, each at once.

    Args:
        folder: Made if missing.
        meta: Meta data; what it says of the sha256 is replaced.
        weights: State dict of the network that `meta` describes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS_FILE) as part:
        write_tensors(part, weights)
        # Without a sum meanwhile: whoever comes between the files may take either weights.
        write_meta(folder, replace(meta, weights_sha256=''))
        sum_of_part = file_sha256(part)
    meta = replace(meta, weights_sha256=sum_of_part)
    write_meta(folder, meta)
    return Checkpoint(folder, meta)


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
