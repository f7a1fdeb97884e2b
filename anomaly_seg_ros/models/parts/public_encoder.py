"""Public start weights of an encoder: where they are installed, and what their images were."""

from __future__ import annotations

from dataclasses import dataclass


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
