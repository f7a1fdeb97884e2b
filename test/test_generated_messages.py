"""Messages that PyPI does not have, made by ROS's own generator: ours fit their fields and checks.

The definitions are those of `vision_msgs` 4 (e77fa2d) and of `bond_core` (branch ros2), compared
by hand; that they go over DDS is not tested, which takes a build with a compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import json
from pathlib import Path
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('rosidl_generator_py')

from rosidl_adapter.msg import convert_msg_to_idl
from rosidl_generator_py import generate_py
from std_msgs.msg import Header

from anomaly_seg_ros.bags.fields import VISION_MSGS
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.frames.maps import PipelineSettings
from anomaly_seg_ros.frames.pipeline import build_pipeline
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.label_info import latched_contents
from anomaly_seg_ros.node.outputs import LATCHED, OUTPUTS
from anomaly_seg_ros.node.topics import DETECTIONS, LABEL_INFO
from anomaly_seg_ros.ros.bond import Bond
from anomaly_seg_ros.ros.conversions import message_writer

pytestmark = [pytest.mark.ros, pytest.mark.slow]

BOND = {
    'Status': 'std_msgs/Header header\nstring id\nstring instance_id\nbool active\n'
    'float32 heartbeat_timeout\nfloat32 heartbeat_period\n'
}
TEMPLATES = Path(sys.prefix) / 'share' / 'rosidl_generator_py' / 'resource'


def generate(package: str, definitions: dict[str, str], work: Path, to: Path) -> None:
    """Writes the Python classes of a package of messages, as a build of it does."""
    (work / 'msg').mkdir(parents=True)
    for name, text in definitions.items():
        path = Path('msg') / f'{name}.msg'
        (work / path).write_text(text, encoding='utf-8')
        convert_msg_to_idl(work, package, path, work / 'idl' / 'msg')
    arguments = {
        'package_name': package,
        'output_dir': str(to / package),
        'template_dir': str(TEMPLATES),
        'idl_tuples': [f'{work / "idl"}:msg/{name}.idl' for name in definitions],
        'ros_interface_dependencies': [],
        'target_dependencies': [],
        'type_description_tuples': [],
    }
    (work / 'arguments.json').write_text(json.dumps(arguments), encoding='utf-8')
    generate_py(str(work / 'arguments.json'), [])


@pytest.fixture(scope='module')
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp('generated')
    generate('vision_msgs', dict(VISION_MSGS), folder / 'vision', folder / 'out')
    generate('bond', BOND, folder / 'bond', folder / 'out')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / 'out')
        yield
    for name in [name for name in sys.modules if name.split('.')[0] in ('vision_msgs', 'bond')]:
        del sys.modules[name]


@pytest.mark.usefixtures('packages')
def test_detections(fake_engine: Any, make_fake_meta: Callable[..., Any]) -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[3:8, 2:6, 1] = 255
    result = build_pipeline(fake_engine, make_fake_meta(), PipelineSettings(0.9))(image)
    output, header = OUTPUTS[DETECTIONS], Header(frame_id='front')
    message = message_writer(output.kind, '').fill(output.content(result, NodeConfig()), header)
    assert type(message).__module__.startswith('vision_msgs.msg.')
    (detection,) = message.detections
    assert message.header == detection.header == header
    assert (detection.id, detection.bbox.size_x, detection.bbox.size_y) == ('1', 4.0, 5.0)
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (4.0, 5.5)
    (found,) = detection.results
    assert (found.hypothesis.class_id, found.hypothesis.score) == ('anomaly', 1.0)


@pytest.mark.usefixtures('packages')
def test_label_info(fake_engine: Any, fake_checkpoint: Path) -> None:
    checkpoint = Checkpoint.open(fake_checkpoint)
    contents = latched_contents(checkpoint, fake_engine, 0.9, NodeConfig())
    message = message_writer(LATCHED[LABEL_INFO], '').fill(contents[LABEL_INFO], Header())
    names = [each.class_name for each in message.class_map]
    assert names == [*checkpoint.meta.class_names, 'anomaly']
    assert [each.class_id for each in message.class_map] == list(range(len(names)))


@pytest.mark.usefixtures('packages')
def test_the_beat_of_a_bond() -> None:
    sent: list[Any] = []
    stamp = Header().stamp
    node: Any = SimpleNamespace(
        create_publisher=lambda *_: SimpleNamespace(publish=sent.append),
        create_timer=lambda *_, **__: None,
        destroy_timer=lambda _: None,
        destroy_publisher=lambda _: None,
        get_name=lambda: 'anomaly_seg',
        get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: stamp)),
    )
    bond = Bond(node, node.get_clock())
    bond.start()
    bond.stop()
    assert [type(beat).__module__ for beat in sent] == ['bond.msg._status'] * 2
    assert [(beat.id, beat.active) for beat in sent] == [
        ('anomaly_seg', True),
        ('anomaly_seg', False),
    ]
    assert sent[0].heartbeat_timeout == 4.0
