"""The networks, by public name; each is one file and is imported only when it is built."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.registry import check_options, lookup, read_fact

if TYPE_CHECKING:
    from .network import Network

MODELS = {
    'autoencoder': 'anomaly_seg_ros.models.autoencoder:Autoencoder',
    'bisenetv1': 'anomaly_seg_ros.models.bisenetv1:BiSeNetV1',
    'bisenetv2': 'anomaly_seg_ros.models.bisenetv2:BiSeNetV2',
    'deeplabv3plus': 'anomaly_seg_ros.models.deeplabv3plus:DeepLabV3Plus',
    'efficientnet_lite': 'anomaly_seg_ros.models.efficientnet_lite:EfficientNetLiteFeatures',
    'efficientnet_lite_seg': 'anomaly_seg_ros.models.efficientnet_lite_seg:EfficientNetLiteSeg',
    'enet': 'anomaly_seg_ros.models.enet:ENet',
    'erfnet': 'anomaly_seg_ros.models.erfnet:ERFNet',
    'espnetv2': 'anomaly_seg_ros.models.espnetv2:ESPNetv2',
    'fast_scnn': 'anomaly_seg_ros.models.fast_scnn:FastSCNN',
    'hf': 'anomaly_seg_ros.models.hf:HuggingFaceSegmenter',
    'ldn121': 'anomaly_seg_ros.models.ldn121:LDN121',
    'mask2anomaly': 'anomaly_seg_ros.models.mask2anomaly:Mask2Anomaly',
    'segmenter': 'anomaly_seg_ros.models.segmenter:Segmenter',
}


def stride_of(name: str) -> int:
    """Gives what the sides of a network's images are multiples of; needs no torch.

    Raises:
        ValueError: Unknown name; the text lists the valid ones.
    """
    return int(read_fact('model', MODELS, name, 'stride', 1))


def check_model_options(name: str, options: Collection[str]) -> None:
    """Checks that a network's constructor takes such options; needs no torch.

    Raises:
        ValueError: It does not, or unknown name; the text lists the valid ones.
    """
    check_options('model', MODELS, name, options, fixed=('classes',))


def build_model(
    name: str, classes: int, options: Mapping[str, Any] | None = None, preset: str | None = None
) -> Network:
    """Gives a freshly initialised network; nothing is downloaded.

    Args:
        name: A key of `MODELS`.
        classes: Output channels K, void included where it is trained.
        options: Keyword arguments of the network's constructor.
        preset: Name of a set of constructor arguments in the network's `presets`.

    Raises:
        ValueError: Unknown name, preset or option; the text lists the valid ones.
    """
    kind: type[Network] = lookup('model', MODELS, name)
    check_model_options(name, options or ())
    arguments: dict[str, Any] = {}
    if preset is not None:
        if preset not in kind.presets:
            known = ', '.join(sorted(kind.presets))
            raise ValueError(
                f'unknown preset {preset!r} of model {name!r}; choose one of: {known}'
            )
        arguments |= kind.presets[preset]
    arguments |= dict(options or {})
    try:
        return kind(classes, **arguments)
    except TypeError as error:
        raise ValueError(f'model {name!r} does not take options {arguments}: {error}') from None
