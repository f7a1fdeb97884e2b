"""Every network with every score is a graph of operators that TensorRT has converters for.

Without TensorRT: the graph that it would get is made and searched for operators known to have no
converter, or to break the graph into pieces. `test/gpu/dry_run.py` asks the converters themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from anomaly_seg_ros.engines.graph import export_graph
from anomaly_seg_ros.engines.scored_model import ScoredModel
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.models import build_model, MODELS
from anomaly_seg_ros.models.forward import run_fields
from anomaly_seg_ros.models.network import Network
from anomaly_seg_ros.registry import lookup
from anomaly_seg_ros.scores import score_class, SCORES

pytestmark = pytest.mark.timeout(300)

SIZE = (64, 96)
COARSE = [name for name in sorted(SCORES) if score_class(name).coarse]
CLASSES = 11
OF_MASKS = {'semantics', 'class_logits', 'mask_logits'}
HF_CONFIGS = json.loads((Path(__file__).with_name('golden') / 'hf_configs.json').read_text())
FORBIDDEN = {
    'aten.max.dim': 'its converter takes it only when the indices are unused: use amax',
    'aten.min.dim': 'the same: use amin',
    'aten.max_unpool2d.default': 'no converter: use strided slices',
    'aten.max_pool2d_with_indices.default': 'no converter where the indices are used',
    'aten.eye.default': 'counted in uint16 from 256 on, which OpenVINO lacks: compare places',
    'aten.nonzero.default': 'its shape depends on the data',
    'aten.masked_select.default': 'its shape depends on the data',
    'aten.index_put.default': 'a scatter',
    'aten.scatter.src': 'a scatter',
    'aten._unique2.default': 'its shape depends on the data',
    'aten.item.default': 'it waits for a value',
    'aten._local_scalar_dense.default': 'it waits for a value',
}
EXCEPTIONS: dict[str, str] = {}
"""Network to the reason why its graph is not plain, for those that honestly are not."""

SCORE_EXCEPTIONS: dict[str, str] = {}
"""The same for scores."""

CASTS = {torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int32, torch.int64}
CASTS.add(torch.bool)
"""What TensorRT's converters cast to; not uint8."""


class AllScores(nn.Module):
    """One network pass under every score that fits, so that one export serves them all.

    The network is held once: torch goes through all names of weights for each of them.
    """

    def __init__(self, scored: list[ScoredModel]):
        super().__init__()
        self.first = scored[0]
        self.scores = nn.ModuleList([model.score for model in scored])
        self.mean = scored[0].mean  # for `export_graph`, which asks for the device

    def forward(self, images: Any) -> tuple[Any, ...]:
        output = self.first.output(images)
        labels = output.class_maps.argmax(1).to(self.first.label_type)
        return labels, *(score(output).half() for score in self.scores)


def statistics(name: str, model: Any) -> Any:
    """Statistics of a score that fit the network, None of one that has none."""
    if not score_class(name).statistics:
        return None
    wide = model(torch.zeros(1, 3, *SIZE)).features['last'].shape[1]
    bank = {
        'bank': torch.zeros(40, 4, wide),
        'counts': torch.ones(40),
        'centre': torch.zeros(wide),
    }
    return {
        'cdnp': {**bank, 'limits': torch.tensor([0.0, 1.0, 1.0])},
        'dnp': bank,
        'mahalanobis': {'whitening': torch.eye(CLASSES), 'means': torch.zeros(CLASSES, CLASSES)},
        'neco': {
            'centre': torch.zeros(wide),
            'scale': torch.ones(wide),
            'components': torch.zeros(2, wide),
            'moments': torch.ones(4),
        },
        'sml': {'mean': torch.zeros(CLASSES), 'std': torch.ones(CLASSES)},
    }.get(name)


def problems(program: Any) -> list[str]:
    """Gives what is not plain in an exported program."""
    found = []
    for node in program.run_decompositions({}).graph.nodes:
        if node.op != 'call_function':
            continue
        name = str(node.target)
        if name == 'aten.max_pool2d_with_indices.default':
            used = {str(user.args[1]) for user in node.users if user.users}
            if used <= {'0'}:
                continue
        kind = node.kwargs.get('dtype')
        if name in FORBIDDEN:
            found.append(f'{name}: {FORBIDDEN[name]}')
        elif name == 'aten._to_copy.default' and kind is not None and kind not in CASTS:
            found.append(f'cast to {kind}: no converter')
        values = node.meta.get('val')
        parts = values if isinstance(values, tuple | list) else [values]
        shapes = [part.shape for part in parts if isinstance(part, torch.Tensor)]
        if not all(isinstance(side, int) for shape in shapes for side in shape):
            found.append(f'{name}: its shape depends on the data')
    return found


def fitting_scores(model: Any, meta: Any) -> list[ScoredModel]:
    """Gives the network under each score that it can serve, and under the coarse forms of some."""
    provides = run_fields(model, meta.void_index)
    coarse = replace(meta, score_options={name: {'step': 4} for name in COARSE})
    scored = []
    for name, target in SCORES.items():
        kind = lookup('score', {name: target}, name)
        if kind.reads(provides) <= provides and name not in SCORE_EXCEPTIONS:
            scored += [
                ScoredModel(model, how, name, statistics(name, model)).eval().spell(torch.int8)
                for how in ((meta, coarse) if name in COARSE else (meta,))
            ]
    return scored


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        *((name, {}) for name in MODELS),
        ('erfnet', {'head': 'isomax'}),
        *(('hf', {'config': config}) for config in HF_CONFIGS.values()),
    ],
)
def test_every_network_and_score_is_plain(
    name: str, options: dict[str, Any], make_fake_meta: Callable[..., Any]
) -> None:
    meta = make_fake_meta(model=name, void_index=CLASSES, gamma=0.7)
    if 'outlier_head' in inspect.signature(lookup('model', MODELS, name)).parameters:
        options = {**options, 'outlier_head': True}
    model = build_model(name, CLASSES + 1, options, preset='tiny').eval()
    scored = fitting_scores(model, meta)
    assert len(scored) >= 8, 'the scores of logits and void alone'
    if options.get('outlier_head'):
        not_given = OF_MASKS | score_class('reconstruction_error').needs
        of_pixels = [name for name in SCORES if not score_class(name).needs & not_given]
        assert len(scored) == len(of_pixels) + len(COARSE) - len(SCORE_EXCEPTIONS)
    found = problems(export_graph(AllScores(scored), SIZE, 1))  # type: ignore[arg-type]
    assert (found != []) == (name in EXCEPTIONS), found


class Broken(Network):
    """A network with one operator that is not plain."""

    provides = frozenset({'logits'})
    stride = 1

    def __init__(self, spoil: Callable[[Any], Any]):
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 1)
        self.spoil = spoil

    def forward(self, images: Any) -> ModelOutput:
        return ModelOutput(self.spoil(self.conv(images)))


def unpooled(values: Any) -> Any:
    pooled, where = nn.functional.max_pool2d(values, 2, return_indices=True)
    return nn.functional.max_unpool2d(pooled, where, 2)


@pytest.mark.parametrize(
    ('spoil', 'what'),
    [
        (lambda v: v - v.max(1, keepdim=True)[0], 'aten.max.dim'),
        (unpooled, 'aten.max_unpool2d'),
        (lambda v: v.to(torch.uint8).float(), 'cast to torch.uint8'),
        (lambda v: v @ torch.eye(v.shape[-1]), 'aten.eye.default'),
        (lambda v: v * 1.0, None),
        (lambda v: nn.functional.max_pool2d(v, 3, 1, 1), None),
    ],
)
def test_the_search_finds_what_it_is_for(
    spoil: Callable[[Any], Any], what: str | None, make_fake_meta: Callable[..., Any]
) -> None:
    scored = ScoredModel(Broken(spoil).eval(), make_fake_meta(), 'max_logit').eval()
    found = problems(export_graph(scored.spell(torch.int8), SIZE, 1))
    if what is None:
        assert found == []
    else:
        assert any(problem.startswith(what) for problem in found), found


def test_the_cpu_spelling_is_found_out(make_fake_meta: Callable[..., Any]) -> None:
    """TensorRT casts to no uint8, which is what labels are elsewhere."""
    scored = ScoredModel(Broken(lambda v: v).eval(), make_fake_meta(), 'max_logit').eval()
    assert problems(export_graph(scored.spell(torch.uint8), SIZE, 1)) == [
        'cast to torch.uint8: no converter'
    ]


def test_labels_in_both_spellings_are_the_same_bytes(make_fake_meta: Callable[..., Any]) -> None:
    images = torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8)
    scored = ScoredModel(Broken(lambda v: v).eval(), make_fake_meta(), 'max_logit').eval()
    with torch.no_grad():
        usual = scored.spell(torch.uint8)(images)['labels']
        other = scored.spell(torch.int8)(images)['labels']
    assert other.dtype == torch.int8
    assert (other.view(torch.uint8) == usual).all()
    assert usual.unique().numel() > 2
