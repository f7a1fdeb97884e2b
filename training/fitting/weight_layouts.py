"""The families of public weights files: which key tells one, and what its images looked like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anomaly_seg_ros.classes import CITYSCAPES, LabelSet
from training.datasets.streethazards import CLASSES as STREETHAZARDS

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Mean and std of a network that takes RGB in 0..1 as it is."""
CITYSCAPES_STATISTICS = ((0.28690, 0.32513, 0.28389), (0.17614, 0.18099, 0.17772))
"""Of the training images; the first batch norm of the public ENet 'b' fits only these."""
BISENET_STATISTICS = ((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115))
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Layout:
    """A family of public files with the same keys.

    Attributes:
        name: What the command calls it.
        model: A key of `MODELS`.
        classifier: The key that tells this layout from all others.
        axis: Axis of the output channels in that weight.
        statistics: Mean and std that the images were normalised with.
        options: Constructor options of the network.
        input_size: (height, width) the weights were trained for.
        per_class: All keys with an axis of output channels, and that axis.
        void_trained: Whether a channel more than classes was trained as void in the public file.
        classes: What the channels mean; layouts with the same keys are told apart by how many.
        trained_on: Data set and split.
    """

    name: str
    model: str
    classifier: str
    axis: int
    statistics: tuple[tuple[float, float, float], tuple[float, float, float]]
    options: dict[str, Any] = field(default_factory=dict)
    input_size: tuple[int, int] = (512, 1024)
    per_class: tuple[tuple[str, int], ...] = ()
    void_trained: bool = True
    classes: LabelSet = CITYSCAPES
    trained_on: str = 'cityscapes train'


LAYOUTS = (
    Layout('a (davidtvs keys)', 'enet', 'transposed_conv.weight', 1, PLAIN, {'layout': 'a'}),
    Layout(
        'b (bottleneck10 keys)',
        'enet',
        'fullconv.weight',
        1,
        CITYSCAPES_STATISTICS,
        {'layout': 'b'},
    ),
    Layout(
        'authors',
        'erfnet',
        'decoder.output_conv.weight',
        1,
        PLAIN,
        per_class=(
            ('decoder.output_conv.weight', 1),
            ('decoder.output_conv.bias', 0),
            ('encoder.output_conv.weight', 0),
            ('encoder.output_conv.bias', 0),
        ),
        void_trained=False,
    ),
    Layout(
        'CoinCheung',
        'bisenetv1',
        'conv_out.conv_out.weight',
        0,
        BISENET_STATISTICS,
        input_size=(1024, 2048),
    ),
    Layout(
        'CoinCheung',
        'bisenetv2',
        'head.conv_out.1.weight',
        0,
        BISENET_STATISTICS,
        input_size=(1024, 2048),
    ),
    Layout(
        'Tramac',
        'fast_scnn',
        'classifier.conv.1.weight',
        0,
        IMAGENET_STATISTICS,
        input_size=(1024, 2048),
    ),
    # The public file normalises inside the network; here, as always, the checkpoint says how.
    Layout(
        'NVIDIA',
        'deeplabv3plus',
        'final.6.weight',
        0,
        IMAGENET_STATISTICS,
        input_size=(1024, 2048),
    ),
    Layout('ladder', 'ldn121', 'logits.conv.weight', 0, PLAIN, input_size=(1024, 2048)),
    Layout(
        'ladder (StreetHazards)',
        'ldn121',
        'logits.conv.weight',
        0,
        PLAIN,
        input_size=(720, 1280),
        classes=STREETHAZARDS,
        trained_on='streethazards train',
    ),
)
