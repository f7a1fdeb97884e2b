"""`dnp` and `cdnp`: against the equations written out, and the bank that `fit_score` builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.model_output import Extent, ModelOutput
from anomaly_seg_ros.models.parts.taps import as_map
from anomaly_seg_ros.scores import build_score, check_options, SCORES
from anomaly_seg_ros.scores.parts import neighbours
from anomaly_seg_ros.scores.parts.cell_sample import CellSample
from anomaly_seg_ros.scores.parts.feature_bank import (
    BLOCK,
    blocks_of,
    cell_labels,
    EnergyBank,
    FeatureBank,
    furthest_points,
)
from anomaly_seg_ros.scores.parts.feature_grid import gridded
from training.bench.peak import PeakGrowth
from training.fitting.score_option import parse_option

DEPTH, CLASSES = 6, 3
CELLS = (7, 9)
STRIDE = 4
SIZE = (CELLS[0] * STRIDE - 2, CELLS[1] * STRIDE - 1)
"""Of the image; the network saw a border of 2 and 1 pixels more."""


def frame(seed: int, count: int = 1) -> ModelOutput:
    """Output of a network whose features lie at a quarter of the size, smooth as real ones."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, DEPTH, 3, 4, generator=generator)
    last = torch.nn.functional.interpolate(coarse, CELLS, mode='bicubic')
    return ModelOutput(
        3 * torch.randn(count, CLASSES, *SIZE, generator=generator),
        features={'last': last, 'deep': coarse},
        extent=Extent(SIZE, (CELLS[0] * STRIDE, CELLS[1] * STRIDE)),
    )


def labels(seed: int) -> Any:
    found = np.random.default_rng(seed).integers(0, CLASSES, SIZE).astype(np.uint8)
    found[:9] = 255
    return found


def fitted(kind: Any = FeatureBank, frames: int = 30, **options: Any) -> dict[str, torch.Tensor]:
    """Statistics as a score reads them from a checkpoint."""
    fit = kind(CLASSES, ('road', 'car', 'sky'), grid=STRIDE, **options)
    for seed in range(frames):
        fit.update(frame(seed), labels(seed))
    return {name: value.float() for name, value in fit.compute().items()}


def plain(statistics: dict[str, torch.Tensor]) -> torch.Tensor:
    """The vectors of a bank as a list (n, D)."""
    rows = [
        block[: int(count)]
        for block, count in zip(statistics['bank'], statistics['counts'], strict=True)
    ]
    return torch.cat(rows) + statistics['centre']


def literal(vector: Any, bank: Any, k: int) -> float:
    """The mean Euclidean distance to the k nearest, as the paper says it."""
    distances = sorted(float(((vector - other) ** 2).sum() ** 0.5) for other in bank)
    return sum(distances[:k]) / k


@pytest.mark.parametrize('k', [1, 3])
def test_the_distance_is_that_of_the_equation(k: int) -> None:
    statistics = fitted(k=k, bank_size=300)
    options = {'k': k, 'grid': STRIDE, 'search': 'exact', 'enlarge': 'nearest'}
    output = frame(100, 2)
    score = build_score('dnp', 'made', (), statistics=statistics, options=options)(output)
    assert score.shape == (2, *SIZE)
    bank = plain(statistics).double()
    for batch, y, x in ((0, 0, 0), (1, 3, 5), (0, 6, 8), (1, 2, 8)):
        vector = output.features['last'][batch, :, y, x].double()
        expected = literal(vector, bank, k)
        cell = score[batch, y * STRIDE : (y + 1) * STRIDE, x * STRIDE : (x + 1) * STRIDE]
        assert cell.flatten().tolist() == pytest.approx([expected] * cell.numel(), rel=1e-5)


@pytest.mark.parametrize('name', ['dnp', 'cdnp'])
def test_pixels_behind_the_last_cell_have_its_value(name: str) -> None:
    """A network without padding has fewer cells than its image has strides."""
    height, width = (side * STRIDE for side in CELLS)
    logits = torch.zeros(1, CLASSES, height + 2, width + 1)
    kind = {'dnp': FeatureBank, 'cdnp': EnergyBank}[name]
    options = {'grid': STRIDE, 'search': 'exact', 'enlarge': 'nearest'}
    given = {'logits'}
    measure = build_score(name, 'made', given, statistics=fitted(kind), options=options)
    score = measure(ModelOutput(logits, features=frame(100).features))
    assert score.shape == (1, height + 2, width + 1)
    seen = measure(ModelOutput(logits[..., :height, :width], features=frame(100).features))
    assert torch.equal(score[:, :height, :width], seen)
    assert torch.equal(score[:, height:], score[:, height - 1 : height].expand(-1, 2, -1))
    assert torch.equal(score[..., width], score[..., width - 1])


def test_the_parts_of_the_bank_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running top-k over parts of any size is the top-k of all."""
    statistics = fitted(bank_size=300)
    options = {'grid': STRIDE, 'search': 'exact'}
    score = build_score('dnp', 'made', (), statistics=statistics, options=options)
    whole = score(frame(100))
    for part in (3, 50, 299):
        monkeypatch.setattr(neighbours, 'PART', part * CELLS[0] * CELLS[1])
        assert torch.allclose(score(frame(100)), whole, atol=1e-6)


def test_its_own_features_have_no_distance() -> None:
    statistics = fitted(frames=1, k=1)
    options = {'k': 1, 'grid': STRIDE, 'search': 'exact', 'enlarge': 'nearest'}
    score = build_score('dnp', 'made', (), statistics=statistics, options=options)(frame(0))
    known = cell_labels(labels(0), CELLS, STRIDE) != 255
    cells = score[0, ::STRIDE, ::STRIDE][torch.from_numpy(known)]
    assert cells.max() < 0.01
    assert score.max() > 0.1, 'those without a label are not in the bank'


def test_tiles_find_almost_what_the_whole_bank_has() -> None:
    statistics = fitted(frames=100)
    assert len(statistics['bank']) > 4 * neighbours.LEAST
    whole, tiles = (
        build_score('dnp', 'made', (), statistics=statistics, options={'grid': 4, 'search': how})
        for how in ('exact', 'tiles')
    )
    output = frame(100, 3)
    assert not tiles.exact  # type: ignore[attr-defined]
    exact, near = whole(output), tiles(output)
    assert bool((near >= exact - 1e-5).all()), 'what is left out cannot be nearer'
    assert (near - exact).mean() < 0.03 * exact.mean()
    ranks = [values.flatten().argsort().argsort().double() for values in (exact, near)]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.99


def test_what_fills_a_block_is_no_neighbour() -> None:
    statistics = fitted(frames=100)
    assert statistics['counts'].min() < statistics['bank'].shape[1]
    whole, tiles = (
        build_score('dnp', 'made', (), statistics=statistics, options={'grid': 4, 'search': how})
        for how in ('exact', 'tiles')
    )
    # Blocks are filled with zeros, which is where the mean of all vectors lies.
    output = frame(100)
    output.features['last'][:] = statistics['centre'][:, None, None]
    exact = whole(output)
    assert exact.min() > 1e-3
    assert bool((tiles(output) >= exact - 1e-5).all())


def test_the_sum_is_that_of_the_equation() -> None:
    statistics = fitted(EnergyBank, bank_size=300)
    options = {'grid': STRIDE, 'search': 'exact'}
    output = frame(100)
    whole = {**options, 'energy_step': 1}
    summed = build_score('cdnp', 'made', {'logits'}, statistics=statistics, options=whole)
    alone = {name: statistics[name] for name in ('bank', 'counts', 'centre')}
    distance = build_score('dnp', 'made', (), statistics=alone, options=options)(output)
    low, high, furthest = statistics['limits'].tolist()
    frames = [1 - frame(seed).given('logits').logsumexp(1) for seed in range(30)]
    assert low == pytest.approx(min(float(energy.min()) for energy in frames))
    assert high == pytest.approx(max(float(energy.max()) for energy in frames))
    energy = 1 - output.given('logits').logsumexp(1)
    expected = (energy - low) / (high - low) + distance / furthest
    assert torch.allclose(summed(output), expected, atol=1e-5)
    for step, chosen in ((2, options), (4, {**options, 'energy_step': 4})):
        coarse = build_score('cdnp', 'made', {'logits'}, statistics=statistics, options=chosen)
        found, every = coarse(output), (..., slice(None, None, step), slice(None, None, step))
        assert torch.allclose(found[every], expected[every], atol=1e-5)
        assert not torch.allclose(found, expected, atol=1e-5)


def of_masks(output: ModelOutput) -> ModelOutput:
    """The same frame by a network with masks, whose semantics stand for `exp(logits)`."""
    return output._replace(logits=None, semantics=output.given('logits').exp())


def test_a_network_with_masks_has_the_energy_of_its_semantics() -> None:
    statistics, fit = fitted(EnergyBank, bank_size=300), EnergyBank(CLASSES, grid=STRIDE)
    for seed in range(30):
        fit.update(of_masks(frame(seed)), labels(seed))
    assert fit.compute()['limits'][:2].tolist() == pytest.approx(
        statistics['limits'][:2].tolist(), abs=1e-4
    )
    for step in (1, 4):
        options = {'grid': STRIDE, 'energy_step': step}
        score = build_score('cdnp', 'made', {'semantics'}, statistics=statistics, options=options)
        output = frame(100)
        torch.testing.assert_close(score(of_masks(output)), score(output), atol=1e-4, rtol=1e-4)


def test_the_largest_distance_is_that_of_the_drawn_ones_to_each_other() -> None:
    fit = EnergyBank(CLASSES, grid=STRIDE, bank_size=50)
    vectors = []
    for seed in range(4):
        fit.update(frame(seed), labels(seed))
        known = torch.from_numpy(cell_labels(labels(seed), CELLS, STRIDE).ravel() != 255)
        vectors.append(frame(seed).features['last'][0].flatten(1).T[known])
    every = torch.cat(vectors).half().double()
    means = [
        literal(vector, torch.cat([every[:i], every[i + 1 :]]), 3)
        for i, vector in enumerate(every)
    ]
    # Of all that were drawn, not of the fifty in the bank.
    assert fit.furthest() == pytest.approx(max(means), rel=1e-4)


def test_the_bank_is_a_fair_share_of_the_labelled_cells() -> None:
    whole = plain(fitted(frames=4, bank_size=10_000))
    part = plain(fitted(frames=4, bank_size=100))
    counts = [(cell_labels(labels(seed), CELLS, STRIDE) != 255).sum() for seed in range(4)]
    assert len(whole) == sum(counts)
    assert len(part) == 100
    gaps = torch.cdist(part, whole).amin(1)
    assert gaps.max() < 0.01, 'they are some of those'
    order = torch.cdist(part, whole).argmin(1)
    assert len(order.unique()) == 100, 'none twice'
    again = plain(fitted(frames=4, bank_size=100))
    assert torch.equal(part, again)
    assert not torch.equal(part, plain(fitted(frames=4, bank_size=100, seed=1)))


def test_each_frame_has_its_share_of_a_sample() -> None:
    """Of ten frames of 200 cells that come one after the other 500 cells: about 50 of each."""
    sample = CellSample(500, 0)
    for number in range(10):
        sample.add(torch.full((200, 1), float(number)))
    drawn = sample.drawn().flatten().int()
    # Drawn without replacement their deviation is sqrt(500 x 0.1 x 0.9 x 0.75) = 5.8.
    assert (torch.bincount(drawn, minlength=10) - 50).abs().max() <= 20
    # In random order the first half is as fair as all.
    assert (torch.bincount(drawn[:250], minlength=10) - 25).abs().max() <= 20


def test_only_the_wanted_classes_are_taken() -> None:
    road = [(cell_labels(labels(seed), CELLS, STRIDE) == 0).sum() for seed in range(4)]
    assert len(plain(fitted(frames=4, only='road'))) == sum(road)
    cars = [(cell_labels(labels(seed), CELLS, STRIDE) == 1).sum() for seed in range(4)]
    assert len(plain(fitted(frames=4, only='road, car'))) == sum(road) + sum(cars)


def test_each_of_a_coreset_is_the_furthest_from_those_before() -> None:
    vectors = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    rows = furthest_points(vectors, 12).tolist()
    assert rows[0] == 0
    for number in range(1, 12):
        nearest = torch.cdist(vectors, vectors[rows[:number]]).amin(1)
        assert nearest[rows[number]] == pytest.approx(float(nearest.max()), rel=1e-5)
    wide = torch.randn(60, 200, generator=torch.Generator().manual_seed(1))
    assert len(set(furthest_points(wide, 60).tolist())) == 60
    assert len(plain(fitted(frames=4, subsample='coreset', bank_size=40))) == 40


def test_blocks_hold_each_vector_once_and_are_small() -> None:
    vectors = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    blocks = blocks_of(vectors)
    assert sorted(torch.cat(blocks).tolist()) == list(range(1000))
    assert max(map(len, blocks)) <= BLOCK
    assert 1000 / BLOCK < len(blocks) < 3 * 1000 / BLOCK
    spread = torch.stack([vectors[rows].var(0).sum() for rows in blocks]).mean()
    assert spread < 0.5 * vectors.var(0).sum()
    # Vectors that are all the same are parted too.
    assert max(map(len, blocks_of(torch.zeros(200, 5)))) <= BLOCK


def test_finer_features_are_averaged_over_cells_and_coarser_ones_enlarged() -> None:
    output = frame(0)
    cells, stride = gridded(output, ('last',), 8)
    assert (stride, tuple(cells.shape)) == (8, (1, DEPTH, 4, 5))
    last = output.features['last']
    assert torch.allclose(cells[..., 1, 2], last[..., 2:4, 4:6].mean((2, 3)), atol=1e-6)
    assert torch.allclose(cells[..., 3, 4], last[..., 6, 8], atol=1e-6)
    both, stride = gridded(output, ('last', 'deep'), 4)
    assert (stride, tuple(both.shape)) == (4, (1, 2 * DEPTH, *CELLS))
    assert torch.equal(both[:, :DEPTH], last)


def test_cells_in_the_border_have_no_class() -> None:
    found = cell_labels(np.zeros((10, 9), np.uint8), (3, 3), 4)
    assert found.tolist() == [[0, 0, 255], [0, 0, 255], [255, 255, 255]]


def test_tokens_become_the_map_of_their_patches() -> None:
    tokens = torch.arange(2 * 8 * 3.0).view(2, 8, 3)
    for extra in (0, 1, 2):
        more = torch.cat([torch.full((2, extra, 3), -1.0), tokens], 1)
        found = as_map(more, 'keys', (32, 64))
        assert found.shape == (2, 3, 2, 4)
        assert torch.equal(found[1, :, 1, 2], tokens[1, 6])
    with pytest.raises(ValueError, match=r"layer 'keys' gives \(2, 8, 3\) for images of 33x64"):
        as_map(tokens, 'keys', (33, 64))


def test_options_and_banks_that_do_not_fit_are_named() -> None:
    statistics = fitted(bank_size=20)

    def build(**options: Any) -> Any:
        return build_score('dnp', 'made', (), statistics=statistics, options=options)

    with pytest.raises(ValueError, match='k 21 must lie between 1 and the 20 vectors'):
        build(k=21)
    with pytest.raises(ValueError, match="unknown search 'ivf'; choose one of: tiles, exact"):
        build(search='ivf')
    with pytest.raises(ValueError, match="unknown enlarge 'cubic'; choose one of: bilinear"):
        build(enlarge='cubic')
    with pytest.raises(ValueError, match=r'vectors of 6 features, last\+deep of this network has'):
        build(layer='last+deep', grid=4)(frame(0))
    with pytest.raises(ValueError, match=r'must be \(M, L, D\), \(M,\) and \(D,\)'):
        build_score('dnp', 'made', (), statistics={**statistics, 'centre': torch.zeros(5)})
    with pytest.raises(ValueError, match=r"limits \(2,\) of score 'cdnp' must be \(3,\)"):
        build_score(
            'cdnp', 'made', {'logits'}, statistics={**statistics, 'limits': torch.zeros(2)}
        )
    with pytest.raises(ValueError, match="unknown option 'bank' of score 'dnp'; it takes: bank_"):
        check_options('dnp', {'bank': 3})
    with pytest.raises(ValueError, match="unknown preset of score 'cdnp' 'slow'; choose one of"):
        parse_option('cdnp.preset=slow')
    assert parse_option('cdnp.preset=fast')[1] == {
        'bank_size': 4000,
        'subsample': 'coreset',
        'grid': 32,
        'energy_step': 8,
    }
    assert {'cdnp', 'dnp'} <= SCORES.keys()


@pytest.mark.parametrize(
    ('options', 'what'),
    [
        ({'bank_size': 2}, 'a bank of 2 vectors has no 3 nearest'),
        ({'k': 0}, 'has no 0 nearest'),
        ({'subsample': 'kmeans'}, "unknown subsample 'kmeans'; choose one of: random, coreset"),
        ({'only': 'rod'}, "no class 'rod' in this checkpoint; did you mean 'road'"),
        ({'only': 'sky', 'frames': 0}, 'no pixel of the classes sky in these frames'),
        ({'frames': 0}, 'no pixel with a class in these frames'),
        ({'frames': 1, 'k': 60}, 'cells of these frames can be taken, too few for 60 nearest'),
    ],
)
def test_banks_that_cannot_be_built_are_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        fitted(**options)


def test_equal_features_or_energies_are_refused() -> None:
    fit = EnergyBank(CLASSES, grid=STRIDE)
    same = frame(0)._replace(features={'last': torch.ones(1, DEPTH, *CELLS)})
    fit.update(same, np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match='features last are the same in all cells'):
        fit.compute()
    fit = EnergyBank(CLASSES, grid=STRIDE)
    flat = frame(0)._replace(logits=torch.zeros(1, CLASSES, *SIZE))
    fit.update(flat, np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match='the energy is the same on all pixels'):
        fit.compute()
    with pytest.raises(ValueError, match='features go beyond 65504'):
        fit.update(flat._replace(features={'last': torch.full((1, 6, *CELLS), 1e5)}), labels(0))


def test_what_is_kept_does_not_grow_with_the_frames() -> None:
    assert [len(plain(fitted(frames=n, bank_size=96))) for n in (9, 60)] == [96, 96]


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='Linux alone can say it')
@pytest.mark.parametrize('vectors', [50_000, 400_000])
def test_comparing_with_all_takes_no_more_memory_for_a_larger_bank(vectors: int) -> None:
    bank = torch.randn(vectors, 16)
    cells, squares = torch.randn(1, 16, 24, 30), bank.square().sum(1)
    neighbours.exact(cells, bank[:9], squares[:9], 3)
    peak = PeakGrowth()
    neighbours.exact(cells, bank, squares, 3)
    # All distances of the larger bank would be 1152 MB.
    assert peak.megabytes() < 200
