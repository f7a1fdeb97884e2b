"""The table of outputs: one line of it is all that the node, `bag` and the tools need."""

from __future__ import annotations

from collections.abc import Callable
import importlib
from pathlib import Path
import re
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import yaml

from anomaly_seg_ros.bags.reader import BagReader, TYPESTORE
from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.node import launch_support, topics
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.label_info import label_info_fields
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE, TEXT
from anomaly_seg_ros.node.outputs import image_outputs, LATCHED, OUTPUTS, usual_outputs
from training.bench.node_session import output_topics

NEW = """
from anomaly_seg_ros.node.label_info import label_info_fields
from anomaly_seg_ros.node.outputs import Output


def is_third(result, config):
    return (result.labels == 3).astype('uint8')


def height(result, config):
    return result.share * 2


def words(result, config):
    return f'{result.anomalous_share:.2f} {config.score_encoding}'


LINES = {
    '~/third': Output(is_third, usual=False),
    '~/twice': Output(height, lambda config: '32FC1', usual=False),
    '~/words': Output(words, kind='std_msgs/msg/String', usual=False),
}
"""


@pytest.fixture
def new_outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lines of a module that nobody knows."""
    (tmp_path / 'modules').mkdir()
    (tmp_path / 'modules' / 'new_outputs.py').write_text(NEW, encoding='utf-8')
    monkeypatch.syspath_prepend(str(tmp_path / 'modules'))
    monkeypatch.delitem(sys.modules, 'new_outputs', raising=False)
    module: Any = importlib.import_module('new_outputs')
    for topic, output in module.LINES.items():
        monkeypatch.setitem(OUTPUTS, topic, output)


def halves() -> NDArray[np.uint8]:
    """Labels 3 over 4; left half anomalous."""
    image = np.zeros((24, 32, 3), np.uint8)
    image[:12, :, 0], image[12:, :, 0] = 3, 4
    image[:, :16, 1] = 255
    return image


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_a_line_is_published_by_the_node(
    new_outputs: None, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip('rclpy')
    from std_msgs.msg import String

    rig = request.getfixturevalue('rig')
    image_message = request.getfixturevalue('image_message')
    rig.activate()
    rig.connect('~/third', '~/twice')
    rig.listen('~/words', kind=String)
    sent = image_message(halves())
    third, twice = rig.answer(sent, '~/third', '~/twice')
    assert (third.encoding, third.header) == ('mono8', sent.header)
    assert bytes(third.data) == bytes([1] * 12 * 32 + [0] * 12 * 32)
    assert (twice.encoding, twice.step) == ('32FC1', 4 * 32)
    assert (
        np.frombuffer(twice.data, np.float32).reshape(24, 32)[:, [0, 31]].tolist() == [[2, 0]] * 24
    )
    rig.spin_until(lambda: rig.heard['~/words'])
    assert [message.data for message in rig.heard['~/words']] == ['0.50 mono8']


def test_a_line_is_written_by_bag(
    new_outputs: None,
    make: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    fake_engine: Any,
    fake_checkpoint: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr('training.commands.bag.open_engine', lambda *args: fake_engine)
    argv = ['bag', str(make([halves()])), '--checkpoint', str(fake_checkpoint)]
    argv += ['--out', str(tmp_path / 'out')]
    assert main([*argv, '--save', 'third,twice,words']) == 0
    with BagReader(tmp_path / 'out' / 'bag') as reader:
        assert reader.topics == {
            '/anomaly_seg/label_info': 'vision_msgs/msg/LabelInfo',
            '/anomaly_seg/label_info_json': TEXT,
            '/anomaly_seg/third': IMAGE,
            '/anomaly_seg/twice': IMAGE,
            '/anomaly_seg/words': TEXT,
        }
        (third,) = reader.images('/anomaly_seg/third')
        (twice,) = reader.images('/anomaly_seg/twice')
        (words,) = reader.messages(['/anomaly_seg/words'])
    assert third.message.data.tolist() == [1] * 12 * 32 + [0] * 12 * 32
    assert (twice.message.encoding, twice.message.step) == ('32FC1', 4 * 32)
    assert twice.message.data.view(np.float32).reshape(24, 32)[5, [0, 31]].tolist() == [2, 0]
    text: Any = TYPESTORE.deserialize_cdr(words.data, TEXT)
    assert text.data == '0.50 mono8'
    assert main(argv) == 0
    with BagReader(tmp_path / 'out' / 'bag') as reader:
        assert '/anomaly_seg/third' not in reader.topics


def test_a_line_is_seen_by_rviz_and_the_benchmark(new_outputs: None) -> None:
    node = {'namespace': 'front', 'node_name': 'seg', 'image_topic': 'image', 'cameras': ''}
    remapped = dict(launch_support.rviz_remappings(node))
    assert remapped['/anomaly_seg/third'] == '/front/seg/third'
    assert '/anomaly_seg/words' not in remapped
    assert {'~/third', '~/twice'} < set(output_topics('all'))
    assert '~/words' not in output_topics('all')


def test_the_shipped_table() -> None:
    encodings = {
        topic.removeprefix('~/'): output.encoding(NodeConfig())
        for topic, output in OUTPUTS.items()
        if output.kind in (IMAGE, COMPRESSED_IMAGE)
    }
    assert encodings == {
        'semantic_mask': 'mono8',
        'anomaly_score': 'mono8',
        'anomaly_mask': 'mono8',
        'semantic_color': 'bgr8',
        'confidence': 'mono8',
        'open_set_mask': 'mono8',
        'static_mask': 'mono8',
        'overlay': 'bgr8',
        'overlay/compressed': 'bgr8; jpeg compressed bgr8',
    }
    floats = NodeConfig(score_encoding='32FC1')
    assert OUTPUTS['~/anomaly_score'].encoding(floats) == '32FC1'
    assert set(image_outputs()) == {
        topic for topic, output in OUTPUTS.items() if output.kind == IMAGE
    }
    assert set(usual_outputs()) == {
        '~/semantic_mask',
        '~/anomaly_score',
        '~/anomaly_mask',
        '~/overlay',
        '~/regions_json',
    }


def test_the_shown_configuration_of_nav2_fits_the_shipped_checkpoint(root: Path) -> None:
    page = (root / 'docs' / 'vehicle.md').read_text(encoding='utf-8')
    (text,) = re.findall(r'```\n(semantic_segmentation_layer:.*?)```', page, re.DOTALL)
    camera = yaml.safe_load(text)['semantic_segmentation_layer']['camera']
    known = {topics.resolve(topic) for topic in (*OUTPUTS, *LATCHED)}
    assert {camera[f'{name}_topic'] for name in ('segmentation', 'confidence', 'labels')} <= known
    # What is anomalous has no confidence, so it must win, and cost, without any.
    assert camera['use_cost_selection'] is True
    (kind,) = (k for k in camera['class_types'] if 'anomaly' in camera[k]['classes'])
    assert camera[kind]['base_cost'] == 254
    # The layer leaves out, with an error, a class that stands in none of its lists.
    fields = label_info_fields(Checkpoint.open('default').meta, 0.99)
    names = [entry['class_name'] for entry in fields['class_map']]
    listed = [name for kind in camera['class_types'] for name in camera[kind]['classes']]
    assert sorted(listed) == sorted(names)
    assert [entry['class_id'] for entry in fields['class_map']] == list(range(len(names)))
