"""The void channel, hand-worked on one pixel."""

import pytest
import torch

from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models.forward import split_void


def pixel(*values):
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    ('raw', 'void_index'),
    [((1, 2, 3, 9), 3), ((9, 1, 2, 3), 0), ((1, 9, 2, 3), 1)],
    ids=['void last', 'void first', 'void between'],
)
def test_classes_come_out_in_train_id_order_with_void_apart(raw, void_index):
    output = split_void(ModelOutput(pixel(*raw)), void_index)
    assert output.logits.flatten().tolist() == [1, 2, 3]
    assert output.logits.shape == (1, 3, 1, 1)
    assert output.void_logit.flatten().tolist() == [9]
    assert output.void_logit.shape == (1, 1, 1, 1)


def test_void_first_equals_rolling_by_one_and_slicing():
    raw = torch.randn(2, 20, 4, 6)
    rolled = raw.roll(-1, dims=1)
    output = split_void(ModelOutput(raw), 0)
    assert torch.equal(output.logits, rolled[:, :19])
    assert torch.equal(output.void_logit, rolled[:, 19:])


def test_road_is_class_0_though_the_network_calls_it_1():
    unlabeled_road_sidewalk = pixel(0, 5, 1)
    assert int(split_void(ModelOutput(unlabeled_road_sidewalk), 0).logits.argmax(1)) == 0


def test_without_void_nothing_changes():
    output = ModelOutput(pixel(1, 2, 3), features={'last': pixel(4)})
    assert split_void(output, None) is output


def test_features_stay_and_auxiliary_logits_lose_the_channel_too():
    output = ModelOutput(pixel(1, 2, 9), features={'last': pixel(4)}, aux_logits=(pixel(5, 6, 7),))
    split = split_void(output, 2)
    assert split.features is output.features
    assert split.aux_logits[0].flatten().tolist() == [5, 6]


@pytest.mark.parametrize('index', [3, -1])
def test_a_channel_that_is_not_there_is_an_error(index):
    with pytest.raises(ValueError, match=f'void_index {index} is outside of the 3 channels'):
        split_void(ModelOutput(pixel(1, 2, 3)), index)
