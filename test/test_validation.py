"""What a network sees in training and validation is what it will see in use."""

from lightning.fabric import Fabric
import numpy as np
import pytest
import torch
from torch import nn

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.engines.scored_model import ScoredModel
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.scores.max_logit import MaxLogit
from training.datasets import Sample
from training.feeding.normalisation import Normalisation
from training.loop.validation import Validation


class Bright(Network):
    """Answers class 0 where the red channel, as it comes in, is above a half."""

    stride = 1

    def forward(self, images: torch.Tensor) -> ModelOutput:
        return ModelOutput(torch.stack([images[:, 0], torch.full_like(images[:, 0], 0.5)], 1))


class Halves:
    """One frame of 4 x 8, left half bright and class 0, right half dark and class 1."""

    classes = LabelSet(('bright', 'dark'), ((0, 0, 0), (1, 1, 1)))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        labels = np.repeat(np.array([[0] * 4 + [1] * 4], np.uint8), 4, axis=0)
        image = np.repeat(np.where(labels == 0, 200, 50).astype(np.uint8)[..., None], 3, axis=2)
        return Sample('halves', image, labels)


@pytest.mark.parametrize('size', [(4, 8), (2, 4), (12, 24)])
def test_validation_sees_frames_at_the_input_size_and_answers_at_that_of_the_labels(
    size: tuple[int, int],
) -> None:
    seen = []

    def normalise(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return images

    validation = Validation(Fabric(), normalise, Halves(), size, None, MaxLogit())
    ious = validation(Bright(), lambda: False)
    assert seen == [(1, 3, *size)]
    assert ious == {'val_miou': 1.0, 'iou_bright': 1.0, 'iou_dark': 1.0}


class WithAnomalies(Halves):
    """Three frames: the dark half is the anomaly, the bright one is, and there is none."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        anomaly = [sample.labels, 1 - sample.labels, 0 * sample.labels][index]
        return Sample(sample.name, sample.image, sample.labels, anomaly)


class Darkness(nn.Module):
    """A score that is high where the red channel is low."""

    def forward(self, output: ModelOutput) -> torch.Tensor:
        return -output.logits[:, 0]


def test_average_precision_is_that_of_the_pixels_of_all_frames() -> None:
    # 48 dark pixels, tied, rank before 48 bright ones; of each 16 are anomalies.
    validation = Validation(Fabric(), lambda x: x, WithAnomalies(), (4, 8), None, Darkness())
    assert validation(Bright(), lambda: False)['val_ap'] == pytest.approx(1 / 3)


def test_the_score_is_enlarged_linearly_to_the_labels() -> None:
    class LastBrightColumn(Halves):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            anomaly = np.zeros((4, 8), np.uint8)
            anomaly[:, 3] = 1
            return Sample(sample.name, sample.image, sample.labels, anomaly)

    found = {}
    for size in ((4, 8), (2, 4)):
        validation = Validation(Fabric(), lambda x: x, LastBrightColumn(), size, None, Darkness())
        found[size] = validation(Bright(), lambda: False)['val_ap']
    # At its own size it ties with all that is bright, behind what is dark: 4 of 32.
    assert found[4, 8] == pytest.approx(1 / 8)
    # Between bright and dark the enlarged score lies above that of the other bright columns.
    assert 0.13 < found[2, 4] <= 0.2 + 1e-6


def test_a_validation_is_given_up_when_somebody_wants_to_stop() -> None:
    validation = Validation(Fabric(), lambda x: x, Halves(), (4, 8), None, MaxLogit())
    assert validation(Bright(), lambda: True) is None


def test_images_are_brightened_as_in_the_exported_graph(make_fake_meta) -> None:
    meta = make_fake_meta(gamma=0.7, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    saw = []

    class Seen(Bright):
        def forward(self, images: torch.Tensor) -> ModelOutput:
            saw.append(images)
            return super().forward(images)

    ScoredModel(Seen(), meta, 'max_logit')(pixels)
    mine = Normalisation(meta.mean, meta.std, meta.gamma, torch.device('cpu'))
    images = pixels.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(mine(images), saw[0], atol=2e-4, rtol=0)
