"""`neco` against its equation written out with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anomaly_seg_ros.model_output import Extent, ModelOutput
from anomaly_seg_ros.scores import build_score
from anomaly_seg_ros.scores.parts.principal_components import PrincipalComponents

DEPTH, CLASSES, STRIDE = 5, 3, 4
CELLS = (6, 8)
SIZE = (23, 32)
MIXING = torch.randn(DEPTH, 2, generator=torch.Generator().manual_seed(9))


def frame(seed: int) -> ModelOutput:
    """Features that lie in two directions but for a little noise."""
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randn(1, 2, *CELLS, generator=generator)
    last = torch.einsum('dk,nkhw->ndhw', MIXING, inner)
    last = 7 + last + 0.2 * torch.randn(1, DEPTH, *CELLS, generator=generator)
    logits = 3 * torch.randn(1, CLASSES, *SIZE, generator=generator)
    return ModelOutput(logits, features={'last': last}, extent=Extent(SIZE, (24, 32)))


def cells_of(output: ModelOutput) -> tuple[Any, Any]:
    """Features (n, D) and energies (n,) of all cells; the middle of a cell is its third pixel."""
    features = output.features['last'][0].flatten(1).T.double().numpy()
    logits = output.given('logits')[0, :, 2::STRIDE, 2::STRIDE].double()
    return features, -logits.logsumexp(0).flatten().numpy()


def fitted(variance: float = 0.9) -> dict[str, torch.Tensor]:
    fit = PrincipalComponents(CLASSES, grid=STRIDE, variance=variance)
    for seed in range(20):
        fit.update(frame(seed), None)
    return fit.compute()


@pytest.mark.parametrize('energy', [True, False])
def test_it_is_what_the_equation_says(energy: bool) -> None:
    seen, energies = map(
        np.concatenate, zip(*(cells_of(frame(s)) for s in range(20)), strict=True)
    )
    mean, deviation = seen.mean(0), seen.std(0)
    normal = (seen - mean) / deviation
    values, vectors = np.linalg.eigh(np.cov(normal.T))
    directions = vectors[:, ::-1][:, :2]
    assert values[::-1][:2].sum() / values.sum() > 0.9 > values[-1] / values.sum()

    def ratio(features: Any) -> Any:
        own = (features - mean) / deviation
        return -np.linalg.norm(own @ directions, axis=1) / np.linalg.norm(own, axis=1)

    usual = ratio(seen)
    output = frame(100)
    features, energy_of = cells_of(output)
    expected = (ratio(features) - usual.mean()) / usual.std()
    if energy:
        expected = expected + (energy_of - energies.mean()) / energies.std()
    options = {'grid': STRIDE, 'energy': energy}
    score: Any = build_score('neco', 'made', {'logits'}, statistics=fitted(), options=options)
    cells, stride = score.cells(output)
    assert stride == STRIDE
    assert cells.flatten().numpy() == pytest.approx(expected, rel=1e-2, abs=1e-2)
    found = score(output)
    assert found.shape == (1, *SIZE)
    large = torch.nn.functional.interpolate(cells[:, None], (24, 32), mode='bilinear')
    torch.testing.assert_close(found, large[:, 0, : SIZE[0], : SIZE[1]])


def test_a_network_with_masks_has_the_energy_of_its_semantics() -> None:
    def of_masks(output: ModelOutput) -> ModelOutput:
        return output._replace(logits=None, semantics=output.given('logits').exp())

    fit = PrincipalComponents(CLASSES, grid=STRIDE)
    for seed in range(20):
        fit.update(of_masks(frame(seed)), None)
    torch.testing.assert_close(fit.compute()['moments'], fitted()['moments'])
    options = {'grid': STRIDE}
    score = build_score('neco', 'made', {'semantics'}, statistics=fitted(), options=options)
    output = frame(100)
    torch.testing.assert_close(score(of_masks(output)), score(output), atol=1e-4, rtol=1e-4)


def test_features_off_the_usual_directions_are_anomalous() -> None:
    score = build_score(
        'neco', 'made', {'logits'}, statistics=fitted(), options={'grid': 4, 'energy': False}
    )
    output = frame(100)
    odd = output.features['last'].clone()
    odd[..., 3] = 7 + 2 * torch.randn(1, DEPTH, CELLS[0])
    changed = score(output._replace(features={'last': odd}))[0].mean(0)
    assert changed[13] > changed[:8].mean() + 1


def test_the_share_of_variance_chooses_the_components() -> None:
    assert [len(fitted(share)['components']) for share in (0.1, 0.9, 1.0)] == [1, 2, DEPTH]
    with pytest.raises(ValueError, match=r'variance 0 must lie above 0 and at most at 1'):
        fitted(0)


def test_what_does_not_fit_is_named() -> None:
    statistics = fitted()
    score = build_score('neco', 'made', {'logits'}, statistics=statistics)
    with pytest.raises(ValueError, match='fitted to 5 features, last of this network has 2; run'):
        score(frame(0)._replace(features={'last': torch.zeros(1, 2, *CELLS)}))
    with pytest.raises(ValueError, match=r"of score 'neco' must be \(D,\), \(D,\), \(d, D\)"):
        build_score('neco', 'made', {'logits'}, statistics={**statistics, 'scale': torch.ones(2)})
    with pytest.raises(ValueError, match='there are no frames'):
        PrincipalComponents(CLASSES).compute()
    fit = PrincipalComponents(CLASSES, grid=STRIDE)
    fit.update(frame(0)._replace(features={'last': torch.ones(1, DEPTH, *CELLS)}), None)
    with pytest.raises(ValueError, match='features last or the energy are the same in all cells'):
        fit.compute()
