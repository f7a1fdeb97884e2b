"""Build of the ROS 2 package `anomaly_seg_ros` (ament_python)."""

from pathlib import Path
import re

from setuptools import find_packages, setup

PACKAGE = 'anomaly_seg_ros'


def version() -> str:
    """The version of the package, read without importing it."""
    text = Path(PACKAGE, '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"{PACKAGE}/__init__.py has no line __version__ = '...'")
    return match[1]


def share_files(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below a folder, each with its place below share/anomaly_seg_ros."""
    by_folder: dict[Path, list[str]] = {}
    for path in sorted(Path(folder).rglob('*')):
        if path.is_file() and '__pycache__' not in path.parts:
            by_folder.setdefault(path.parent, []).append(str(path))
    return [(str(Path('share', PACKAGE, at)), files) for at, files in by_folder.items()]


def checkpoint_files() -> list[str]:
    """The files of the shipped checkpoints, one by one: Humble's setuptools knows no `**`."""
    root = Path(PACKAGE)
    paths = sorted((root / 'checkpoints').rglob('*'))
    return [str(path.relative_to(root)) for path in paths if path.is_file()]


setup(
    name=PACKAGE,
    version=version(),
    description='Semantic segmentation with a per-pixel anomaly score for cameras on vehicles.',
    license='Apache-2.0',
    maintainer='anomaly_seg_ros maintainers',
    maintainer_email='maintainers@anomaly-seg-ros.example',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*', 'training', 'training.*']),
    package_data={
        PACKAGE: checkpoint_files(),
        'training.reporting': ['page.html', 'page.css', 'page.js'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *share_files('launch'),
        *share_files('config'),
    ],
    python_requires='>=3.10',
    install_requires=['setuptools'],
    extras_require={'test': ['pytest']},
    zip_safe=False,
    entry_points={
        'console_scripts': [
            f'anomaly_seg = {PACKAGE}.cli:main',
            f'anomaly_seg_node = {PACKAGE}.ros.start:main',
        ]
    },
)
