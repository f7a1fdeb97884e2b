from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, Tensor

from anomaly_seg_ros.frames.images import read_image
from anomaly_seg_ros.model_output import ModelOutput
from training.feeding.loading import Batch
from training.feeding.normalisation import Normalisation
from training.flows.denseflow import DenseFlow
from training.flows.pictures import write_samples
from training.flows.storage import build_flow, load_flow, save_flow
from training.losses import build_loss
from training.objectives import build_objective
from training.objectives.nflow_js import divergence_to_uniform, draw_side, NFlowJS, paste_samples
from training.objectives.objective import Reports

TINY: dict[str, Any] = {
    'blocks': (1, 1, 1), 'steps': (1, 1, 1), 'added': 2, 'hidden': 4, 'depth': 1, 'growth': 4
}  # fmt: skip


@pytest.fixture
def flow_file(tmp_path: Path) -> Path:
    """An untrained tiny flow whose samples do not saturate."""
    torch.manual_seed(0)
    flow = DenseFlow(**TINY).train()
    flow.bits_per_dim(torch.randint(96, 160, (4, 3, 32, 32), dtype=torch.uint8))
    save_flow(tmp_path / 'flow.safetensors', flow)
    return tmp_path / 'flow.safetensors'


def objective(flow_file: Path, **options: Any) -> NFlowJS:
    options = {'flow': str(flow_file), 'patch': [8, 16]} | options
    built = build_objective('nflow_js', build_loss({'cross_entropy': 1.0}, {}), options)
    assert isinstance(built, NFlowJS)
    return built


class Pixelwise(nn.Module):
    """A 1x1 convolution that keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.seen = torch.empty(0)

    def forward(self, images: Tensor) -> ModelOutput:
        self.seen = images.detach()
        return ModelOutput(8 * self.conv(images))


class Spread(Pixelwise):
    """The same with a kernel of 3, so that the patch changes the answer around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)


def batch(size: int = 32) -> Batch:
    rng = torch.Generator().manual_seed(4)
    return Batch(
        torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=rng),
        torch.randint(0, 4, (2, size, size), generator=rng),
        torch.zeros(2, size, size, dtype=torch.bool),
    )


def test_samples_are_pasted_pixel_by_pixel() -> None:
    torch.manual_seed(0)
    images = batch().images
    samples = torch.full((2, 3, 8, 16), 2.0, requires_grad=True)
    mixed, replaced, region = paste_samples(images, samples)
    assert region.sum((1, 2)).tolist() == [128, 128]
    assert (mixed.movedim(1, -1)[region] == 2).all()
    untouched = (images.float() / 255).movedim(1, -1)[~region]
    assert (mixed.movedim(1, -1)[~region] == untouched).all()
    covered = images.movedim(1, -1)[region].view(2, 8, 16, 3).permute(0, 3, 1, 2)
    assert (replaced == covered).all()
    assert replaced.dtype == torch.uint8
    mixed.sum().backward()
    assert (samples.grad == 1).all()


def test_places_and_sides_are_random_within_their_limits() -> None:
    torch.manual_seed(0)
    assert {draw_side((16, 216), 44) for _ in range(60)} == {16, 24, 32, 40}
    assert {draw_side((16, 24), 300) for _ in range(60)} == {16, 24}
    with pytest.raises(ValueError, match='below the smallest patch'):
        draw_side((16, 24), 15)
    corners = set()
    for _ in range(100):
        _, _, region = paste_samples(batch(18).images, torch.zeros(2, 3, 16, 16))
        corners |= {tuple(place.nonzero()[0].tolist()) for place in region}
    assert corners == {(row, column) for row in range(3) for column in range(3)}


def flow_gradients(nflow: NFlowJS, value: Tensor) -> list[Tensor]:
    parameters = list(nflow.flow.parameters())
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)
    ]


def test_the_flow_learns_from_likelihood_and_divergence_alone(flow_file: Path) -> None:
    torch.manual_seed(0)
    network, data, nflow = Spread(), batch(), objective(flow_file, weight=0.5)
    torch.manual_seed(5)
    terms = nflow.forward(network, data)
    for name in ('segmentation', 'divergence'):
        assert not any(g.any() for g in flow_gradients(nflow, terms[name])), name
    # The same step by hand, with the samples still tied to the flow.
    torch.manual_seed(5)
    height, width = (draw_side(nflow.patch, 32) for _ in range(2))
    samples = nflow.flow.sample(2, height, width)
    mixed, replaced, region = paste_samples(data.images, samples)
    logits = network(mixed).logits
    divergence = 0.5 * divergence_to_uniform(logits.movedim(1, -1)[region]).mean()
    bits = nflow.flow.bits_per_dim(replaced).mean()
    torch.testing.assert_close(terms['flow'], bits)
    expected = flow_gradients(nflow, bits + divergence)
    for found, wanted in zip(flow_gradients(nflow, terms['flow']), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    # L_seg would have had its say: with this network it reaches the patch from around it.
    labels = data.labels.masked_fill(region, -100)
    loss = nn.functional.cross_entropy(logits, labels)
    assert sum(float(g.abs().sum()) for g in flow_gradients(nflow, loss)) > 0


def test_the_network_learns_from_segmentation_and_divergence(flow_file: Path) -> None:
    torch.manual_seed(0)
    network, nflow = Spread(), objective(flow_file, weight=0.5)
    terms = nflow.forward(network, batch())
    assert network.conv.weight.grad is None
    expected = torch.autograd.grad(
        terms['segmentation'] + terms['divergence'], network.conv.weight, retain_graph=True
    )
    torch.stack(list(terms.values())).sum().backward()
    torch.testing.assert_close(network.conv.weight.grad, expected[0])


def test_a_patch_over_a_pasted_outlier_is_nothing_to_learn_as_likely(flow_file: Path) -> None:
    nflow, data = objective(flow_file, patch=[32, 32]), batch()
    data.outlier[0, 3, 4] = True
    torch.manual_seed(5)
    value = nflow.forward(Pixelwise(), data)['flow'].item()
    alone = nflow.flow.bits_per_dim(data.images[1:]).mean().item()
    other = nflow.flow.bits_per_dim(data.images[:1]).mean().item()
    assert abs(alone - other) > 0.1
    assert value == pytest.approx(alone, abs=0.05)
    data.outlier[1, 9, 9] = True
    terms = nflow.forward(Pixelwise(), data)
    assert terms['flow'].item() == 0
    assert any(g.any() for g in flow_gradients(nflow, terms['flow']))


def test_a_brightened_black_sample_has_a_finite_pull(flow_file: Path) -> None:
    """The slope of x ** 0.7 is infinite at 0, where samples are cut off."""
    nflow = objective(flow_file)
    with torch.no_grad():
        nflow.flow.base_mean -= 100
    dark, network = nflow.flow.sample(2, 16, 16), Spread()
    assert (dark == 0).any()
    brighten = Normalisation((0.5,) * 3, (0.5,) * 3, 0.7, torch.device('cpu'))
    terms = nflow.forward(lambda images: network(brighten(images)), batch())
    assert all(g.isfinite().all() for g in flow_gradients(nflow, terms['flow']))


def test_terms_by_hand(flow_file: Path) -> None:
    torch.manual_seed(0)
    network, data, nflow = Pixelwise(), batch(), objective(flow_file, weight=0.5)
    torch.manual_seed(5)
    terms = nflow.forward(network, data)
    assert set(terms) == {'segmentation', 'divergence', 'flow'}
    changed = (network.seen != data.images.float() / 255).any(1)
    assert 2 * 64 <= changed.sum() <= 2 * 256
    logits = network(network.seen).logits
    expected = 0.5 * divergence_to_uniform(logits.movedim(1, -1)[changed]).mean()
    torch.testing.assert_close(terms['divergence'], expected)
    inliers = nn.functional.cross_entropy(logits, data.labels.masked_fill(changed, -100))
    torch.testing.assert_close(terms['segmentation'], inliers)


def test_the_flow_learns_what_its_samples_cover(flow_file: Path) -> None:
    nflow, data = objective(flow_file, patch=[32, 32]), batch()
    torch.manual_seed(5)
    terms = nflow.forward(Pixelwise(), data)
    # The patch covers all, so its target is the batch itself, in 0..255 once.
    torch.manual_seed(6)
    expected = nflow.flow.bits_per_dim(data.images).mean()
    assert terms['flow'].item() == pytest.approx(expected.item(), abs=0.02)


def test_the_divergence_alone_pulls_the_flow_to_what_the_network_doubts(flow_file: Path) -> None:
    nflow = objective(flow_file)
    network = Pixelwise()
    torch.manual_seed(1)

    def divergence() -> Tensor:
        torch.manual_seed(7)
        return nflow.forward(network, batch())['divergence']

    before = divergence()
    data = batch()
    data.outlier[:] = True  # no likelihood: every patch covers an outlier
    torch.manual_seed(7)
    gradients = flow_gradients(nflow, nflow.forward(network, data)['flow'])
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    with torch.no_grad():
        for parameter, gradient in zip(nflow.flow.parameters(), gradients, strict=True):
            parameter -= 0.5 * gradient
    # The network has not moved: its doubts about the new samples are larger.
    assert divergence() < before


def test_the_likelihood_term_leaves_the_network_alone(flow_file: Path) -> None:
    network = Pixelwise()
    terms = objective(flow_file).forward(network, batch())
    assert torch.autograd.grad(terms['flow'], network.conv.weight, allow_unused=True) == (None,)


def test_pasted_outliers_are_negatives_too(flow_file: Path) -> None:
    data, network, nflow = batch(), Pixelwise(), objective(flow_file, patch=[8, 8], weight=1.0)
    torch.manual_seed(5)
    without = nflow.forward(network, data)['divergence']
    data.outlier[0, :, :] = True
    torch.manual_seed(5)
    terms = nflow.forward(network, data)
    negative = (network.seen != data.images.float() / 255).any(1) | data.outlier
    logits = network(network.seen).logits.movedim(1, -1)
    torch.testing.assert_close(terms['divergence'], divergence_to_uniform(logits[negative]).mean())
    assert terms['divergence'] != without


def test_one_step_of_both_optimisers_lowers_the_sum(flow_file: Path) -> None:
    nflow, network = objective(flow_file, lr=1e-3), Pixelwise()
    own = nflow.build_optimizer()
    assert isinstance(own, torch.optim.Adamax)
    assert own.defaults['betas'] == (0.9, 0.999)
    assert own.defaults['eps'] == 1e-7
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    sums = []
    for _ in range(4):
        torch.manual_seed(7)
        loss = torch.stack(list(nflow.forward(network, batch()).values())).sum()
        optimizer.zero_grad()
        own.zero_grad()
        loss.backward()
        optimizer.step()
        own.step()
        sums.append(loss.item())
    assert sums == sorted(sums, reverse=True)
    assert sums[-1] < sums[0]


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'patch': [16, 8]}, 'low, high'),
        ({'patch': [12, 16]}, 'multiples of 8'),
        ({'weight': 0}, 'above 0'),
        ({'lamda': 1}, r"unknown options \['lamda'\] .* it takes: flow, weight, patch"),
        ({'patch': [8, 16, 24]}, 'patch is .* list of 2 numbers'),
        ({'patch': 16}, 'patch is 16; it must be a list of 2 numbers'),
        ({'patch': [8, 16.5]}, 'patch is 16.5; it must be of type int'),
    ],
)
def test_wrong_options(flow_file: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        objective(flow_file, **options)


def test_a_missing_flow_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='train_flow'):
        objective(tmp_path / 'none.safetensors')
    with pytest.raises(ValueError, match=r"needs a 'flow'; type objective_options\.flow=FILE"):
        build_objective('nflow_js', build_loss({'cross_entropy': 1.0}, {}), {})


def test_a_flow_file_gives_the_same_flow(flow_file: Path) -> None:
    flow = load_flow(flow_file)
    assert flow.options == DenseFlow(**TINY).options
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    again = load_flow(flow_file)
    values = []
    for model in (flow, again):
        torch.manual_seed(0)
        values.append(model.log_prob(images))
    assert torch.equal(*values)


def test_files_that_hold_no_flow_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({'a': torch.zeros(1)}, tmp_path / 'other.safetensors')
    with pytest.raises(ValueError, match='not of a flow'):
        load_flow(tmp_path / 'other.safetensors')
    (tmp_path / 'cut.safetensors').write_bytes(b'\0' * 200)
    with pytest.raises(ValueError, match=r'cut\.safetensors'):
        load_flow(tmp_path / 'cut.safetensors')


def test_unknown_flows_list_the_known() -> None:
    with pytest.raises(ValueError, match='denseflow_25_6, light'):
        build_flow('heavy')
    with pytest.raises(ValueError, match='widht'):
        build_flow('light', widht=3)


def test_pictures_before_and_after_show_the_same_latents(flow_file: Path, tmp_path: Path) -> None:
    nflow = objective(flow_file)
    assert isinstance(nflow, Reports)
    state = torch.random.get_rng_state()
    nflow.report(tmp_path, 'before')
    nflow.report(tmp_path, 'after')
    assert torch.equal(torch.random.get_rng_state(), state)
    before = read_image(tmp_path / 'flow_samples_before.png')
    assert before.shape == (4 * 66 + 2, 8 * 66 + 2, 3)
    assert (before == read_image(tmp_path / 'flow_samples_after.png')).all()
    assert (before[:2] == 255).all()
    assert np.std(before[2:66, 2:66]) > 1
    write_samples(nflow.flow, tmp_path / 'other.png', 1, 2, 16, seed=1)
    assert read_image(tmp_path / 'other.png').shape == (20, 38, 3)


def test_an_outlier_beside_the_patch_does_not_count() -> None:
    """Only the first image counts: its outlier lies beside the patch, the other one inside."""

    class Flow(nn.Module):
        def bits_per_dim(self, patches: Tensor) -> Tensor:
            return patches.float().flatten(1).mean(1)

    objective = NFlowJS.__new__(NFlowJS)
    nn.Module.__init__(objective)
    objective.flow = Flow()
    region, outlier = torch.zeros(2, 2, 1, 4, dtype=torch.bool)
    region[:, :, :2] = True
    outlier[0, :, 3] = outlier[1, :, 0] = True
    patches = torch.tensor([[[[3]]], [[[9]]]], dtype=torch.uint8)
    assert objective._bits(patches, outlier, region).item() == 3
