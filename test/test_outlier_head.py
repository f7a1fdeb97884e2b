"""The outlier head: its values, its enlargement, and that it leaves the other logits alone."""

import pytest
import torch
from torch.nn import functional

from anomaly_seg_ros.checkpoint.weights import load_state
from anomaly_seg_ros.models import build_model
from anomaly_seg_ros.models.parts.outlier_head import OutlierHead


def test_it_is_norm_relu_and_convolution_of_each_pixel():
    head = OutlierHead(2).eval()
    with torch.no_grad():
        head.norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
        head.norm.running_var.copy_(torch.tensor([4.0, 9.0]) - head.norm.eps)
        head.conv.weight.copy_(torch.tensor([[1.0, 10.0], [-2.0, 5.0]]).view(2, 2, 1, 1))
        head.conv.bias.copy_(torch.tensor([0.5, -0.5]))
        # Normed (2, -1) and after the ReLU (2, 0).
        logits = head(torch.tensor([5.0, -1.0]).view(1, 2, 1, 1), 1)
    assert logits.flatten().tolist() == pytest.approx([2.5, -4.5])


@pytest.mark.parametrize('enlarge', [1, 2, 8])
def test_enlarging_is_bilinear(enlarge):
    torch.manual_seed(0)
    head, features = OutlierHead(6).eval(), torch.randn(2, 6, 5, 7)
    small = head(features, 1)
    expected = functional.interpolate(small, scale_factor=float(enlarge), mode='bilinear')
    torch.testing.assert_close(head(features, enlarge), expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_under_autocast_it_stays_close_and_its_gradients_finite(dtype):
    torch.manual_seed(0)
    head, features = OutlierHead(6), torch.randn(2, 6, 5, 7, requires_grad=True)
    expected = head(features, 2)
    with torch.autocast('cpu', dtype):
        logits = head(features, 2)
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.05)
    logits.float().square().sum().backward()
    assert features.grad.isfinite().all()
    assert head.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name', ['bisenetv2', 'erfnet'])
def test_weights_without_it_load_strictly_and_give_the_same_logits_beside_it(name):
    torch.manual_seed(0)
    plain = build_model(name, 5, preset='tiny').eval()
    assert 'ood_logits' not in plain.provides
    assert not [key for key in plain.state_dict() if 'ood' in key]
    headed = build_model(name, 5, {'outlier_head': True}, preset='tiny').eval()
    assert 'ood_logits' in headed.provides
    assert 'ood_logits' not in type(headed).provides
    with pytest.raises(ValueError, match=r'keys missing .logits_ood'):
        load_state(headed, plain.state_dict(), 'the file')
    own = {key: value for key, value in headed.state_dict().items() if 'logits_ood' in key}
    load_state(headed, {**own, **plain.state_dict()}, 'the file')
    images = torch.randn(1, 3, 32, 64)
    with torch.inference_mode():
        assert torch.equal(headed(images).logits, plain(images).logits)


def test_the_exported_head_computes_the_same_in_openvino():
    import openvino

    from anomaly_seg_ros.engines.openvino_engine import load_cpu

    torch.manual_seed(0)
    head, features = OutlierHead(6).eval(), torch.randn(1, 6, 5, 7)

    class Enlarged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = head

        def forward(self, features):
            return self.head(features, 8)

    program = torch.export.export(Enlarged().eval(), (features,))
    model = openvino.convert_model(program)
    compiled = load_cpu().compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    expected = head(features, 8).detach()
    torch.testing.assert_close(torch.from_numpy(compiled(features.numpy())[0]), expected)
