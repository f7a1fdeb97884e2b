"""The ROS package: one version, all files installed, executables where ROS looks for them."""

from collections.abc import Iterator
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any
from xml.etree import ElementTree

import pytest
import setuptools

import anomaly_seg_ros
from anomaly_seg_ros.node import topics

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = (
    'anomaly_seg_ros', 'training', 'launch', 'config', 'resource', 'package.xml', 'setup.py',
    'setup.cfg', 'pyproject.toml', 'LICENSE',
)  # fmt: skip
SKIPPED = shutil.ignore_patterns('__pycache__', '*.pyc')


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder.parent))
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


@pytest.fixture
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **given: seen.update(given))
    monkeypatch.chdir(ROOT)
    exec(compile((ROOT / 'setup.py').read_text(), 'setup.py', 'exec'), {'__name__': 'setup'})
    return seen


def test_one_version(manifest: ElementTree.Element, setup_arguments: dict[str, Any]) -> None:
    assert manifest.findtext('version') == anomaly_seg_ros.__version__
    assert setup_arguments['version'] == anomaly_seg_ros.__version__


def test_manifest(manifest: ElementTree.Element) -> None:
    assert manifest.get('format') == '3'
    assert manifest.findtext('name') == topics.PACKAGE
    assert manifest.findtext('license') == 'Apache-2.0'
    assert manifest.findtext('export/build_type') == 'ament_python'
    maintainer = manifest.find('maintainer')
    assert maintainer is not None
    assert re.fullmatch(r'[-\w.]+@[-\w]+(\.[-\w]+)+', maintainer.get('email', ''))


def test_manifest_as_ros_reads_it() -> None:
    package = pytest.importorskip('catkin_pkg.package')
    warnings: list[str] = []
    parsed = package.parse_package(str(ROOT / 'package.xml'), warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == []
    assert parsed.get_build_type() == 'ament_python'


def test_manifest_names_every_ros_package_in_use(manifest: ElementTree.Element) -> None:
    declared = {depend.text for depend in manifest.findall('exec_depend')}
    ours = [*(ROOT / 'anomaly_seg_ros').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]
    pattern = re.compile(
        r'^\s*(?:from|import) (rclpy|launch|launch_ros|\w+_(?:msgs|srvs|interfaces))\b', re.M
    )
    used = {name for path in ours for name in pattern.findall(path.read_text(encoding='utf-8'))}
    assert {'rclpy', 'sensor_msgs', 'launch', 'launch_ros'} <= used
    assert used <= declared
    # rosdep knows torch only as a build that would hide the one for the GPU.
    assert not any('torch' in (name or '') for name in declared)


def test_every_file_of_launch_and_config_is_installed(setup_arguments: dict[str, Any]) -> None:
    installed = dict(setup_arguments['data_files'])
    share = f'share/{topics.PACKAGE}'
    assert installed['share/ament_index/resource_index/packages'] == ['resource/anomaly_seg_ros']
    assert installed[share] == ['package.xml']
    for folder in ('launch', 'config'):
        found = {
            path
            for target, paths in installed.items()
            for path in paths
            if target == f'{share}/{Path(path).parent}' and Path(path).parts[0] == folder
        }
        assert found == files(ROOT / folder)
    assert 'config/requirements/node.txt' in installed[f'{share}/config/requirements']


def test_only_our_packages_and_the_checkpoints(setup_arguments: dict[str, Any]) -> None:
    packages = setup_arguments['packages']
    assert {name.split('.')[0] for name in packages} == {'anomaly_seg_ros', 'training'}
    for top in ('anomaly_seg_ros', 'training'):
        folders = {path.parent for path in (ROOT / top).rglob('*.py')}
        assert {'.'.join(path.relative_to(ROOT).parts) for path in folders} == {
            name for name in packages if name.split('.')[0] == top
        }
    checkpoints = ROOT / 'anomaly_seg_ros' / 'checkpoints'
    assert set(setup_arguments['package_data']['anomaly_seg_ros']) == files(checkpoints)


def test_colcon_runs_the_tests_with_pytest(setup_arguments: dict[str, Any]) -> None:
    assert 'pytest' in setup_arguments['extras_require']['test']
    assert setup_arguments['install_requires'] == ['setuptools']


def test_scripts(setup_arguments: dict[str, Any]) -> None:
    assert setup_arguments['entry_points'] == {
        'console_scripts': [
            'anomaly_seg = anomaly_seg_ros.cli:main',
            'anomaly_seg_node = anomaly_seg_ros.ros.start:main',
        ]
    }


def test_licence_is_apache_2() -> None:
    text = (ROOT / 'LICENSE').read_text(encoding='utf-8')
    assert 'Apache License\n                           Version 2.0, January 2004' in text
    assert 'END OF TERMS AND CONDITIONS' in text


@pytest.fixture(scope='module', params=[(), ('--symlink-install',)], ids=['copy', 'symlink'])
def install(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of the package as colcon installs it from a copy of the tree."""
    for module in ('colcon_core', 'colcon_ros', 'colcon_python_setup_py'):
        pytest.importorskip(module)
    workspace = tmp_path_factory.mktemp('workspace')
    source = workspace / 'src'
    source.mkdir()
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=SKIPPED)
        else:
            shutil.copy2(ROOT / name, source / name)
    result = subprocess.run(
        [sys.executable, '-m', 'colcon', '--log-base', 'log', 'build', *request.param],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace / 'install' / topics.PACKAGE


def sourced(prefix: Path) -> dict[str, str]:
    """The environment after sourcing the workspace, with nothing of this checkout in it."""
    shell = f'. "{prefix.parent}/local_setup.sh" && exec "{sys.executable}" -c "{DUMP}"'
    environ = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'AMENT_PREFIX_PATH')}
    result = subprocess.run(
        ['sh', '-c', shell], cwd=prefix.parent, env=environ, capture_output=True, check=True
    )
    pairs = (line.split('=', 1) for line in result.stdout.decode().split('\0') if '=' in line)
    return dict(pairs)


DUMP = "import os, sys; sys.stdout.write(chr(0).join(f'{k}={v}' for k, v in os.environ.items()))"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_colcon_installs_the_share_files(install: Path) -> None:
    assert (install / 'share/ament_index/resource_index/packages' / topics.PACKAGE).is_file()
    share = install / 'share' / topics.PACKAGE
    assert (share / 'package.xml').is_file()
    for folder in ('launch', 'config'):
        assert {
            str(path) for path in files(ROOT / folder) if not (share / path).is_file()
        } == set()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_installed_command(install: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [install / 'lib' / topics.PACKAGE / 'anomaly_seg', '--version'],
        cwd=tmp_path,
        env=sourced(install),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, f'{anomaly_seg_ros.__version__}\n')


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_installed_package_has_the_checkpoints(install: Path, tmp_path: Path) -> None:
    code = (
        'from pathlib import Path\n'
        'import anomaly_seg_ros\n'
        'from anomaly_seg_ros.node.package_files import config_file\n'
        "print(config_file('fastdds_shm.xml'))\n"
        'root = Path(anomaly_seg_ros.__file__).parent\n'
        "for path in sorted((root / 'checkpoints').rglob('*')):\n"
        '    if path.is_file():\n'
        '        print(path.relative_to(root.parent))\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env=sourced(install),
        capture_output=True,
        text=True,
        check=True,
    )
    config, *found = result.stdout.splitlines()
    assert Path(config) == install / 'share' / topics.PACKAGE / 'config' / 'fastdds_shm.xml'
    checkpoints = files(ROOT / 'anomaly_seg_ros' / 'checkpoints')
    assert set(found) == {f'anomaly_seg_ros/{path}' for path in checkpoints}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A ROS node of this process, in a domain of its own, to look at the graph."""
    rclpy = pytest.importorskip('rclpy')
    from rclpy.signals import SignalHandlerOptions

    monkeypatch.setenv('ROS_DOMAIN_ID', str(61 + os.getpid() % 40))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path))
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('packaging_test', context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.timeout(300)
@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_installed_node(install: Path, graph: Any, tmp_path: Path, stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [
            install / 'lib' / topics.PACKAGE / topics.NODE_EXECUTABLE,
            *('--ros-args', '-p', 'autostart:=false', '-r', '__ns:=/packaging'),
        ],
        cwd=tmp_path,
        env=sourced(install),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        name = (topics.NODE_NAME, '/packaging')
        deadline = time.monotonic() + 30
        while name not in graph.get_node_names_and_namespaces():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, 'the node did not show up'
            time.sleep(0.05)
        process.send_signal(stop)
        output, _ = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
