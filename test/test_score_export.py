"""Every score in an exported graph against torch, on a tiny network with all that scores need."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.meta import CheckpointMeta
from anomaly_seg_ros.classes import CAMVID
from anomaly_seg_ros.engines.openvino_engine import load_cpu
from anomaly_seg_ros.engines.scored_model import score_of, ScoredModel
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.scores import has_statistics, score_class, SCORES

SIZE = (64, 96)
OF_PIXELS = [
    name for name in SCORES if score_class(name).needs <= {'logits', 'void_logit', 'ood_logits'}
]
"""Those that read masks are in test_mask_scores.py."""
META = CheckpointMeta(
    model='made',
    class_names=CAMVID.names,
    class_colors=CAMVID.colors,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    input_size=SIZE,
    void_index=len(CAMVID.names),
)


class TwoLayers(Network):
    """Classes, void and outlier head from one hidden layer."""

    provides = frozenset({'logits', 'ood_logits', 'features.last'})
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.classes = torch.nn.Conv2d(16, META.channels, 1)
        self.outlier = torch.nn.Conv2d(16, 2, 1)

    def forward(self, images: Any) -> ModelOutput:
        hidden = self.hidden(images).relu()
        return ModelOutput(
            8 * self.classes(hidden),
            ood_logits=8 * self.outlier(hidden),
            features={'last': hidden},
        )


class AllScores(torch.nn.Module):
    """Image to labels and all scores, so that one export is enough."""

    def __init__(self, network: TwoLayers, statistics: dict[str, Any]):
        super().__init__()
        self.scored = ScoredModel(network, META, 'max_logit')
        self.scores = torch.nn.ModuleList(
            cast('Any', score_of(network, META, name, statistics.get(name))) for name in OF_PIXELS
        )

    def forward(self, images: Any) -> tuple[Any, ...]:
        output = self.scored.output(images)
        return output.logits.argmax(1).to(torch.uint8), *(score(output) for score in self.scores)


def frames(seed: int) -> Any:
    """Two frames of blobs, so that classes have areas and boundaries."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(2, 3, 8, 12, generator=generator)
    image = torch.nn.functional.interpolate(coarse, SIZE, mode='bicubic').clamp(0, 255)
    return image.permute(0, 2, 3, 1).to(torch.uint8).contiguous()


@pytest.fixture(scope='module')
def network() -> TwoLayers:
    torch.manual_seed(0)
    return TwoLayers().eval()


@pytest.fixture(scope='module')
def statistics(network: TwoLayers) -> dict[str, Any]:
    """Of the first frames, whose true classes are the predicted ones."""
    with torch.no_grad():
        output = ScoredModel(network, META, 'max_logit').output(frames(0))
    found = {}
    for name in filter(has_statistics, SCORES):
        fit: Any = cast('Any', score_class(name).fit)(len(CAMVID.names))
        for one, hidden in zip(output.logits, output.features['last'], strict=True):
            labels = one.argmax(0).to(torch.uint8).numpy()
            fit.update(ModelOutput(one[None], features={'last': hidden[None]}), labels)
        found[name] = fit.compute()
    return found


def test_the_exported_scores_are_those_of_torch(
    network: TwoLayers, statistics: dict[str, Any]
) -> None:
    module = AllScores(network, statistics).eval()
    images = frames(1)
    with torch.no_grad():
        expected = [value.numpy() for value in module(images)]
        program = torch.export.export(module, (images,))
    import openvino as ov

    compiled = load_cpu().compile_model(
        ov.convert_model(program), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}
    )
    labels, *scores = compiled(images.numpy()).values()
    assert len(np.unique(expected[0])) > 3
    assert (labels == expected[0]).mean() > 0.9999
    for name, ours, theirs in zip(OF_PIXELS, scores, expected[1:], strict=True):
        spread = np.ptp(theirs)
        assert spread > 0, name
        # A label that flips by rounding moves the SML of the pixels around it.
        assert np.quantile(np.abs(ours - theirs), 0.99) < 1e-5 * spread, name


def test_standardised_logits_of_the_fitted_frames_are_standard(
    network: TwoLayers, statistics: dict[str, Any]
) -> None:
    sml = ScoredModel(network, META, 'sml', statistics['sml'])
    score: Any = sml.score
    score.boundary_suppression = score.dilated_smoothing = False
    with torch.no_grad():
        labels, standard, *_ = sml(frames(0)).values()
    checked = 0
    for label in labels.unique():
        values = standard[labels == label]
        if values.numel() > 50:
            checked += 1
            assert values.mean().item() == pytest.approx(0, abs=1e-3)
            assert values.std().item() == pytest.approx(1, abs=0.02)
    assert checked > 2


def test_the_mean_distance_of_the_fitted_frames_is_at_most_the_number_of_logits(
    network: TwoLayers, statistics: dict[str, Any]
) -> None:
    """To the own class it is the trace of Sigma^-1 Sigma; to the nearest it is at most that."""
    scored = ScoredModel(network, META, 'mahalanobis', statistics['mahalanobis'])
    with torch.no_grad():
        distance = scored(frames(0))['score']
    classes = len(CAMVID.names)
    assert classes / 3 < distance.mean().item() <= classes
