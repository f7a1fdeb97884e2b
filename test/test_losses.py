import math

import pytest
import torch

from training.losses import build_loss
from training.losses.class_weights import enet_weights
from training.losses.cross_entropy import cross_entropy, ohem_cross_entropy


def logits_with_probability(*true_class_probabilities: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two-class logits (1, 2, 1, W) whose class 0 has the given probabilities; labels are 0."""
    p = torch.tensor(true_class_probabilities)
    logits = torch.stack([p.log(), (1 - p).log()])[None, :, None, :]
    return logits.requires_grad_(), torch.zeros(1, 1, len(p), dtype=torch.long)


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    logits, labels = logits_with_probability(0.5, 0.25, 0.9)
    labels[0, 0, 2] = 255
    expected = -(math.log(0.5) + math.log(0.25)) / 2
    assert cross_entropy(logits, labels).item() == pytest.approx(expected, abs=1e-6)


def test_class_weights_divide_by_the_sum_of_the_weights() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25], [0.5, 0.75]]))[None, :, None, :]
    labels = torch.tensor([[[0, 1]]])
    expected = (3 * -math.log(0.5) + 1 * -math.log(0.75)) / 4
    loss = cross_entropy(logits, labels, torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('loss', [cross_entropy, ohem_cross_entropy])
def test_no_valid_pixel_gives_zero_and_no_gradient(loss) -> None:
    logits, labels = logits_with_probability(0.5, 0.25)
    labels[:] = 255
    value = loss(logits, labels)
    value.backward()
    assert value.item() == 0
    assert torch.count_nonzero(logits.grad) == 0


def test_ohem_keeps_pixels_below_the_threshold_only() -> None:
    logits, labels = logits_with_probability(0.9, 0.8, 0.6, 0.2)
    expected = -(math.log(0.6) + math.log(0.2)) / 2
    loss = ohem_cross_entropy(logits, labels, threshold=0.7, keep=1 / 16)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_ohem_keeps_the_hardest_share_when_all_are_easy() -> None:
    logits, labels = logits_with_probability(0.99, 0.95, 0.9, 0.8)
    labels[0, 0, 3] = 255
    # Three valid pixels, keep = 0.5: the two hardest, and never the ignored one.
    expected = -(math.log(0.9) + math.log(0.95)) / 2
    loss = ohem_cross_entropy(logits, labels, threshold=0.7, keep=0.5)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_easy_pixels_get_no_gradient_from_ohem() -> None:
    logits, labels = logits_with_probability(0.9, 0.2)
    ohem_cross_entropy(logits, labels).backward()
    assert torch.count_nonzero(logits.grad[..., 0]) == 0
    assert torch.count_nonzero(logits.grad[..., 1]) > 0


def test_losses_are_finite_in_half_precision_at_extreme_logits() -> None:
    logits = torch.tensor([[6e4, -6e4], [-6e4, 6e4]], dtype=torch.float16)[None, :, None, :]
    labels = torch.tensor([[[1, 1]]])
    assert math.isfinite(cross_entropy(logits, labels).item())
    assert math.isfinite(ohem_cross_entropy(logits, labels).item())


def test_unknown_loss_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown loss 'x'; choose one of: cross_entropy, ohem"):
        build_loss('x', {})


def test_enet_weights_follow_the_share_of_labelled_pixels(camvid_root) -> None:
    from training.datasets import build_dataset

    weights = enet_weights(build_dataset('camvid', camvid_root, 'train'))
    # The made frames are half sky (0), a quarter road (3), a quarter unlabelled.
    assert weights[0].item() == pytest.approx(1 / math.log(1.02 + 2 / 3), rel=1e-5)
    assert weights[3].item() == pytest.approx(1 / math.log(1.02 + 1 / 3), rel=1e-5)
    assert weights[8].item() == pytest.approx(1 / math.log(1.02), rel=1e-5)
