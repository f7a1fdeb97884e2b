"""An error of any command as one line and a status."""

from __future__ import annotations

from pathlib import Path
import sys

from anomaly_seg_ros.engines.facts import TORCH
from anomaly_seg_ros.process.out_of_memory import is_out_of_memory, OUT_OF_MEMORY_SAID
from anomaly_seg_ros.process.path_errors import explain, is_bad_path

BAG_MODULES = ('rosbags', 'lz4', 'backports')
BAG_PACKAGES = 'rosbags==0.11.9 lz4==4.4.5 backports.zstd==1.8.0'
"""What reads bags. On a vehicle ROS 2 is of apt, and the files of requirements bring another."""
PACKAGES = {
    **dict.fromkeys(BAG_MODULES, BAG_PACKAGES),
    **dict.fromkeys(TORCH, ' '.join(TORCH.values())),
    'cv2': 'opencv-python-headless',
    'yaml': 'PyYAML',
    **{name: name for name in ('numpy', 'openvino', 'tqdm')},
}
"""Import name to what `pip install` takes, of all that runs without training."""
TRAINING_PACKAGES = '-r config/requirements/train.txt'


def say_error(program: str, error: BaseException, out: Path | None) -> int:
    """Says an error in one line and gives its status; raises one that could not be foreseen."""
    if isinstance(error, ModuleNotFoundError):
        name = str(error.name).partition('.')[0]
        way = f'install what it needs: pip install {PACKAGES.get(name, TRAINING_PACKAGES)}'
        if name in ('rclpy', 'ament_index_python') or name.endswith('_msgs'):
            way = 'source the setup file of ROS and that of the workspace'
        say(program, f'{error}; {way}')
        return 2
    if isinstance(error, OSError):
        say(program, explain(error, out))
        return 2 if is_bad_path(error) else 1
    if is_out_of_memory(error):
        say(program, OUT_OF_MEMORY_SAID)
        return 1
    if isinstance(error, (ValueError, ImportError)):
        say(program, str(error))
        return 2
    raise error


def say(program: str, text: str) -> None:
    """Prints one line on stderr."""
    sys.stderr.write(f'{program}: {" ".join(text.split())}\n')
