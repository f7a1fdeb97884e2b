"""The decisions behind the launch files, on hand-made environments."""

import doctest
from importlib import metadata
from pathlib import Path
import shutil
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from anomaly_seg_ros.node import launch_support, middleware_profile, topics
from anomaly_seg_ros.node.launch_files import LAUNCH_FILES, record_commands
from anomaly_seg_ros.node.launch_support import (
    logger_name,
    parameter_overrides,
    RVIZ_ARGUMENTS,
    rviz_remappings,
    to_bool,
    to_seconds,
)
from anomaly_seg_ros.node.launch_typos import check_arguments
from anomaly_seg_ros.node.middleware_profile import (
    OLD_PROFILE_VARIABLE,
    profile_environment,
    PROFILE_VARIABLE,
    ros_distro,
    segment_size,
    shm_profile_environment,
)
from anomaly_seg_ros.node.package_files import config_file
from anomaly_seg_ros.node.respawn import RespawnLimit

SOURCE = Path(__file__).resolve().parent.parent / 'config'
PROFILE = SOURCE / 'fastdds_shm.xml'
MIB = 2**20


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(64 * MIB, 0, 64 * MIB))
    return tmp_path


def installed(prefix: Path, *names: str) -> Path:
    """An install prefix as colcon makes it."""
    marker = prefix / 'share/ament_index/resource_index/packages' / topics.PACKAGE
    marker.parent.mkdir(parents=True)
    marker.touch()
    config = prefix / 'share' / topics.PACKAGE / 'config'
    config.mkdir(parents=True)
    for name in names:
        (config / name).touch()
    return config


def test_examples_in_topics() -> None:
    assert doctest.testmod(topics).failed == 0


@pytest.mark.parametrize(
    ('name', 'namespace', 'expected'),
    [
        ('image', '', '/image'),
        ('image', '/', '/image'),
        ('image', '/a/b/', '/a/b/image'),
        ('/cam/image', 'a', '/cam/image'),
        ('~/overlay', '', '/n/overlay'),
        ('~/overlay', 'a/b', '/a/b/n/overlay'),
        ('~', '/a', '/a/n'),
    ],
)
def test_resolve(name: str, namespace: str, expected: str) -> None:
    assert topics.resolve(name, namespace, 'n') == expected


@pytest.mark.ros
@pytest.mark.parametrize('namespace', ['/', '/camera/front'])
@pytest.mark.parametrize('name', ['image', '~/overlay', '/diagnostics'])
def test_resolve_agrees_with_ros(name: str, namespace: str) -> None:
    expand = pytest.importorskip('rclpy.expand_topic_name')
    ours = topics.resolve(name, namespace)
    assert ours == expand.expand_topic_name(name, topics.NODE_NAME, namespace)


def test_config_file_of_the_ament_index_goes_first(tmp_path: Path) -> None:
    config = installed(tmp_path / 'ours', 'node.yaml')
    environ = {'AMENT_PREFIX_PATH': f'{tmp_path}/other:{tmp_path}/ours'}
    assert config_file('node.yaml', environ) == config / 'node.yaml'


def test_config_file_without_marker_is_not_in_the_index(tmp_path: Path) -> None:
    installed(tmp_path, PROFILE.name)
    (tmp_path / 'share/ament_index/resource_index/packages' / topics.PACKAGE).unlink()
    assert config_file(PROFILE.name, {'AMENT_PREFIX_PATH': str(tmp_path)}) == PROFILE


@pytest.mark.parametrize('environ', [{}, {'AMENT_PREFIX_PATH': '/nowhere'}])
def test_config_file_of_the_source_tree(environ: dict[str, str]) -> None:
    assert config_file(PROFILE.name, environ) == PROFILE


def test_config_file_missing_names_the_places(tmp_path: Path) -> None:
    config = installed(tmp_path)
    with pytest.raises(FileNotFoundError, match='colcon') as error:
        config_file('no.yaml', {'AMENT_PREFIX_PATH': str(tmp_path)})
    assert str(config) in str(error.value)
    assert str(SOURCE) in str(error.value)


def test_ros_distro_is_the_sourced_one() -> None:
    assert ros_distro({'ROS_DISTRO': 'Humble'}) == 'humble'


@pytest.mark.parametrize('distro', ['kilted', 'jazzy', ''])
def test_ros_distro_of_the_wheels(monkeypatch: pytest.MonkeyPatch, distro: str) -> None:
    def version(name: str) -> str:
        if name != f'ros-{distro}-rclpy':
            raise metadata.PackageNotFoundError(name)
        return '1'

    monkeypatch.setattr(metadata, 'version', version)
    assert ros_distro({}) == distro


def test_profile_file() -> None:
    root = ElementTree.parse(PROFILE).getroot()
    assert root.tag == '{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}profiles'

    def texts(tag: str) -> list[str | None]:
        return [element.text for element in root.iter(f'{root.tag[:-8]}{tag}')]

    assert texts('type') == ['SHM', 'UDPv4']
    assert texts('useBuiltinTransports') == ['false']
    assert texts('maxInitialPeersRange') == ['32']
    declared, used = texts('transport_id')[:2], texts('transport_id')[2:]
    assert declared == used
    (participant,) = root.iter(f'{root.tag[:-8]}participant')
    assert participant.get('is_default_profile') == 'true'
    assert segment_size(PROFILE) == 32 * MIB


@pytest.mark.parametrize(
    ('distro', 'variables'),
    [
        ('humble', {OLD_PROFILE_VARIABLE}),
        ('jazzy', {OLD_PROFILE_VARIABLE}),
        ('kilted', {PROFILE_VARIABLE}),
        ('rolling', {PROFILE_VARIABLE}),
        ('', {OLD_PROFILE_VARIABLE, PROFILE_VARIABLE}),
    ],
)
def test_profile_variable_by_distro(roomy: Path, distro: str, variables: set[str]) -> None:
    choice = profile_environment(distro, PROFILE, {}, roomy)
    assert choice == (dict.fromkeys(variables, str(PROFILE)), '')


@pytest.mark.parametrize(
    'environ',
    [
        {OLD_PROFILE_VARIABLE: '/mine.xml'},
        {PROFILE_VARIABLE: '/mine.xml'},
        {'FASTDDS_BUILTIN_TRANSPORTS': 'LARGE_DATA'},
        {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'},
    ],
)
def test_what_the_user_set_wins(roomy: Path, environ: dict[str, str]) -> None:
    assert profile_environment('kilted', PROFILE, environ, roomy) == ({}, '')


def test_user_named_fastrtps_gets_the_profile(roomy: Path) -> None:
    environ = {'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}
    assert profile_environment('kilted', PROFILE, environ, roomy).variables


def test_variable_that_the_distro_ignores_is_told(roomy: Path) -> None:
    choice = profile_environment('jazzy', PROFILE, {PROFILE_VARIABLE: '/mine.xml'}, roomy)
    assert choice.variables == {}
    assert '/mine.xml' in choice.warning
    assert OLD_PROFILE_VARIABLE in choice.warning


@pytest.mark.parametrize(('free', 'fits'), [(40 * MIB, True), (40 * MIB - 1, False)])
def test_profile_needs_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, fits: bool
) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(free, 0, free))
    choice = profile_environment('kilted', PROFILE, {}, tmp_path)
    assert bool(choice.variables) == fits
    assert ('--shm-size' in choice.warning) != fits


def test_no_shared_memory_at_all(tmp_path: Path) -> None:
    choice = profile_environment('kilted', PROFILE, {}, tmp_path / 'none')
    assert choice.variables == {}
    assert '0 MiB free' in choice.warning


def test_missing_and_broken_profiles(roomy: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'no\.xml'):
        profile_environment('kilted', roomy / 'no.xml', {}, roomy)
    broken = roomy / 'broken.xml'
    broken.write_text('<profiles>')
    with pytest.raises(ValueError, match=r'broken\.xml'):
        profile_environment('kilted', broken, {}, roomy)
    broken.write_text('<profiles><segment_size>big</segment_size></profiles>')
    with pytest.raises(ValueError, match='big'):
        profile_environment('kilted', broken, {}, roomy)


def test_profile_argument(monkeypatch: pytest.MonkeyPatch, roomy: Path) -> None:
    kilted = {'ROS_DISTRO': 'kilted'}
    monkeypatch.setattr(middleware_profile, 'SHARED_MEMORY', roomy)
    assert shm_profile_environment('off', kilted) == ({}, '')
    assert shm_profile_environment('auto', kilted).variables == {PROFILE_VARIABLE: str(PROFILE)}
    mine = roomy / 'mine.xml'
    mine.write_text('<profiles/>')
    assert shm_profile_environment(str(mine), kilted).variables == {PROFILE_VARIABLE: str(mine)}


def test_paths_are_expanded_and_nothing_else(tmp_path: Path) -> None:
    environ = {'HOME': '/home/me', 'MAPS': str(tmp_path)}
    (tmp_path / 'a.yaml').touch()
    given = {'params_file': '$MAPS/a.yaml', 'checkpoint': '~/c', 'image_topic': '~/x', 'bag': '~'}
    assert launch_support.expanded(given, environ) == {
        'params_file': f'{tmp_path}/a.yaml',
        'checkpoint': '/home/me/c',
        'image_topic': '~/x',
        'bag': '/home/me',
    }
    assert launch_support.expanded({'checkpoint': '~user/a$'}, {}) == {'checkpoint': '~user/a$'}
    with pytest.raises(ValueError, match=r"checkpoint is '\$NO/x', and the variable 'NO' is not"):
        launch_support.expanded({'checkpoint': '$NO/x'}, environ)
    with pytest.raises(FileNotFoundError, match='there is no parameter file'):
        launch_support.expanded({'params_file': '${MAPS}/b.yaml'}, environ)


def test_zenoh_gets_shared_memory_unless_the_user_chose(roomy: Path) -> None:
    environ = {'RMW_IMPLEMENTATION': 'rmw_zenoh_cpp'}
    choice = profile_environment('lyrical', roomy, environ, roomy.parent)
    assert choice.variables['ZENOH_CONFIG_OVERRIDE'] == 'transport/shared_memory/enabled=true'
    size = int(choice.variables['ZENOH_SHM_ALLOC_SIZE'])
    assert size % 4 == 0
    assert size > 4 * 1080 * 1920 * 3
    environ['ZENOH_SHM_ALLOC_SIZE'] = '4194304'
    choice = profile_environment('lyrical', roomy, environ, roomy.parent)
    assert choice.variables['ZENOH_SHM_ALLOC_SIZE'] == '4194304'
    environ['ZENOH_SESSION_CONFIG_URI'] = '/etc/zenoh.json5'
    assert profile_environment('lyrical', roomy, environ, roomy.parent).variables == {}


def test_only_what_the_user_set_overrides() -> None:
    nothing = {argument.name: argument.default for argument in launch_support.NODE_ARGUMENTS}
    assert parameter_overrides(nothing) == {}
    some = nothing | {'checkpoint': '/c', 'autostart': 'false', 'use_sim_time': 'true'}
    assert parameter_overrides(some) == {
        'checkpoint': '/c',
        'autostart': False,
        'use_sim_time': True,
    }


def test_arguments() -> None:
    arguments = launch_support.NODE_ARGUMENTS
    assert [argument.name for argument in arguments] == [
        'namespace', 'node_name', 'image_topic', 'use_sim_time', 'cameras', 'camera_info_topic',
        'params_file', 'checkpoint', 'engine', 'autostart', 'exit_on_failure', 'log_level',
        'respawn', 'respawn_delay', 'shm_profile', 'rviz',
    ]  # fmt: skip
    assert all(argument.help for argument in arguments)
    for argument in arguments:
        assert not argument.choices or argument.default in argument.choices
    engine = next(argument for argument in arguments if argument.name == 'engine')
    assert {'', 'auto', 'openvino', 'torch'} <= set(engine.choices)


FILE = 'anomaly_seg.launch.py'
RUN = ('/opt/ros/bin/ros2', 'launch', 'anomaly_seg_ros', FILE)


@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('param_file:=x', "'param_file'; did you mean 'params_file'"),
        ('threshold:=0.5', "'threshold' is a parameter of the node .* give params_file:=FILE"),
        ('treshold:=0.5', "'treshold'; did you mean 'threshold'. That is a parameter of the node"),
        ('input_transport:=raw', "'input_transport'"),
        ('max_regions:=3', "'max_regions'"),
    ],
)
def test_an_argument_of_the_users_own_command_that_means_nothing(
    argument: str, words: str
) -> None:
    name = argument.partition(':=')[0]
    with pytest.raises(ValueError, match=words):
        check_arguments(FILE, RUN, ['engine:=torch', argument], ['engine', name])


def test_arguments_that_are_right() -> None:
    given = [f'{row.name}:=x' for row in launch_support.NODE_ARGUMENTS] + ['launch-prefix:=x']
    assert check_arguments(FILE, RUN, given, []) == []


def test_an_including_file_may_have_arguments_of_its_own() -> None:
    names = ['params_file', 'robot', 'camera_name', 'image', 'threshold', 'chekpoint']
    given = ['robot:=7', 'threshold:=0.5']
    # multi_camera.launch.py hands its own `image_topics` on.
    names += [row.name for rows in LAUNCH_FILES.values() for row in rows]
    said = check_arguments(FILE, ('ros2', 'launch', 'robot', 'robot.launch.py'), given, names)
    assert said == [f"{FILE} has no argument 'chekpoint'; did you mean 'checkpoint'?"]


def test_respawn_is_given_up_at_the_fifth_end_in_a_minute() -> None:
    now = 0.0
    limit = RespawnLimit(lambda: now)
    for _ in range(10):  # not quite five a minute
        now += 15.5
        assert not limit.ended()
    now += 60.0
    for number in range(5):
        now += 15.0
        assert bool(limit.ended()) == (number == 4)


def test_switches_and_seconds() -> None:
    assert (to_bool('rviz', 'true'), to_bool('rviz', 'False')) == (True, False)
    with pytest.raises(ValueError, match="rviz is 'yes'"):
        to_bool('rviz', 'yes')
    assert to_seconds('respawn_delay', '2') == 2.0
    for text in ('soon', '-1', 'inf', 'nan'):
        with pytest.raises(ValueError, match='respawn_delay'):
            to_seconds('respawn_delay', text)


@pytest.mark.parametrize(
    ('namespace', 'expected'), [('', 'seg'), ('/', 'seg'), ('camera/front', 'camera.front.seg')]
)
def test_logger_name(namespace: str, expected: str) -> None:
    assert logger_name(namespace, 'seg') == expected


def test_a_replay_records_what_the_node_publishes(tmp_path: Path) -> None:
    arguments = {'record': str(tmp_path / 'new'), 'namespace': 'car', 'node_name': 'seg'}
    (command,) = record_commands({**arguments, 'cameras': ''}, 'kilted')
    assert '/car/seg/semantic_mask' in command
    (command,) = record_commands({**arguments, 'cameras': 'front,left'}, 'kilted')
    assert '/car/seg/semantic_mask' not in command
    assert {'/car/seg/front/semantic_mask', '/car/seg/left/regions_json'} < set(command)


def test_rviz_remappings() -> None:
    usual = {argument.name: argument.default for argument in RVIZ_ARGUMENTS}
    assert rviz_remappings(usual) == []
    remapped = dict(
        rviz_remappings({**usual, 'namespace': 'front', 'image_topic': '/cam/image_raw'})
    )
    assert remapped['/image'] == '/cam/image_raw'
    assert remapped['/image/compressed'] == '/cam/image_raw/compressed'
    assert remapped['/anomaly_seg/overlay'] == '/front/anomaly_seg/overlay'
    # Of several cameras the first is shown.
    several = {**usual, 'cameras': 'front,left'}
    assert dict(rviz_remappings(several))['/image'] == '/front/image'
    remapped = dict(rviz_remappings({**several, 'image_topic': '/{camera}/image_raw'}))
    assert remapped['/image'] == '/front/image_raw'
    assert remapped['/anomaly_seg/overlay'] == '/anomaly_seg/front/overlay'
    with pytest.raises(ValueError, match='is one topic for 2 cameras'):
        rviz_remappings({**several, 'image_topic': '/image_raw'})
