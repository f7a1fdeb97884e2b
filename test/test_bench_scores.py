"""The benchmark of the scores: what is timed, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sys

import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines.graph import export_graph
from anomaly_seg_ros.engines.scored_model import load_scored_model
from training.bench.scores import BARE, build_variants, main, parse_score, table, WHOLE
from training.bench.timing import Samples

SCORES = ['max_logit', 'dense_hybrid', 'dense_hybrid.step=4']


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, 'argv', ['scores', *arguments])
    return main()


def test_a_score_may_come_with_an_option() -> None:
    assert parse_score('msp') == ('msp', {})
    assert parse_score('nflow_js.temperature=1.5') == ('nflow_js', {'temperature': 1.5})
    with pytest.raises(ValueError, match="unknown option 'steps' of score 'msp'"):
        parse_score('msp.steps=2')
    for text in ('msp.step', 'msp=2', 'msp.step=['):
        with pytest.raises(ValueError, match=r'is not of the form score\.key=value'):
            parse_score(text)


def test_all_variants_are_the_same_network(tiny_checkpoint: Path) -> None:
    variants = build_variants(Checkpoint.open(tiny_checkpoint), SCORES)
    assert list(variants) == [BARE, WHOLE, *SCORES]
    image = torch.randint(0, 256, (1, 48, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        found = {name: scored(image) for name, scored in variants.items()}
        first = variants[BARE].output(image)
    assert first.ood_logits is None
    assert torch.equal(found[BARE]['score'], first.logits[:, 0])
    for outputs in found.values():
        assert torch.equal(outputs['labels'], found[BARE]['labels'])
    whole, coarse = (found[name]['score'] for name in ('dense_hybrid', 'dense_hybrid.step=4'))
    torch.testing.assert_close(whole[:, ::4, ::4], coarse[:, ::4, ::4])
    assert not torch.equal(whole, coarse)


def test_a_network_that_has_no_outlier_head_is_measured_without(
    make_tiny_checkpoint: Callable[..., Path],
) -> None:
    checkpoint = make_tiny_checkpoint('enet', None, (32, 32))
    assert list(build_variants(Checkpoint.open(checkpoint), ['msp'])) == [BARE, WHOLE, 'msp']
    with pytest.raises(ValueError, match='outlier_head'):
        build_variants(Checkpoint.open(checkpoint), ['dense_hybrid'])


def test_a_layer_that_a_score_takes_is_there_in_each_export_of_a_network(
    tiny_checkpoint: Path,
) -> None:
    scored = load_scored_model(Checkpoint.open(tiny_checkpoint), 'max_logit')
    layer = [name for name, _ in scored.model.named_modules() if name][-1]
    scored.model.tap(layer)
    for _ in range(2):
        export_graph(scored, (48, 64))
        with torch.inference_mode():
            output = scored.output(torch.zeros(1, 48, 64, 3, dtype=torch.uint8))
        assert layer in output.features


def test_ratios_are_to_the_bare_network_of_the_same_round() -> None:
    found = {BARE: Samples([[10.0, 10], [20, 20]]), 'msp': Samples([[11.0, 11], [22, 22]])}
    lines = table({'torch': found}).splitlines()
    assert lines[2] == f'| {BARE} | 15.00 | 1.000 |'
    assert lines[3] == '| msp | 16.50 | 1.100 |'


def test_it_runs_on_both_engines(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['--checkpoint', str(tiny_checkpoint), '--score', ','.join(SCORES)]
    assert run(monkeypatch, *arguments, '--size', '48x64', '--rounds', '1') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '| score | openvino p50 ms | openvino ratio | torch p50 ms | torch ratio |'
    assert [line.split(' | ')[0].strip('| ') for line in lines[2:]] == [BARE, WHOLE, *SCORES]


@pytest.mark.parametrize(
    ('arguments', 'what'),
    [
        (['--engine', 'onnx'], "unknown engine 'onnx'; choose among: openvino, torch"),
        (['--score', 'odds'], "unknown score 'odds'"),
        (['--score', 'sml'], 'run fit_score on the checkpoint first'),
        (['--checkpoint', 'nowhere'], 'nowhere'),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=what):
        run(monkeypatch, *arguments)
