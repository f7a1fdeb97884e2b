"""What any network returns: what its fields hold, and classes from the masks of queries."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.model_output import (
    class_probabilities,
    Extent,
    HOLDS,
    ModelOutput,
    over_tensors,
    QUERIES,
    to_image,
    with_semantics,
)
from anomaly_seg_ros.models.forward import forward_padded, run_fields, run_network, split_void
from anomaly_seg_ros.models.network import Network

BIG = 50.0
"""A logit that is as good as certain."""


def queries(*classes: list[float], masks: list[list[float]], **more: Any) -> ModelOutput:
    """Queries on an image of one row: logits of their classes, and of their mask's pixels."""
    mask_logits = torch.tensor(masks)[None, :, None]
    size = 1, mask_logits.shape[-1]
    return ModelOutput(
        class_logits=torch.tensor(classes)[None],
        mask_logits=mask_logits,
        extent=Extent(size, size),
        **more,
    )


def test_every_field_says_what_it_holds() -> None:
    assert tuple(HOLDS) == ModelOutput._fields
    for name, holds in HOLDS.items():
        assert not holds.void or holds.void in HOLDS, name


def test_a_field_is_given_by_its_name_and_a_feature_map_by_its_own() -> None:
    logits, stem = torch.zeros(1, 2, 3, 4), torch.ones(1, 5, 1, 1)
    output = ModelOutput(logits, features={'stem': stem})
    assert output.given('logits') is logits
    assert output.given('features.stem') is stem
    for name in ('ood_logits', 'features', 'features.last', 'logits.x', 'extent', 'nothing'):
        with pytest.raises(ValueError, match=f'{name} is needed, which this network does not'):
            output.given(name)
    assert ModelOutput().features == {}


def test_what_has_a_value_per_pixel_is_changed_and_nothing_else() -> None:
    maps = {name: torch.randn(1, 3, 4, 6) for name, holds in HOLDS.items() if holds.pixels}
    own = torch.randn(1, 3, 4, 6)
    output = ModelOutput(
        **{**maps, 'aux_logits': (maps['aux_logits'], own)},
        mask_logits=own,
        class_logits=own,
        features={'last': own},
    ).over_pixels(lambda values: values[..., :2, :5])
    for name, values in {**maps, 'aux_logits': maps['aux_logits']}.items():
        found = getattr(output, name)
        found = found[0] if isinstance(found, tuple) else found
        assert torch.equal(found, values[..., :2, :5]), name
    assert output.aux_logits[1].shape == (1, 3, 2, 5)
    assert output.mask_logits is output.class_logits is output.features['last'] is own


def test_a_change_reaches_every_tensor_of_a_value() -> None:
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    assert over_tensors(one, torch.neg).item() == -1
    assert [v.item() for v in over_tensors((one, two), torch.neg)] == [-1, -2]
    found = over_tensors({'a': one, 'b': two}, torch.neg)
    assert {k: v.item() for k, v in found.items()} == {'a': -1, 'b': -2}
    assert over_tensors(None, torch.neg) is None


# Classes from the masks of queries


def test_a_certain_query_with_a_whole_mask_is_its_class_everywhere() -> None:
    output = with_semantics(queries([0.0, BIG, 0.0], masks=[[BIG, BIG, BIG]]))
    assert output.semantics is not None
    torch.testing.assert_close(output.semantics[0, :, 0], torch.tensor([[0.0] * 3, [1.0] * 3]))
    assert output.class_maps is output.semantics


def test_queries_add_up_and_no_object_counts_for_nothing() -> None:
    # Softmax 1/2, 1/4, 1/4 and 1/4, 1/4, 1/2, the last of each is no object; masks 1/2 and 1.
    two, four = math.log(2), math.log(4)
    output = queries([two, 0.0, 0.0], [0.0, 0.0, two], masks=[[0.0, -BIG], [BIG, 0.0]])
    semantics = with_semantics(output).given('semantics')[0, :, 0]
    expected = [[1 / 4 + 1 / 4, 1 / 8], [1 / 8 + 1 / 4, 1 / 8]]
    torch.testing.assert_close(semantics, torch.tensor(expected))
    nothing = queries([0.0, 0.0, BIG], masks=[[BIG, four]])
    assert with_semantics(nothing).given('semantics').abs().max() < 1e-6


def test_void_takes_its_part_of_the_softmax_and_is_no_class() -> None:
    # Softmax over class, class, void, no object: 1/8, 2/8, 4/8, 1/8.
    output = queries([0.0, math.log(2), math.log(4), 0.0], masks=[[BIG]])
    split = split_void(output, 2)
    assert split.given('class_logits').flatten().tolist() == pytest.approx([0, math.log(2), 0])
    assert split.given('void_class_logit').flatten().tolist() == pytest.approx([math.log(4)])
    assert class_probabilities(split).flatten().tolist() == pytest.approx([1 / 8, 2 / 8])
    assert with_semantics(split).class_maps.flatten().tolist() == pytest.approx([1 / 8, 2 / 8])


def test_more_queries_than_are_held_at_a_time_are_one_sum() -> None:
    torch.manual_seed(0)
    count = 2 * QUERIES + 3
    output = ModelOutput(
        class_logits=3 * torch.randn(2, count, 6),
        mask_logits=3 * torch.randn(2, count, 4, 5),
        extent=Extent((13, 18), (16, 20)),
    )
    large = functional.interpolate(output.mask_logits, (16, 20), mode='bilinear').sigmoid()
    shares = output.class_logits.softmax(2)[..., :5]
    expected = torch.einsum('nqk,nqhw->nkhw', shares, large)[..., :13, :18]
    torch.testing.assert_close(with_semantics(output).semantics, expected)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(with_semantics(output).semantics, expected)


def test_dense_logits_need_no_semantics() -> None:
    output = ModelOutput(torch.zeros(1, 2, 3, 4))
    assert with_semantics(output) is output
    assert output.class_maps is output.logits
    with pytest.raises(ValueError, match='logits is needed'):
        _ = ModelOutput().class_maps


def test_maps_of_a_size_of_their_own_are_enlarged_to_the_padded_image_and_cut() -> None:
    maps = torch.arange(8.0).view(1, 1, 2, 4)
    whole = functional.interpolate(maps, (8, 16), mode='bilinear')
    assert torch.equal(to_image(maps, Extent((5, 13), (8, 16))), whole[..., :5, :13])


class Quarters(Network):
    """Two classes and void by masks on a quarter of the size, from the red channel."""

    provides = frozenset({'class_logits', 'mask_logits'})
    stride = 8

    def forward(self, images: Tensor) -> ModelOutput:
        red = functional.avg_pool2d(images[:, :1], 4)
        classes = BIG * torch.eye(4)[[0, 1, 2]].expand(len(images), 3, 4)
        masks = torch.cat([red, -red, red - 2], 1) * BIG
        return ModelOutput(class_logits=classes, mask_logits=masks)


def test_a_network_of_masks_runs_on_odd_sides_like_any_other() -> None:
    images = torch.full((2, 3, 13, 21), -1.0)
    images[..., 12:] = 1
    output = run_network(Quarters(), images, 2)
    assert output.extent == ((13, 21), (16, 24))
    assert output.given('mask_logits').shape == (2, 3, 4, 6)
    assert output.given('void_class_logit').shape == (2, 3, 1)
    assert output.class_maps.shape == (2, 2, 13, 21)
    labels = output.class_maps.argmax(1)
    assert (labels[..., :10] == 1).all()
    assert (labels[..., 14:] == 0).all()
    found = {name for name in HOLDS if isinstance(getattr(output, name), Tensor)}
    assert found == run_fields(Quarters(), 2)
    assert forward_padded(Quarters(), images).semantics is None
