"""The machine without ROS: cores, allocator, libraries, engine, shared memory, middleware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
import logging
from pathlib import Path
import platform
import shutil

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import ENGINES
from anomaly_seg_ros.engines.choice import choose_engine, loaded, Wanted
from anomaly_seg_ros.node import middleware_profile
from anomaly_seg_ros.process.allocator import tune_allocator
from anomaly_seg_ros.process.cores import inference_threads, usable_cores

from .findings import BAD, DOUBTFUL, GOOD, Observation

MIB = 2**20
VARIABLES = (
    'ROS_DISTRO', 'RMW_IMPLEMENTATION', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE',
    'ROS_LOCALHOST_ONLY', middleware_profile.OLD_PROFILE_VARIABLE,
    middleware_profile.PROFILE_VARIABLE,
    'FASTDDS_BUILTIN_TRANSPORTS', 'ZENOH_CONFIG_OVERRIDE', 'ZENOH_SHM_ALLOC_SIZE',
    'ROS_SECURITY_ENABLE',
)  # fmt: skip
"""What decides who hears whom."""


def machine(checkpoint: Checkpoint) -> Iterator[Observation]:
    """Gives what was found, one thing after the other."""
    yield Observation(
        'machine',
        f'{platform.machine()}, {usable_cores()} usable cores ({inference_threads()} for the '
        f'network), Python {platform.python_version()}',
    )
    if tune_allocator():
        yield Observation('allocator', 'glibc keeps freed memory (tune_allocator)')
    else:
        yield Observation(
            'allocator',
            'not glibc: images cost several times as much to receive',
            DOUBTFUL,
            'run on a system with glibc, as Ubuntu',
        )
    yield _torch()
    yield from (_library(name) for name in ENGINES if name != 'torch')
    yield _engine(checkpoint)


def _torch() -> Observation:
    """Torch and the GPU; it is needed to train, to export and for its own engine alone."""
    try:
        version = metadata.version('torch')
    except metadata.PackageNotFoundError:
        return Observation('torch', 'not installed; needed only where no engine was exported')
    try:
        return Observation('torch', f'{version}, on {loaded("torch").device()}')
    except Exception as error:  # noqa: BLE001 - a library may fail in any way when it is loaded
        return Observation('torch', f'{version}, {error}', DOUBTFUL, 'install torch anew')


def _library(name: str) -> Observation:
    try:
        module = loaded(name)
        versions = ', '.join(f'{key} {value}' for key, value in module.versions().items())
        return Observation(name, f'{versions}, on {module.device()}')
    except Exception as error:  # noqa: BLE001 - likewise
        return Observation(name, f'cannot run here: {error}')


def _engine(checkpoint: Checkpoint) -> Observation:
    """What `engine: auto` takes for a checkpoint, with the key that a folder must have."""
    meta = checkpoint.meta
    wanted = Wanted(checkpoint, meta.score, 'auto', meta.input_size)
    log = logging.getLogger('anomaly_seg_ros.engines')
    before = log.level
    log.setLevel(logging.ERROR)  # it is said here
    try:
        choice = choose_engine(wanted)
        key = checkpoint.score_key(meta.score)[:12]
    except (ImportError, FileNotFoundError, ValueError) as error:
        return Observation('engine', str(error), BAD, 'install one of the libraries that it names')
    finally:
        log.setLevel(before)
    text = f'{choice.reason.partition("; not ")[0]}; key {key}'
    if choice.ready is None and choice.engine != 'torch':
        return Observation(
            'engine', text, DOUBTFUL, 'anomaly_seg export once, or each start builds it'
        )
    return Observation('engine', text, DOUBTFUL if choice.warn else GOOD)


def middleware(environ: Mapping[str, str]) -> Iterator[Observation]:
    """Gives what is known of the transport without joining ROS."""
    said = [f'{name}={environ[name]}' for name in VARIABLES if environ.get(name)]
    distro = middleware_profile.ros_distro(environ) or 'no ROS'
    yield Observation('ros', f'{distro}; {", ".join(said) or "no variable of ROS is set"}')
    yield _shared_memory(middleware_profile.SHARED_MEMORY)
    try:
        choice = middleware_profile.shm_profile_environment(environ=environ)
    except (ValueError, FileNotFoundError) as error:
        yield Observation('profile', str(error), BAD, 'mend the profile')
        return
    if choice.warning:
        step = choice.warning.rpartition('; ')[2]
        yield Observation('profile', choice.warning, DOUBTFUL, step)
    elif choice.variables:
        names = ', '.join(choice.variables)
        yield Observation(
            'profile',
            f'{names} not set in this shell; the launch files set it for the node, and the '
            'camera needs it too',
        )
    else:
        yield Observation('profile', 'as you set it')


def _shared_memory(folder: Path) -> Observation:
    if not folder.is_dir():
        return Observation(
            'shm', f"there is no '{folder}'", DOUBTFUL, 'start the container with --ipc=host'
        )
    usage = shutil.disk_usage(folder)
    text = f"'{folder}' has {usage.free // MIB} of {usage.total // MIB} MiB free"
    if usage.free < 2 * (32 * MIB + middleware_profile.SHARED_MEMORY_SPARE):
        return Observation(
            'shm',
            f'{text}; camera and node take 32 MiB each',
            DOUBTFUL,
            'start the container with --shm-size=512m or --ipc=host',
        )
    return Observation('shm', text)
