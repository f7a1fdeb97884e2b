"""The files of `config/`, wherever the package was installed."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path
import sys

from . import topics

SHM_PROFILE = 'fastdds_shm.xml'
PARAMS_FILE = 'node.yaml'
RVIZ_FILE = 'anomaly_seg.rviz'
FOXGLOVE_FILE = 'foxglove_layout.json'


def config_file(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A file of `config/`: as the ament index has it, else beside the source, else as pip put it.

    Reads the index by its layout, because `ament_index_python` is a part of ROS.

    Raises:
        FileNotFoundError: No such file; names every place that was searched.
    """
    folders = [
        Path(prefix, 'share', topics.PACKAGE, 'config')
        for prefix in environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
        if Path(
            prefix, 'share', 'ament_index', 'resource_index', 'packages', topics.PACKAGE
        ).is_file()
    ]
    folders.append(Path(__file__).resolve().parents[2] / 'config')
    folders.append(Path(sys.prefix, 'share', topics.PACKAGE, 'config'))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    searched = ', '.join(f"'{folder}'" for folder in folders)
    raise FileNotFoundError(
        f"no config file '{name}' in {searched}; build the package with colcon and source "
        f'install/setup.bash'
    )
