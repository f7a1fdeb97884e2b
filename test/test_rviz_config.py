"""What RViz and Foxglove show: known displays, topics that the node has, policies that are."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomaly_seg_ros.node import launch_support, package_files, topics
from anomaly_seg_ros.node.outputs import image_outputs

FILE = Path(__file__).resolve().parent.parent / 'config' / package_files.RVIZ_FILE
CLASSES = {
    'rviz_common/Displays', 'rviz_common/Views', 'rviz_common/Time', 'rviz_default_plugins/Image',
    'rviz_default_plugins/MoveCamera', 'rviz_default_plugins/TF', 'rviz_default_plugins/Orbit', '',
}  # fmt: skip
POLICIES = {
    'Durability Policy': {'Volatile', 'Transient Local', 'System Default'},
    'History Policy': {'Keep Last', 'Keep All'},
    'Reliability Policy': {'Reliable', 'Best Effort', 'System Default'},
}


@pytest.fixture(scope='module')
def rviz() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def displays(rviz: dict[str, Any]) -> list[dict[str, Any]]:
    return rviz['Visualization Manager']['Displays']


def classes(tree: Any) -> set[str]:
    if isinstance(tree, list):
        return set().union(*map(classes, tree)) if tree else set()
    if not isinstance(tree, dict):
        return set()
    found = set().union(*map(classes, tree.values())) if tree else set()
    return found | ({tree['Class']} if 'Class' in tree else set())


def test_every_class_is_known(rviz: dict[str, Any]) -> None:
    found = classes(rviz)
    assert 'rviz_default_plugins/Image' in found
    assert found <= CLASSES


def test_panels_show_the_nodes_topics(displays: list[dict[str, Any]]) -> None:
    shown = {display['Topic']['Value']: display['Enabled'] for display in displays}
    assert shown == {
        topics.resolve(topics.IMAGE): True,
        topics.resolve(topics.OVERLAY): True,
        topics.resolve(topics.ANOMALY_SCORE): False,
        topics.resolve(topics.SEMANTIC_COLOR): False,
    }
    assert all(display['Value'] == display['Enabled'] for display in displays)
    outputs = {topics.resolve(topic) for topic in image_outputs()}
    assert set(shown) - {topics.resolve(topics.IMAGE)} <= outputs


def test_policies(displays: list[dict[str, Any]]) -> None:
    for display in displays:
        for policy, words in POLICIES.items():
            assert display['Topic'][policy] in words
        assert display['Topic']['Reliability Policy'] == 'Best Effort'
        assert display['Topic']['Depth'] == 1


def test_score_is_not_normalised(displays: list[dict[str, Any]]) -> None:
    score = topics.resolve(topics.ANOMALY_SCORE)
    (display,) = [display for display in displays if display['Topic']['Value'] == score]
    assert (display['Normalize Range'], display['Min Value'], display['Max Value']) == (
        False,
        0,
        1,
    )


def test_every_panel_has_its_window(rviz: dict[str, Any], displays: list[dict[str, Any]]) -> None:
    assert {display['Name'] for display in displays} <= set(rviz['Window Geometry'])


ARGUMENTS = {
    'namespace': 'camera/front',
    'node_name': 'seg',
    'image_topic': 'image_raw',
    'cameras': '',
}


def test_launch_remaps_every_topic_of_the_file(displays: list[dict[str, Any]]) -> None:
    remapped = dict(launch_support.rviz_remappings(ARGUMENTS))
    targets = {remapped[display['Topic']['Value']] for display in displays}
    assert targets == {
        '/camera/front/image_raw',
        '/camera/front/seg/overlay',
        '/camera/front/seg/anomaly_score',
        '/camera/front/seg/semantic_color',
    }


def test_foxglove_shows_the_same_and_the_diagnostics() -> None:
    layout = json.loads((FILE.parent / package_files.FOXGLOVE_FILE).read_text(encoding='utf-8'))
    panels = layout['configById']
    images = {
        panel['imageMode']['imageTopic'] for panel in panels.values() if 'imageMode' in panel
    }
    assert images == {
        topics.resolve(topics.IMAGE),
        topics.resolve(topics.OVERLAY_COMPRESSED),
        topics.resolve(topics.ANOMALY_SCORE),
        topics.resolve(topics.SEMANTIC_COLOR),
    }

    def placed(part: Any) -> set[str]:
        return {part} if isinstance(part, str) else placed(part['first']) | placed(part['second'])

    assert placed(layout['layout']) == set(panels)
    (summary,) = [panel for name, panel in panels.items() if name.startswith('Diagnostic')]
    assert summary['topicToRender'] == topics.DIAGNOSTICS
