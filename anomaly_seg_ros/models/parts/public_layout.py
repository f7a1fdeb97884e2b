"""A family of public weights files: which key tells it, and what its images looked like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TYPE_CHECKING, TypeAlias

from anomaly_seg_ros.classes import CITYSCAPES, LabelSet

if TYPE_CHECKING:
    from torch import Tensor

MeanStd: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float]]

PLAIN: MeanStd = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Mean and std of a network that takes RGB in 0..1 as it is."""
IMAGENET: MeanStd = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: MeanStd = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""-1 to 1: what vision transformers without distillation were trained with."""
COINCHEUNG: MeanStd = ((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115))
"""Mean and std of the public BiSeNets."""

NORMALISATIONS = {'plain': PLAIN, 'imagenet': IMAGENET, 'half': HALF, 'bisenet': COINCHEUNG}
"""Those that a user may name, where a file was trained with others than its layout's."""


@dataclass(frozen=True)
class PublicLayout:
    """A family of public files of one network with the same keys.

    Attributes:
        name: What the command calls it.
        classifier: The key that tells this layout from all others.
        axis: Axis of the output channels in that weight.
        mean_std: Mean and std that the images were normalised with.
        options: Constructor options of the network.
        input_size: (height, width) the weights were trained for.
        per_class: All keys with an axis of output channels, and that axis.
        void_trained: Whether a channel more than classes was trained as void in the public file.
        no_object: Whether the last channel is that of queries that show nothing.
        script: Whose training script counts void as class 0, where such files are known.
        beside: What that script saves beside the weights.
        classes: What the channels mean; layouts with the same keys are told apart by how many.
        trained_on: Data set and split.
        new_classes: Whether the classes of the file are left out, and the network has `classes`.
        sized: Gives further options of the network from the file's weights; None: there are none.
        normalised: Gives mean and std from the file's weights, where those tell; None: `mean_std`.
    """

    name: str
    classifier: str
    axis: int
    mean_std: MeanStd
    options: dict[str, Any] = field(default_factory=dict)
    input_size: tuple[int, int] = (1024, 2048)
    per_class: tuple[tuple[str, int], ...] = ()
    void_trained: bool = True
    no_object: bool = False
    script: str = ''
    beside: frozenset[str] = frozenset()
    classes: LabelSet = CITYSCAPES
    trained_on: str = 'cityscapes train'
    new_classes: bool = False
    sized: Callable[[Mapping[str, Tensor]], dict[str, Any]] | None = None
    normalised: Callable[[Mapping[str, Tensor]], MeanStd] | None = None
