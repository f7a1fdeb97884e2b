"""The launch files: on recorders in place of launch, and on launch itself where it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import importlib.util
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from anomaly_seg_ros.node import launch_support, middleware_profile, topics
from anomaly_seg_ros.node.launch_files import LAUNCH_FILES

ROOT = Path(__file__).resolve().parent.parent
FILES = LAUNCH_FILES
FUNCTIONS = {
    'anomaly_seg.launch.py': 'start_node',
    'dds.launch.py': 'set_variables',
    'multi_camera.launch.py': 'start_nodes',
    'replay.launch.py': 'replay',
    'rviz.launch.py': 'start_rviz',
}
PARAMS = str(ROOT / 'config' / 'node.yaml')
RECORDED = (
    'launch', 'launch.actions', 'launch.conditions', 'launch.event_handlers', 'launch.events',
    'launch.events.process', 'launch.launch_description_sources', 'launch.substitutions',
    'launch_ros', 'launch_ros.actions',
    'launch_ros.parameter_descriptions', 'launch_ros.substitutions',
)  # fmt: skip
Start = Callable[..., list[Any]]


class Record:
    """Stands for any class of launch: keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kind = type(self).__name__
        self.args = args
        self.kwargs = kwargs

    def perform(self, context: Context) -> str:
        return context.launch_configurations[self.args[0]]


class Context:
    """Stands for launch's own: what has a value, and what the user gave."""

    def __init__(self, values: dict[str, str], *argv: str) -> None:
        self.launch_configurations, self.argv = values, argv
        self.is_shutdown = False


class Recorder(ModuleType):
    def __getattr__(self, name: str) -> type[Record]:
        if name.startswith('_'):
            raise AttributeError(name)
        return type(name, (Record,), {})


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.split('.')[0], ROOT / 'launch' / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def walk(thing: Any) -> Iterator[Record]:
    """Every record in and below a thing."""
    if isinstance(thing, Record):
        yield thing
        thing = [*thing.args, *thing.kwargs.values()]
    if isinstance(thing, list | tuple):
        for part in thing:
            yield from walk(part)


def of_kind(thing: Any, kind: str) -> list[Record]:
    return [record for record in walk(thing) if record.kind == kind]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RECORDED:
        monkeypatch.setitem(sys.modules, name, Recorder(name))
    for name in (middleware_profile.OLD_PROFILE_VARIABLE, middleware_profile.PROFILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(recorded: None) -> Start:
    """Runs the function that a launch file hands to launch; gives what it starts."""

    def start(name: str, *argv: str, **given: str) -> list[Any]:
        values = {argument.name: argument.default for argument in FILES[name]}
        values |= {'params_file': PARAMS, 'shm_profile': 'off', 'bag': str(ROOT)} | given
        (function,) = of_kind(load(name).generate_launch_description(), 'OpaqueFunction')
        return function.kwargs['function'](Context(values, *argv))

    return start


def test_every_launch_file_is_tested() -> None:
    assert {path.name for path in (ROOT / 'launch').iterdir() if path.is_file()} == set(FILES)


@pytest.mark.parametrize('name', FILES)
def test_arguments_are_those_of_the_table(recorded: None, name: str) -> None:
    declared = of_kind(load(name).generate_launch_description(), 'DeclareLaunchArgument')
    assert [record.args[0] for record in declared] == [row.name for row in FILES[name]]
    for record, row in zip(declared, FILES[name], strict=True):
        assert record.kwargs['description'] == row.help
        assert record.kwargs['choices'] == (row.choices or None)
        if row.name != 'params_file':
            assert record.kwargs['default_value'] == row.default


def test_named_files_exist(recorded: None) -> None:
    description = load('anomaly_seg.launch.py').generate_launch_description()
    paths = [record.args[0] for record in of_kind(description, 'PathJoinSubstitution')]
    assert {path[0].args for path in paths} == {(topics.PACKAGE,)}
    assert {'/'.join(path[1:]) for path in paths} == {'config/node.yaml', 'launch/rviz.launch.py'}
    assert all((ROOT / '/'.join(path[1:])).is_file() for path in paths)


def test_rviz_is_included_on_request_with_its_arguments(recorded: None) -> None:
    description = load('anomaly_seg.launch.py').generate_launch_description()
    (include,) = of_kind(description, 'IncludeLaunchDescription')
    handed = [name for name, _ in include.kwargs['launch_arguments']]
    assert handed == [row.name for row in launch_support.RVIZ_ARGUMENTS]
    (condition,) = of_kind(include, 'IfCondition')
    assert condition.args[0].args == ('rviz',)


def test_node_by_default(start: Start) -> None:
    watch, node = start('anomaly_seg.launch.py')
    assert (watch.kind, node.kind) == ('RegisterEventHandler', 'Node')
    assert watch.args[0].kwargs['target_action'] is node
    assert (node.kwargs['respawn'], node.kwargs['respawn_delay']) == (True, 5.0)
    assert node.kwargs['package'] == topics.PACKAGE
    scripts = (ROOT / 'setup.py').read_text(encoding='utf-8')
    assert re.search(rf"'{node.kwargs['executable']} = ", scripts)
    assert (node.kwargs['name'], node.kwargs['namespace']) == ('anomaly_seg', '')
    assert node.kwargs['parameters'] == [PARAMS]
    assert node.kwargs['remappings'] == [], 'the names are those of the node'
    assert node.kwargs['ros_arguments'] == ['--log-level', 'anomaly_seg:=info']
    assert node.kwargs['additional_env'] == {}


def test_node_with_what_the_user_set(start: Start) -> None:
    (node,) = start(
        'anomaly_seg.launch.py',
        namespace='camera/front',
        image_topic='/cam/image_raw',
        checkpoint='123',
        autostart='false',
        log_level='debug',
        respawn='false',
    )
    file, overrides = node.kwargs['parameters']
    assert file == PARAMS
    values = {key: (value.args[0], value.kwargs) for key, value in overrides.items()}
    # Without its type launch would read the text 123 as a number.
    assert values == {
        'checkpoint': ('123', {'value_type': str}),
        'autostart': (False, {'value_type': bool}),
    }
    assert node.kwargs['remappings'][0] == ('image', '/cam/image_raw')
    assert node.kwargs['ros_arguments'][1] == 'camera.front.anomaly_seg:=debug'


def test_a_node_that_has_ended_five_times_in_a_minute_is_left(start: Start) -> None:
    watch, node = start('anomaly_seg.launch.py')
    context, look = Context({}), watch.args[0].kwargs['on_exit']
    assert [look(None, context) for _ in range(4)] == [[]] * 4
    context.is_shutdown = True
    assert look(None, context) == []
    context.is_shutdown = False
    said, end = look(None, context)
    assert said.kind == 'LogInfo'
    assert said.kwargs['msg'].startswith('ERROR: the node has ended 5 times within 60 s')
    assert end.kwargs['event'].kind == 'ShutdownProcess'
    assert end.kwargs['event'].kwargs['process_matcher'].args == (node,)


@pytest.mark.parametrize('name', FILES)
def test_arguments_that_mean_nothing(
    name: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = f'{FILES[name][0].name}s'
    monkeypatch.setattr(sys, 'argv', ['ros2', 'launch', topics.PACKAGE, name, f'{wrong}:=/c'])
    with pytest.raises(ValueError, match=f'unknown launch argument .{wrong}.; did you mean'):
        start(name, f'{wrong}:=/c', **{wrong: '/c'})
    monkeypatch.setattr(sys, 'argv', ['ros2', 'launch', 'users_own', 'camera.launch.py'])
    said = start(name, f'{wrong}:=/c', **{wrong: '/c'})[0]
    assert said.kind == 'LogInfo'
    assert f"WARNING: {name} has no argument '{wrong}'; did you mean" in said.kwargs['msg']


def test_node_gets_the_shared_memory_profile(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {middleware_profile.PROFILE_VARIABLE: '/p.xml'}
    choice = middleware_profile.ProfileChoice(variables, '')
    monkeypatch.setattr(middleware_profile, 'profile_environment', lambda *args: choice)
    _, node = start('anomaly_seg.launch.py', shm_profile='auto')
    assert node.kwargs['additional_env'] == variables


def test_a_skipped_profile_is_said_aloud(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = middleware_profile.ProfileChoice({}, 'no room')
    monkeypatch.setattr(middleware_profile, 'profile_environment', lambda *args: choice)
    said, _, node = start('anomaly_seg.launch.py', shm_profile='auto')
    assert (said.kind, node.kind) == ('LogInfo', 'Node')
    assert 'no room' in said.kwargs['msg']


def test_rviz(start: Start) -> None:
    (rviz,) = start('rviz.launch.py', namespace='front', use_sim_time='true')
    assert (rviz.kwargs['package'], rviz.kwargs['executable']) == ('rviz2', 'rviz2')
    flag, config = rviz.kwargs['arguments']
    assert flag == '-d'
    assert (ROOT / '/'.join(config.args[0][1:])).is_file()
    assert rviz.kwargs['parameters'] == [{'use_sim_time': True}]
    assert ('/anomaly_seg/overlay', '/front/anomaly_seg/overlay') in rviz.kwargs['remappings']
    (rviz,) = start('rviz.launch.py', cameras='left,right', image_topic='/{camera}/image_raw')
    assert rviz.kwargs['parameters'] == []  # no parameter of RViz
    assert ('/image', '/left/image_raw') in rviz.kwargs['remappings']


def test_each_camera_has_a_node_in_its_namespace(start: Start) -> None:
    groups = start('multi_camera.launch.py', cameras='front, left', engine='onnx')
    includes = of_kind(groups, 'IncludeLaunchDescription')
    handed = [dict(include.kwargs['launch_arguments']) for include in includes]
    assert [one['namespace'] for one in handed] == ['front', 'left']
    assert [one['image_topic'] for one in handed] == ['/front/image_raw', '/left/image_raw']
    assert {one['engine'] for one in handed} == {'onnx'}
    assert all(set(one) <= {row.name for row in FILES['anomaly_seg.launch.py']} for one in handed)
    for cameras in ('', 'front,front', 'a b'):
        with pytest.raises(ValueError, match='with commas between, as front,left'):
            start('multi_camera.launch.py', cameras=cameras)


def test_cameras_may_share_a_node_and_its_engine(start: Start) -> None:
    given = {'cameras': 'front,left', 'shared_engine': 'true'}
    (include,) = of_kind(start('multi_camera.launch.py', **given), 'IncludeLaunchDescription')
    handed = dict(include.kwargs['launch_arguments'])
    _, node = start('anomaly_seg.launch.py', **handed)
    assert node.kwargs['parameters'][1]['cameras'] == ['front', 'left']
    assert node.kwargs['remappings'] == [
        ('front/image', '/front/image_raw'),
        ('front/camera_info', '/front/camera_info'),
        ('left/image', '/left/image_raw'),
        ('left/camera_info', '/left/camera_info'),
    ]


def test_each_camera_of_a_node_has_a_topic_of_its_own(start: Start) -> None:
    _, node = start('anomaly_seg.launch.py', cameras='front,left')
    assert node.kwargs['remappings'] == [], 'they read front/image and left/image'
    for name in ('image_topic', 'camera_info_topic'):
        with pytest.raises(ValueError, match="'/cam' is one topic for 2 cameras"):
            start('anomaly_seg.launch.py', cameras='front,left', **{name: '/cam'})
    _, node = start('anomaly_seg.launch.py', cameras='front', image_topic='/cam')
    assert node.kwargs['remappings'] == [
        ('front/image', '/cam'),
        ('front/camera_info', '/camera_info'),
    ]


def test_the_calibration_is_looked_for_beside_the_images(start: Start) -> None:
    _, node = start('anomaly_seg.launch.py', image_topic='/front/image_raw')
    assert dict(node.kwargs['remappings'])['camera_info'] == '/front/camera_info'
    given = {'image_topic': '/front/image_raw', 'camera_info_topic': '/of_front'}
    _, node = start('anomaly_seg.launch.py', **given)
    assert dict(node.kwargs['remappings'])['camera_info'] == '/of_front'
    two = {'cameras': 'front,left', 'image_topic': '/{camera}/image_raw'}
    _, node = start('anomaly_seg.launch.py', **two)
    assert dict(node.kwargs['remappings'])['left/camera_info'] == '/left/camera_info'
    two['image_topic'] = '/images/{camera}'
    _, node = start('anomaly_seg.launch.py', **two)
    assert [name for name, _ in node.kwargs['remappings']] == ['front/image', 'left/image']


def test_a_replay_ends_with_its_bag(start: Start, tmp_path: Path) -> None:
    started = start('replay.launch.py', namespace='front', record=str(tmp_path / 'new'))
    group, recorder, watch, player = started
    handed = dict(of_kind(group, 'IncludeLaunchDescription')[0].kwargs['launch_arguments'])
    assert (handed['use_sim_time'], handed['respawn']) == ('true', 'false')
    assert set(handed) <= {row.name for row in FILES['anomaly_seg.launch.py']}
    command = player.kwargs['cmd']
    assert command[:4] == ['ros2', 'bag', 'play', str(ROOT)]
    assert {'--clock', '--delay', '--disable-keyboard-controls'} <= set(command)
    assert watch.args[0].kwargs['target_action'] is player
    assert of_kind(watch, 'Shutdown')
    recorded = recorder.kwargs['cmd']
    assert '/front/anomaly_seg/semantic_mask' in recorded
    assert '/front/anomaly_seg/overlay' not in recorded
    assert len(start('replay.launch.py')) == 3
    for wrong, words in (({'bag': ''}, 'add bag:=FOLDER'), ({'bag': '/no'}, "no bag '/no'")):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            start('replay.launch.py', **wrong)
    with pytest.raises(ValueError, match='is there already; choose another folder for record'):
        start('replay.launch.py', record=str(tmp_path))


def test_what_is_started_behind_dds_launch_sends_large_frames(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {middleware_profile.PROFILE_VARIABLE: '/p.xml'}
    choice = middleware_profile.ProfileChoice(variables, 'no room')
    monkeypatch.setattr(middleware_profile, 'profile_environment', lambda *args: choice)
    monkeypatch.setenv('MALLOC_TOP_PAD_', '5')
    said, *settings = start('dds.launch.py', shm_profile='auto')
    assert 'no room' in said.kwargs['msg']
    assert dict(record.args for record in settings) == {
        middleware_profile.PROFILE_VARIABLE: '/p.xml',
        'MALLOC_MMAP_THRESHOLD_': '33554432',
        'MALLOC_TRIM_THRESHOLD_': '268435456',
    }
    assert len(start('dds.launch.py', shm_profile='auto', allocator='false')) == 2


def test_a_parameter_file_that_is_not_there_is_said_at_once(start: Start) -> None:
    with pytest.raises(FileNotFoundError, match=r"file '/no\.yaml'; check params_file"):
        start('anomaly_seg.launch.py', params_file='/no.yaml')


@pytest.mark.ros
@pytest.mark.parametrize('name', FILES)
def test_builds_on_launch_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Their submodules: `launch` alone could be the folder of this repository.
    for module in ('launch.actions', 'launch_ros.actions'):
        pytest.importorskip(module)
    from launch import LaunchContext

    module = load(name)
    declared = module.generate_launch_description().get_launch_arguments()
    assert [argument.name for argument in declared] == [row.name for row in FILES[name]]
    context = LaunchContext()
    context.launch_configurations.update({row.name: row.default for row in FILES[name]})
    context.launch_configurations.update({'params_file': PARAMS, 'bag': str(ROOT)})
    started = getattr(module, FUNCTIONS[name])(context)
    last = {'dds.launch.py': 'SetEnvironmentVariable', 'multi_camera.launch.py': 'GroupAction'}
    last |= {'replay.launch.py': 'ExecuteProcess'}
    assert type(started[-1]).__name__ == last.get(name, 'Node')


def test_launch_itself_gives_up_on_a_process_that_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ('launch.actions', 'launch_ros.actions'):
        pytest.importorskip(module)
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path))
    from launch import LaunchDescription, LaunchService
    from launch.actions import ExecuteProcess

    module = load('anomaly_seg.launch.py')
    starts = tmp_path / 'starts'
    command = ['sh', '-c', f'echo x >> {starts}; exit 1']
    process = ExecuteProcess(cmd=command, respawn=True, respawn_delay=0.05)
    service = LaunchService()
    watch = module.limited(process, module.RespawnLimit())
    service.include_launch_description(LaunchDescription([watch, process]))
    assert service.run() == 0
    assert starts.read_text().count('x') == 5


CODE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [text.split(':=', 1) for text in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)]))
sys.exit(service.run())
"""


@contextmanager
def launched(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The node as launch itself starts it; its words come on `stdout`."""
    for module in ('launch.actions', 'launch_ros.actions'):
        pytest.importorskip(module)
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    if not any(Path(prefix, 'lib', topics.PACKAGE).is_dir() for prefix in prefixes):
        pytest.skip('the package is not in AMENT_PREFIX_PATH; build it with colcon')
    command = [sys.executable, '-c', CODE, str(ROOT / 'launch' / 'anomaly_seg.launch.py')]
    process = subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=os.environ | {'ROS_LOG_DIR': str(folder), 'PYTHONUNBUFFERED': '1'},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """Gives what it says, up to a line with these words."""
    seen = ''
    assert process.stdout is not None
    for line in process.stdout:
        seen += line
        if wanted in line:
            return seen
    pytest.fail(f'{wanted!r} never came: {seen}')


def end(process: subprocess.Popen[str]) -> str:
    """Ends launch as Ctrl-C does, and gives its last words."""
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    return rest


@pytest.mark.slow
@pytest.mark.ros
def test_launch_starts_and_ends_the_node(tmp_path: Path) -> None:
    with launched(tmp_path, 'checkpoint:=/no/such/folder', 'respawn:=false') as process:
        # The node's own first words: that it could not start, and waits.
        output = read_until(process, '[anomaly_seg]') + end(process)
    assert 'process has finished cleanly' in output, output


@pytest.mark.slow
@pytest.mark.ros
def test_launch_starts_a_killed_node_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    namespace = f'namespace:=/t{os.getpid()}'
    for module in ('launch.actions', 'launch_ros.actions'):
        pytest.importorskip(module)
    checkpoint = request.getfixturevalue('exported_checkpoint')
    with launched(
        tmp_path, f'checkpoint:={checkpoint}', namespace, 'respawn_delay:=0.1'
    ) as process:
        output = read_until(process, ': reading ')
        (pid,) = re.findall(r'process started with pid \[(\d+)\]', output)
        os.kill(int(pid), signal.SIGKILL)
        output += read_until(process, ': reading ') + end(process)
    assert 'exit code -9' in output, output
    assert output.count('process started with pid') == 2
    assert 'process has finished cleanly' in output, output
