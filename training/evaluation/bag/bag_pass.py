"""Takes a bag's images through the pipeline, one after the other, until the end or a stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tqdm import tqdm

from anomaly_seg_ros.bags.reader import BagImage, BagReader
from anomaly_seg_ros.frames.pipeline import Pipeline
from anomaly_seg_ros.node.config import NodeConfig
from anomaly_seg_ros.process.stop_signals import StopRequest

from .alarms import Alarms
from .frames import LabelledFrames
from .labels import FrameKey, MatchedLabels
from .outputs import OutputBag
from .timeline import broken_row, frame_row, Timeline


@dataclass
class BagPass:
    """Takes every message of the topic once, and remembers what became of it.

    Attributes:
        pipeline: The node's.
        names: Log time to the source file of an image.
        labels: Of some frames, or None.
        labelled: Keeps the frames with labels.
        config: The node's parameters.
        alarms: Of all frames.
        frames: Messages that went through the network.
        broken: Number and problem of those that could not.
        stamps: Of the first and the last frame.
        stopped: Whether somebody ended it early.
        times_ms: Of each inference.
        encoding: Of the last frame, with its significant bits.
    """

    pipeline: Pipeline
    names: Mapping[int, str]
    labels: MatchedLabels | None
    labelled: LabelledFrames
    config: NodeConfig
    alarms: Alarms = field(default_factory=Alarms)
    frames: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    stopped: bool = False
    times_ms: list[float] = field(default_factory=list)
    encoding: str = ''

    def through(self, reader: BagReader, topic: str, bag: OutputBag, timeline: Timeline) -> None:
        """Runs all frames of the topic, until the end or until somebody stops it."""
        total = reader.count(topic)
        with StopRequest() as stop:
            images = reader.images(topic, self.config.significant_bits)
            for image in tqdm(images, total=total, unit='frame', disable=None):
                self._add(image, bag, timeline)
                if stop.asked:
                    self.stopped = True
                    return

    def _add(self, image: BagImage, bag: OutputBag, timeline: Timeline) -> None:
        name = self.names.get(image.log_time, '')
        try:
            frame = image.frame()
        except ValueError as error:
            self.broken.append((image.number, str(error)))
            timeline.add(broken_row(image, name, str(error)))
            return
        assert image.stamp is not None
        result = self.pipeline(frame, image.stamp * 1e-9).at(
            self.config.output_resolution == 'input'
        )
        self.encoding = frame.encoding
        bag.add(image, result)
        timeline.add(frame_row(image, name, result))
        self.alarms.add(image.stamp, result.maps.anomalies)
        self.frames += 1
        self.stamps = [*self.stamps[:1], image.stamp]
        self.times_ms.append(result.times_ms['inference'])
        label = self.labels.files.get(image.number) if self.labels else None
        if label is not None:
            stem = FrameKey(image.number, image.stamp, name).stem
            self.labelled.add(stem, result, label)
