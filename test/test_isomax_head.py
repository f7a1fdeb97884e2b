"""The IsoMax+ layer: worked distances, bounds, gradients, and safety where features are zero."""

import math

import pytest
import torch

from anomaly_seg_ros.models.parts.isomax_head import IsoMaxHead


def head_with(prototypes, scale=1.0, enlarge=1):
    prototypes = torch.tensor(prototypes)
    head = IsoMaxHead(prototypes.shape[1], prototypes.shape[0], enlarge)
    with torch.no_grad():
        head.prototypes.copy_(prototypes)
        head.distance_scale.fill_(scale)
    return head


def pixel(*values):
    return torch.tensor(values).view(1, -1, 1, 1)


@pytest.mark.parametrize('scale', [1.0, -2.5])
def test_logits_are_minus_the_distances_on_the_unit_sphere(scale):
    # (3, 4) is (0.6, 0.8) at length 1; the prototypes are (0, 1), (-1, 0) and (-0.6, -0.8).
    head = head_with([[0.0, 7.0], [-0.5, 0.0], [-6.0, -8.0]], scale)
    expected = [math.hypot(0.6, -0.2), math.hypot(1.6, 0.8), 2.0]
    logits = head(pixel(3.0, 4.0)).flatten().tolist()
    assert logits == pytest.approx([-abs(scale) * distance for distance in expected], rel=1e-6)


def test_the_length_of_a_feature_or_a_prototype_changes_nothing():
    torch.manual_seed(0)
    head, features = IsoMaxHead(6, 4), torch.randn(2, 6, 3, 5)
    logits = head(features)
    torch.testing.assert_close(head(100 * features), logits)
    with torch.no_grad():
        head.prototypes.mul_(torch.tensor([0.1, 3.0, 50.0, 1.0])[:, None])
    torch.testing.assert_close(head(features), logits)


def test_logits_lie_between_0_and_minus_twice_the_scale():
    torch.manual_seed(0)
    head = IsoMaxHead(16, 19)
    features = torch.randn(1, 16, 40, 40) * torch.logspace(-12, 12, 1600).view(1, 1, 40, 40)
    # A prototype itself, and its opposite, reach the ends.
    features[0, :, 0, 0], features[0, :, 0, 1] = head.prototypes[3], -head.prototypes[3]
    with torch.no_grad():
        head.distance_scale.fill_(-1.5)
        logits = head(features)
    assert logits.max() <= 0
    assert logits.min() >= -3.0001
    assert logits[0, 3, 0, 0] == pytest.approx(0, abs=2e-3)
    assert logits[0, 3, 0, 1] == pytest.approx(-3, abs=1e-4)


def test_prototypes_begin_as_standard_normal_numbers_and_the_scale_as_1():
    torch.manual_seed(0)
    head = IsoMaxHead(500, 200)
    assert head.prototypes.shape == (200, 500)
    assert float(head.prototypes.detach().mean()) == pytest.approx(0, abs=0.02)
    assert float(head.prototypes.detach().std()) == pytest.approx(1, abs=0.02)
    assert head.distance_scale.tolist() == [1]
    assert len(list(head.parameters())) == 2


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    head = IsoMaxHead(3, 4, enlarge=2).double()
    features = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)

    def logits(features, prototypes, scale):
        given = {'prototypes': prototypes, 'distance_scale': scale}
        return torch.func.functional_call(head, given, (features,))

    assert torch.autograd.gradcheck(logits, (features, head.prototypes, head.distance_scale))


@pytest.mark.parametrize('length', [1e-3, 1e-4, 1e-8, 1e-11])
def test_short_features_count_by_their_direction_too(length):
    # As F.normalize in the original, which leaves alone what is shorter than 1e-12.
    torch.manual_seed(0)
    head, features = IsoMaxHead(6, 4), torch.randn(2, 6, 3, 5)
    short = (length * features).requires_grad_()
    torch.testing.assert_close(head(short), head(features))
    unit, prototypes = (torch.nn.functional.normalize(x) for x in (short, head.prototypes))
    gap = unit[:, None] - prototypes[None, :, :, None, None]
    distances = torch.linalg.vector_norm(gap, dim=2)
    torch.testing.assert_close(head(short), -distances)
    (expected,) = torch.autograd.grad(-distances.square().sum(), short)
    (found,) = torch.autograd.grad(-head(short).square().sum(), short)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_where_features_are_zero_all_classes_are_equally_far_and_gradients_are_finite():
    head = head_with([[1.0, 0.0], [0.0, -1.0], [0.6, 0.8]])
    features = torch.zeros(1, 2, 1, 1, requires_grad=True)
    logits = head(features)
    assert logits.flatten().tolist() == pytest.approx([-1] * 3)
    logits[0, 0].sum().backward()
    for tensor in (features, *head.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() < 1e4


def test_on_a_prototype_itself_gradients_are_finite():
    head = head_with([[0.6, 0.8], [0.0, -1.0]])
    features = pixel(0.6, 0.8).requires_grad_()
    head(features).sum().backward()
    for tensor in (features, *head.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() < 1e4


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_under_autocast_the_distances_are_computed_in_float32(dtype):
    torch.manual_seed(0)
    head, features = IsoMaxHead(16, 19), torch.randn(2, 16, 8, 8).to(dtype)
    expected = head(features.float())
    with torch.autocast('cpu', dtype):
        logits = head(features)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, expected)
    huge = torch.full((1, 16, 1, 1), 1000.0).to(dtype)
    with torch.autocast('cpu', dtype):
        logits = head(huge)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert head.prototypes.grad.isfinite().all()


def test_enlarging_is_bilinear_and_comes_after_the_distances():
    torch.manual_seed(0)
    head, features = IsoMaxHead(5, 3, enlarge=2), torch.randn(1, 5, 4, 6)
    logits = head(features)
    head.enlarge = 1
    small = head(features)
    assert small.shape == (1, 3, 4, 6)
    expected = torch.nn.functional.interpolate(small, scale_factor=2, mode='bilinear')
    assert torch.equal(logits, expected)


def test_the_exported_graph_is_made_of_plain_operators():
    program = torch.export.export(IsoMaxHead(5, 3, enlarge=2).eval(), (torch.randn(1, 5, 4, 6),))
    names = {str(node.target) for node in program.graph.nodes if node.op == 'call_function'}
    assert not [name for name in names if not name.startswith('aten.')]
    assert 'aten.conv2d.default' in names
    assert not [name for name in names if 'cdist' in name]
