"""What a network sees in training and validation is what it will see in use."""

from lightning.fabric import Fabric
import numpy as np
import pytest
import torch
from torch import nn

from anomaly_seg_ros.classes import LabelSet
from anomaly_seg_ros.engines.scored_model import ScoredModel
from anomaly_seg_ros.model_output import ModelOutput
from training.datasets import Sample
from training.normalisation import Normalisation
from training.validation import validate


class Bright(nn.Module):
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

    ious = validate(Fabric(), Bright(), normalise, Halves(), size, None, lambda: False)
    assert seen == [(1, 3, *size)]
    assert ious == {'val_miou': 1.0, 'iou_bright': 1.0, 'iou_dark': 1.0}


def test_images_are_brightened_as_in_the_exported_graph(make_fake_meta) -> None:
    meta = make_fake_meta(gamma=0.7, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    saw = []

    class Seen(Bright):
        provides = frozenset({'logits'})

        def forward(self, images: torch.Tensor) -> ModelOutput:
            saw.append(images)
            return super().forward(images)

    ScoredModel(Seen(), meta, 'max_logit')(pixels)
    mine = Normalisation(meta.mean, meta.std, meta.gamma, torch.device('cpu'))
    images = pixels.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(mine(images), saw[0], atol=2e-4, rtol=0)
