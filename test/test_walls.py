"""The three walls: runtime and training, ROS and the rest, light and heavy modules."""

import ast
from collections.abc import Collection, Mapping
from pathlib import Path
import subprocess
import sys

import pytest

from anomaly_seg_ros.cli import RUNTIME, TRAINING, VERBS
from anomaly_seg_ros.engines import ENGINES
from docs.architecture import imported, rooms

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ('anomaly_seg_ros', 'training')
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob('*.py'))

ROS = {
    'rclpy', 'rcl_interfaces', 'rosgraph_msgs', 'lifecycle_msgs', 'builtin_interfaces',
    'sensor_msgs', 'std_msgs', 'std_srvs', 'geometry_msgs', 'diagnostic_msgs', 'vision_msgs',
    'action_msgs', 'type_description_interfaces', 'unique_identifier_msgs', 'ament_index_python',
    'cv_bridge', 'launch', 'launch_ros', 'ros2cli', 'rosbag2_py', 'tf2_ros', 'message_filters',
    'diagnostic_updater', 'image_transport',
}  # fmt: skip
ABSENT = (
    'vision_msgs', 'cv_bridge', 'launch', 'launch_ros', 'ros2cli', 'rosbag2_py', 'tf2_ros',
    'message_filters', 'diagnostic_updater', 'composition_interfaces', 'image_transport',
    'tensorrt', 'torch_tensorrt', 'onnx', 'onnxruntime', 'transformers',
)  # fmt: skip
"""Not in the environment that PyPI gives: only functions may import them."""
HEAVY = ('torch', 'cv2', 'openvino', 'lightning', *sorted(ROS))
LIGHT = (
    'anomaly_seg_ros', 'anomaly_seg_ros.classes', 'anomaly_seg_ros.cli', 'anomaly_seg_ros.engines',
    'anomaly_seg_ros.engines.choice', *ENGINES.values(),
    'anomaly_seg_ros.models', 'anomaly_seg_ros.node.config', 'anomaly_seg_ros.node.launch_support',
    'anomaly_seg_ros.node.middleware_profile',
    'anomaly_seg_ros.node.outputs', 'anomaly_seg_ros.node.topics', 'anomaly_seg_ros.prediction',
    'anomaly_seg_ros.process.cores', 'anomaly_seg_ros.process.path_errors',
    'anomaly_seg_ros.registry', 'anomaly_seg_ros.ros.start', 'anomaly_seg_ros.scores',
)  # fmt: skip

ORDER = {
    'anomaly_seg_ros': (
        'cli.py', 'commands', 'command_line demo doctor', 'bags ros', 'node', 'adaptation engines',
        'frames', 'whole_frame', 'checkpoint', 'models scores', 'process *',
    ),
    'training': (
        'commands study', 'guiding', 'bench checking converting preparation public_weights',
        'fitting reporting', 'evaluation loop', 'objectives', 'feeding', 'recipes', 'negatives',
        'flows hub losses frame_level', 'datasets metrics', '*',
    ),
}  # fmt: skip
"""The rooms of each package from the top: a room imports only those of later rows.

Imports inside of functions and for type checkers count like the others.
"""
MEET_USERS = ('bench', 'commands', 'study')
"""The only rooms of training that may know of the demo and of ROS."""
LOOSE_FILES = {'anomaly_seg_ros': 10, 'training': 3}


def at_import(tree: ast.Module) -> ast.Module:
    """The statements that run at import: no function bodies, nothing for type checkers only."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST:
            if ast.unparse(node.test) in ('TYPE_CHECKING', 'typing.TYPE_CHECKING'):
                return ast.Module(body=node.orelse, type_ignores=[])
            return self.generic_visit(node)

    return Strip().visit(tree)


def roots(path: Path, *, only_at_import: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding='utf-8'), filename=str(path))
    package = '.'.join(path.relative_to(ROOT).parent.parts)
    names = imported(at_import(tree) if only_at_import else tree, package)
    return {name.split('.')[0] for name in names}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ('code', 'package', 'whole', 'early'),
    [
        ('import a.b', 'p', {'a.b'}, {'a.b'}),
        ('from a import b', 'p', {'a', 'a.b'}, {'a', 'a.b'}),
        ('from . import b', 'p.q', {'p.q', 'p.q.b'}, {'p.q', 'p.q.b'}),
        ('from ..x import b', 'p.q', {'p.x', 'p.x.b'}, {'p.x', 'p.x.b'}),
        ('def f():\n import a', 'p', {'a'}, set()),
        ('class C:\n import a\n def f(self):\n  import b', 'p', {'a', 'b'}, {'a'}),
        ('if TYPE_CHECKING:\n import a\nelse:\n import b', 'p', {'a', 'b'}, {'b'}),
        ('try:\n import a\nexcept ImportError:\n pass', 'p', {'a'}, {'a'}),
    ],
)
def test_reader_of_imports(code: str, package: str, whole: set[str], early: set[str]) -> None:
    assert set(imported(ast.parse(code), package)) == whole
    assert set(imported(at_import(ast.parse(code)), package)) == early


def test_files_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert {'anomaly_seg_ros/cli.py', 'training/commands/train.py'} <= names


def test_runtime_never_imports_training() -> None:
    guilty = [path for path in FILES if path.is_relative_to(ROOT / 'anomaly_seg_ros')]
    assert [str(path) for path in guilty if 'training' in roots(path)] == []


def test_ros_only_under_ros() -> None:
    guilty = {
        str(path): sorted(roots(path) & ROS)
        for path in FILES
        if not path.is_relative_to(ROOT / 'anomaly_seg_ros' / 'ros') and roots(path) & ROS
    }
    assert guilty == {}


def test_absent_packages_only_in_functions() -> None:
    guilty = {
        str(path): sorted(found)
        for path in FILES
        if (found := roots(path, only_at_import=True) & set(ABSENT))
    }
    assert guilty == {}


@pytest.mark.parametrize('module', LIGHT)
def test_light_modules_stay_light(module: str) -> None:
    code = (
        f'import sys, {module}\n'
        f'print(*sorted({{name.split(".")[0] for name in sys.modules}} & {set(HEAVY)!r}))'
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ''


@pytest.mark.ros
def test_node_needs_no_torch() -> None:
    pytest.importorskip('rclpy')
    result = python(
        'import sys, anomaly_seg_ros.ros.node\n'
        'print(*({"torch", "training", "lightning"} & set(sys.modules)))'
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ''


@pytest.mark.slow
@pytest.mark.ros
def test_every_module_imports_where_absent_packages_are_forbidden() -> None:
    for package in ('rclpy', 'torch', 'lightning'):
        pytest.importorskip(package)
    modules = [
        '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
        for path in FILES
        if path.name != '__main__.py'
    ]
    # By our own code only: torch and lightning may look for them and go on without.
    result = python(f"""
import builtins, importlib
real = builtins.__import__

def guard(name, globals=None, locals=None, fromlist=(), level=0):
    by = (globals or {{}}).get('__name__', '').split('.')[0]
    if level == 0 and name.split('.')[0] in {ABSENT!r} and by in {PACKAGES!r}:
        raise ImportError(f'{{by}} imports {{name}}')
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = guard
for module in {modules!r}:
    importlib.import_module(module)
""")
    assert result.returncode == 0, result.stderr


# --- arrows --------------------------------------------------------------------------------------


def row_of(room: str) -> tuple[str, int]:
    """Gives the package of a room and its row, counted from the top."""
    package, _, name = room.partition('/')
    (row,) = [i for i, names in enumerate(ORDER[package]) if name in names.split()]
    return package, row


def test_every_room_has_its_row() -> None:
    for package, order in ORDER.items():
        found = {room.partition('/')[2] for room in rooms() if room.startswith(f'{package}/')}
        assert sorted(found) == sorted(' '.join(order).split())


def upwards(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Gives the arrows of a graph that do not point to a later row of the same package."""
    return [
        f'{room} -> {other}'
        for room, others in graph.items()
        for other in others
        if row_of(room)[0] == row_of(other)[0] and row_of(room)[1] >= row_of(other)[1]
    ]


def test_arrows_go_one_way() -> None:
    assert upwards(rooms()) == []


@pytest.mark.parametrize(
    ('room', 'other', 'right'),
    [
        ('anomaly_seg_ros/models', 'anomaly_seg_ros/*', True),
        ('anomaly_seg_ros/models', 'anomaly_seg_ros/scores', False),
        ('anomaly_seg_ros/scores', 'anomaly_seg_ros/models', False),
        ('anomaly_seg_ros/frames', 'anomaly_seg_ros/engines', False),
        ('training/losses', 'training/objectives', False),
        ('training/loop', 'training/losses', True),
        ('training/loop', 'anomaly_seg_ros/models', True),
    ],
)
def test_an_arrow_upwards_is_seen(room: str, other: str, right: bool) -> None:
    assert upwards({room: {other}}) == ([] if right else [f'{room} -> {other}'])


def test_only_what_meets_users_knows_of_the_demo_and_of_ros() -> None:
    above = {'anomaly_seg_ros/demo', 'anomaly_seg_ros/ros', 'anomaly_seg_ros/cli.py'}
    guilty = {
        room: sorted(others & above)
        for room, others in rooms().items()
        if room.startswith('training/') and room.partition('/')[2] not in MEET_USERS
    }
    assert {room: found for room, found in guilty.items() if found} == {}


def test_nothing_imports_a_verb() -> None:
    """What two of them need lies in a room below."""
    verbs = {f'{known.room}.{verb}' for verb, known in VERBS.items()}
    guilty = {
        f'{path.relative_to(ROOT)} imports {name}'
        for path in FILES
        for name in imported(
            ast.parse(path.read_text(encoding='utf-8')),
            '.'.join(path.relative_to(ROOT).parent.parts),
        )
        if name in verbs
    }
    assert guilty == set()


# --- files ---------------------------------------------------------------------------------------


def test_a_verb_is_a_file_of_that_name_and_a_file_a_verb() -> None:
    for room in (RUNTIME, TRAINING):
        folder = ROOT.joinpath(*room.split('.'))
        found = {path.stem for path in folder.glob('*.py')} - {'__init__'}
        assert found == {verb for verb, known in VERBS.items() if known.room == room}


@pytest.mark.parametrize('package', LOOSE_FILES)
def test_siblings_are_imported_relatively(package: str) -> None:
    long = [
        f'{path.relative_to(ROOT)}:{node.lineno} {node.module}'
        for path in (ROOT / package).rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and ROOT.joinpath(*str(node.module).split('.')).with_suffix('.py').parent == path.parent
        and ROOT.joinpath(*str(node.module).split('.')).with_suffix('.py').is_file()
    ]
    assert not long


@pytest.mark.parametrize('package', LOOSE_FILES)
def test_few_files_lie_outside_of_a_room(package: str) -> None:
    loose = sorted(path.name for path in (ROOT / package).glob('*.py'))
    assert len(loose) <= LOOSE_FILES[package], loose


def test_a_file_of_a_few_lines_has_more_than_one_reader() -> None:
    """Else it joins that reader; what a table names as text is its own file."""
    modules = {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
        for path in FILES
    }
    texts = {path: path.read_text(encoding='utf-8') for path in FILES}
    readers: dict[str, set[Path]] = {module: set() for module in modules}
    for path, text in texts.items():
        package = '.'.join(path.relative_to(ROOT).parent.parts)
        for name in imported(ast.parse(text), package):
            if name in modules:
                readers[name].add(path)
    lonely = [
        module
        for module, path in modules.items()
        if path.name not in ('__init__.py', '__main__.py')
        and texts[path].count('\n') < 30
        and len(readers[module]) == 1
        and not any(f"'{module}:" in text for text in texts.values())
    ]
    assert lonely == []


TWICE = {
    'FeatureFusion': "each network's own block, named as in its paper",
    'DenseHybrid': 'the objective that trains what the score of the same name reads',
    'Mask2Anomaly': 'a network, the objective that trains it and the score that it is read by',
    'NFlowJS': 'the objective that trains what the score of the same name reads',
    'RbA': 'the objective that trains what the score of the same name reads',
    'UNO': 'the objective that trains what the score of the same name reads',
}
"""Class names that stand in two modules, and why."""


def test_a_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in TWICE} == {}
    assert set(TWICE) <= set(twice)
