import math

import pytest
import torch
from torch import nn, Tensor

from training.flows import augmentation
from training.flows.actnorm import ActNorm
from training.flows.augmentation import CrossUnitAugmentation, log_normal
from training.flows.block import DenseFlowBlock, InvertibleConv
from training.flows.coupling import AffineCoupling
from training.flows.denseflow import DenseFlow

TINY = {'blocks': (2, 1, 1), 'steps': (1, 1, 1), 'added': 2, 'hidden': 4, 'depth': 1, 'growth': 4}
NO_AUGMENTATION = TINY | {'blocks': (1, 1, 1)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def shaken(module: nn.Module, amount: float = 0.1) -> nn.Module:
    """Moves every parameter, as zero-initialised layers hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return module.eval()


def log_det(jacobian: Tensor) -> Tensor:
    return torch.linalg.slogdet(jacobian).logabsdet


@pytest.mark.parametrize('make', [
    lambda: ActNorm(4),
    lambda: InvertibleConv(4),
    lambda: AffineCoupling(4, 4, 1, 4),
    lambda: AffineCoupling(5, 4, 1, 4),
    lambda: DenseFlowBlock(4, 1, 2, 2, 4, 1, 4, checkpointing=False),
])  # fmt: skip
def test_each_step_inverts_and_its_log_det_is_that_of_the_jacobian(make) -> None:  # type: ignore[no-untyped-def]
    step = shaken(make()).double()
    channels = 5 if getattr(step, 'read', 0) == 3 else 4
    x = torch.randn(2, channels, 2, 3, dtype=torch.float64)
    z, log_dets = step(x)
    torch.testing.assert_close(step.inverse(z), x)
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda v: step(v[None])[0][0], x[i])
        size = x[i].numel()
        torch.testing.assert_close(log_dets[i], log_det(jacobian.reshape(size, size)))
    assert log_dets.abs().min() > 1e-3


def test_coupling_by_hand() -> None:
    coupling = AffineCoupling(2, 1, 0, 1)
    coupling.net = nn.Conv2d(1, 2, 1)  # type: ignore[assignment]
    with torch.no_grad():
        coupling.net.weight.copy_(torch.tensor([[[[1.0]]], [[[3.0]]]]))
        coupling.net.bias.zero_()
    # x1 = 0.5: log scale 2 tanh(0.25), shift 1.5; the halves change places.
    z, gain = coupling(torch.tensor([[[[0.5]], [[2.0]]]]))
    scale = 2 * math.tanh(0.25)
    assert z.flatten().tolist() == pytest.approx([2 * math.exp(scale) + 1.5, 0.5])
    assert gain.item() == pytest.approx(scale)


def test_a_new_coupling_changes_nothing_but_the_order() -> None:
    x = torch.randn(1, 4, 3, 3)
    z, gain = AffineCoupling(4, 8, 2, 4)(x)
    assert (z == x[:, [2, 3, 0, 1]]).all()
    assert gain.item() == 0


def test_a_batch_of_one_value_sets_a_finite_norm() -> None:
    z, gain = ActNorm(2).train()(torch.tensor([[[[3.0]], [[-4.0]]]]))
    assert z.flatten().tolist() == [0, 0]
    assert gain.isfinite().all()


def test_actnorm_takes_its_statistics_from_the_first_training_batch_alone() -> None:
    norm = ActNorm(2)
    first = torch.randn(8, 2, 16, 16) * torch.tensor([3.0, 0.1]).view(1, 2, 1, 1) + 5
    norm.eval()
    assert (norm(first)[0] == first).all()
    norm.train()
    z, gain = norm(first)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    spread = first.std((0, 2, 3), correction=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(gain, -256 * spread.log().sum().expand(8))
    assert norm(first + 1)[0].mean() > 0.3
    restored = ActNorm(2)
    restored.load_state_dict(norm.state_dict())
    assert (restored(first + 1)[0] == norm(first + 1)[0]).all()


def test_log_normal_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    expected = [-2.5 - math.log(2 * math.pi), -math.log(2 * math.pi)]
    assert log_normal(x).tolist() == pytest.approx(expected)


def test_augmentation_adds_noise_of_known_density() -> None:
    step = CrossUnitAugmentation(1, 1)
    torch.manual_seed(3)
    new, gain = step(torch.zeros(2, 1, 1, 1))
    # Untrained: mean 0, scale 1; the gain is minus the noise's log-density.
    torch.testing.assert_close(gain, -log_normal(new))
    last = step.net[-1]
    with torch.no_grad():
        last.bias.copy_(torch.tensor([5.0, 1.0]))  # type: ignore[operator]
    torch.manual_seed(3)
    moved, moved_gain = step(torch.zeros(2, 1, 1, 1))
    scale = 2 * math.tanh(0.5)
    torch.testing.assert_close(moved, 5 + math.exp(scale) * new)
    torch.testing.assert_close(moved_gain, gain + scale)


@pytest.fixture
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What augmentations draw; a test sets its one element."""
    noise: list[Tensor] = []
    monkeypatch.setattr(augmentation, 'draw_noise', lambda like, channels: noise[0])
    return noise


def test_the_whole_change_of_variables(fixed_noise: list[Tensor]) -> None:
    """On a 3 x 8 x 8 image: (x, noise) to all latents has the Jacobian that `encode` says."""
    flow = shaken(DenseFlow(**TINY), 0.05).double()
    x = torch.rand(3 * 8 * 8, dtype=torch.float64) - 0.5
    noise = torch.randn(2 * 4 * 4, dtype=torch.float64)

    def encode(values: Tensor) -> tuple[Tensor, Tensor]:
        fixed_noise[:] = [values[192:].view(1, 2, 4, 4)]
        latents, gain = flow.encode(values[:192].view(1, 3, 8, 8))
        return torch.cat([latent.flatten() for latent in latents]), gain

    both = torch.cat([x, noise])
    latents, gain = encode(both)
    assert latents.numel() == 192 + 32
    jacobian = torch.autograd.functional.jacobian(lambda v: encode(v)[0], both)
    # What is gained beside the determinant is minus the noise's own log-density.
    torch.testing.assert_close(gain[0] + log_normal(noise[None])[0], log_det(jacobian))


def test_the_change_of_variables_without_augmentation() -> None:
    flow = shaken(DenseFlow(**NO_AUGMENTATION), 0.05).double()
    x = torch.rand(3 * 8 * 8, dtype=torch.float64) - 0.5

    def encode(values: Tensor) -> Tensor:
        latents, _ = flow.encode(values.view(1, 3, 8, 8))
        return torch.cat([latent.flatten() for latent in latents])

    _, gain = flow.encode(x.view(1, 3, 8, 8))
    jacobian = torch.autograd.functional.jacobian(encode, x)
    torch.testing.assert_close(gain[0], log_det(jacobian))


@pytest.mark.parametrize('preset', sorted(DenseFlow.presets))
def test_the_inverse_is_exact_in_float32(preset: str) -> None:
    flow = shaken(DenseFlow(**DenseFlow.presets[preset]), 0.01)
    x = torch.rand(1, 3, 16, 24) - 0.5
    with torch.no_grad():
        latents, _ = flow.encode(x)
        assert (flow.decode(latents) - x).abs().max() < 1e-4
        assert latents[-1].std() > 0.1


@pytest.mark.parametrize(
    ('options', 'count'),
    [
        (DenseFlow.presets['denseflow_25_6'], 35_736_742),
        ({'depth': 4, 'growth': 32}, 3_774_342),
        (DenseFlow.presets['light'], 1_432_320),
    ],
)
def test_published_parameter_counts(options: dict[str, object], count: int) -> None:
    with torch.device('meta'):
        flow = DenseFlow(**options)  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in flow.parameters()) == count


def test_the_default_is_denseflow_25_6() -> None:
    with torch.device('meta'):
        flow = DenseFlow()
    couplings = [m for m in flow.modules() if isinstance(m, AffineCoupling)]
    assert len(couplings) == 25
    widths = [unit.steps[0].shift.shape[1] for block in flow.blocks for unit in block.units]  # type: ignore[union-attr]
    assert widths == [12, 18, 24, 48, 54, 108]
    # Of the reference's 969 entries the other five are constants of its dequantisation,
    # its shift by one half and its two standard normals.
    assert len(flow.state_dict()) == 964


def test_untrained_bits_per_dimension() -> None:
    # By hand: 8 bits, and for x uniform in -1/2..1/2 under N(0, 1) (ln 2 pi / 2 + 1/24) / ln 2.
    expected = 8 + (0.5 * math.log(2 * math.pi) + 1 / 24) / math.log(2)
    assert expected == pytest.approx(9.386, abs=1e-3)
    flow = DenseFlow(**NO_AUGMENTATION).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert flow.bits_per_dim(images).tolist() == pytest.approx([expected] * 2, abs=0.02)
    assert flow.log_prob(images)[0].item() == pytest.approx(-expected * 12288 * math.log(2), 1e-2)


def test_an_untrained_denseflow_25_6_has_the_published_bits() -> None:
    # The added channels cost what they gain, so the mean is that of the images alone.
    flow = DenseFlow().eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        bits = flow.bits_per_dim(images).mean().item()
    assert bits == pytest.approx(9.39, abs=0.03)


def test_images_of_another_type_or_size_are_refused() -> None:
    flow = DenseFlow(**TINY)
    with pytest.raises(ValueError, match='uint8'):
        flow.log_prob(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r'use \(16, 8\)'):
        flow.log_prob(torch.zeros(1, 3, 12, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match='not divisible by 8'):
        flow.sample(1, 8, 20)
    with pytest.raises(ValueError, match='three numbers'):
        DenseFlow(blocks=(1, 1))


def test_samples_are_images_with_a_gradient_to_every_parameter() -> None:
    flow = shaken(DenseFlow(**NO_AUGMENTATION), 0.01).train()
    samples = flow.sample(2, 16, 24)
    assert samples.shape == (2, 3, 16, 24)
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert len(samples.unique()) > 300  # not rounded to levels
    samples.square().sum().backward()
    silent = [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_likelihood_has_a_gradient_to_every_parameter() -> None:
    flow = shaken(DenseFlow(**TINY), 0.05).train()
    flow.bits_per_dim(torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)).sum().backward()
    silent = [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_under_autocast_the_flow_computes_in_float32() -> None:
    flow = shaken(DenseFlow(**TINY))
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(1)
    plain = flow.log_prob(images), flow.sample(1, 16, 16)
    torch.manual_seed(1)
    with torch.autocast('cpu', torch.bfloat16):
        inside = flow.log_prob(images), flow.sample(1, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))


def test_checkpointing_gives_the_same_gradients() -> None:
    flow = shaken(DenseFlow(**TINY)).train()
    frugal = DenseFlow(**TINY, checkpointing=True)
    frugal.load_state_dict(flow.state_dict())
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    for model in (flow, frugal):
        torch.manual_seed(1)
        (model.bits_per_dim(images).sum() + model.sample(2, 8, 8).sum()).backward()
    for one, other in zip(flow.parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_training_lowers_the_bits() -> None:
    flow = DenseFlow(**TINY)
    optimizer = torch.optim.Adamax(flow.parameters(), 5e-3)
    images = torch.full((4, 3, 16, 16), 100, dtype=torch.uint8)
    images[:, :, 8:] = 160
    bits = []
    for _ in range(30):
        loss = flow.bits_per_dim(images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bits.append(loss.item())
    assert bits[-1] < bits[0] - 0.5
