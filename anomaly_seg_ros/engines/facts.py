"""What is known of an engine before its library is loaded; its own file says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_seg_ros.checkpoint.folder import Checkpoint
    from anomaly_seg_ros.prediction import Engine

    from .folder import EngineMeta, ExportRequest

TORCH = {'torch': 'torch==2.13.0', 'safetensors': 'safetensors==0.8.0'}
"""What reads a checkpoint's network, and what installs it."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What is true of an engine on every machine.

    Attributes:
        library: Import name of what runs it.
        install: What `pip install` takes for it.
        to_build: Import name to what `pip install` takes, of all that makes it from a checkpoint
            when a node starts; None where only `export` does that, because it takes minutes.
        precisions: What can be asked for. Of several folders the first here is taken, but int8
            only if asked for, because it costs accuracy.
        exports: Whether `export` writes a folder that `load` reads.
        tied: Whether an export runs only on the device and with the libraries that made it.
        batches: Whether an export is made for fixed batch sizes; else it takes any.
        most_classes: Ids that its labels can hold.
    """

    library: str
    install: str
    precisions: tuple[str, ...]
    to_build: Mapping[str, str] | None = field(default_factory=lambda: TORCH)
    exports: bool = True
    tied: bool = False
    batches: bool = False
    most_classes: int = 255


class EngineModule(Protocol):
    """What each engine's file has; one that does not export has no `export` and no `load`.

    Importing the file imports neither its library nor torch.
    """

    FACTS: EngineFacts

    def versions(self) -> dict[str, str]:
        """Gives the library versions that an export depends on.

        Raises:
            Exception: The library cannot be loaded.
        """
        ...

    def device(self) -> str:
        """Gives the device that it would run on."""
        ...

    def runs(self, precision: str) -> bool:
        """Whether this device can run what was exported for a precision."""
        ...

    def export(self, request: ExportRequest, folder: Path) -> str:
        """Writes the graph into a folder and gives the precision it was made for."""
        ...

    def load(self, folder: Path, meta: EngineMeta, precision: str, threads: int) -> Engine:
        """Loads what `export` wrote."""
        ...

    def build(
        self,
        checkpoint: Checkpoint,
        score: str,
        precision: str,
        input_size: tuple[int, int],
        threads: int,
    ) -> Engine:
        """Makes the engine from a checkpoint, leaving nothing on disk."""
        ...
