"""Public start weights of an encoder: where they are installed, and what their images were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PublicEncoder:
    """Weights that a package brings; nothing of it is imported, and nothing downloaded.

    Attributes:
        package: Its name and version for pip.
        module: Folder that it installs.
        file: Of the weights, below that folder.
        mean_std: Mean and std that the images were normalised with.
        surplus: Beginnings of the keys of layers behind the encoder, which are left out.
        prefix: Name of the encoder in the network.
    """

    package: str
    module: str
    file: str
    mean_std: tuple[tuple[float, float, float], tuple[float, float, float]]
    surplus: tuple[str, ...] = ()
    prefix: str = 'encoder'

    def encoder_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gives the weights of a file without those of layers behind the encoder."""
        return {key: w for key, w in weights.items() if not key.startswith(self.surplus)}
