"""The bag that `anomaly_seg bag` writes: the node's topics, made of each frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
import shutil
from types import TracebackType
from typing import Any

from anomaly_seg_ros.bags.reader import BagImage
from anomaly_seg_ros.bags.storage import METADATA
from anomaly_seg_ros.bags.writer import BagWriter, Stamp
from anomaly_seg_ros.frames.images import is_hidden
from anomaly_seg_ros.frames.result import Result
from anomaly_seg_ros.node import topics
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, DETECTIONS, IMAGE, TEXT
from anomaly_seg_ros.node.outputs import LATCHED, OUTPUTS, stamped_text
from anomaly_seg_ros.node.regions import detections_fields


def output_names(outputs: Iterable[str] = OUTPUTS) -> list[str]:
    """Gives topics of `OUTPUTS` as users write them.

    >>> output_names(['~/semantic_mask', '~/overlay'])
    ['semantic_mask', 'overlay']
    """
    return [topic.removeprefix('~/') for topic in outputs]


def parse_outputs(text: str) -> tuple[str, ...]:
    """Reads a text such as 'semantic_mask,overlay' as topics of `OUTPUTS`.

    Raises:
        ValueError: An unknown output, or none.
    """
    names = dict.fromkeys(part.strip() for part in text.split(',') if part.strip())
    known = ', '.join(output_names())
    for name in names:
        if f'~/{name}' not in OUTPUTS:
            raise ValueError(f'unknown output {name!r}; choose of: {known}')
    if not names:
        raise ValueError(f'nothing to save; choose of: {known}')
    return tuple(f'~/{name}' for name in names)


class OutputBag:
    """The node's topics, under the names that they have without a namespace.

    Args:
        path: Folder of the bag, which must not exist.
        outputs: Keys of `OUTPUTS`.
        config: The node's parameters.
        explanations: Topic to content of all of `LATCHED`.
    """

    def __init__(
        self,
        path: Path,
        outputs: Sequence[str],
        config: NodeConfig,
        explanations: Mapping[str, Any],
    ):
        self._outputs = {topics.resolve(topic): OUTPUTS[topic] for topic in outputs}
        self._config = config
        self._explanations = dict(explanations)
        self._bag = BagWriter(path, packed=True)
        for topic, kind in LATCHED.items():
            self._bag.add_topic(topics.resolve(topic), kind, latched=True)
        for topic, output in self._outputs.items():
            self._bag.add_topic(topic, output.kind)

    def add(self, image: BagImage, result: Result) -> None:
        """Writes the outputs of a frame with the times of its input."""
        assert image.stamp is not None
        at = Stamp(image.log_time, image.stamp, image.frame_id)
        while self._explanations:
            topic, content = self._explanations.popitem()
            self._write(topics.resolve(topic), at, content, LATCHED[topic], '')
        for topic, output in self._outputs.items():
            content = output.content(result, self._config)
            self._write(topic, at, content, output.kind, output.encoding(self._config))

    def _write(self, topic: str, at: Stamp, content: Any, kind: str, encoding: str) -> None:
        if kind == IMAGE:
            self._bag.add_image(topic, at, content, encoding)
        elif kind == COMPRESSED_IMAGE:
            self._bag.add_compressed(topic, at, content, encoding)
        elif kind == TEXT:
            text = stamped_text(content, *divmod(at.stamp, 10**9), at.frame_id)
            self._bag.add_fields(topic, at, {'data': text})
        elif kind == DETECTIONS:
            self._bag.add_fields(topic, at, detections_fields(content))
        else:
            fields = content if isinstance(content, Mapping) else {'data': content}
            self._bag.add_fields(topic, at, fields)

    def __enter__(self) -> OutputBag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In any case: without its index a bag is a broken one for others.
        self._bag.close()


def clear_output_bag(path: Path) -> None:
    """Removes the bag that an earlier run has left, and hidden files in it.

    Raises:
        ValueError: Something else is there.
    """
    if not path.exists():
        return
    ours = {METADATA, f'{path.name}.mcap'}
    if not path.is_dir() or any(
        file.name not in ours and not is_hidden(file.name) for file in path.iterdir()
    ):
        raise ValueError(f'{str(path)!r} is no bag of an earlier run; choose another --out')
    shutil.rmtree(path)
