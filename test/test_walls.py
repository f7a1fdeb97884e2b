"""The three walls: runtime and training, ROS and the rest, light and heavy modules."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

from anomaly_seg_ros.engines import ENGINES
from docs.architecture import imported

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
    'anomaly_seg_ros.node.outputs', 'anomaly_seg_ros.node.topics', 'anomaly_seg_ros.prediction',
    'anomaly_seg_ros.registry', 'anomaly_seg_ros.scores',
)  # fmt: skip


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


TWICE = {
    'FeatureFusion': "each network's own block, named as in its paper",
    'DenseHybrid': 'the objective that trains what the score of the same name reads',
    'NFlowJS': 'the objective that trains what the score of the same name reads',
    'Layout': 'of the files of a dataset, and of the keys in a weights file',
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
