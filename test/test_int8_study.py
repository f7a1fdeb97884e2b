"""What the study of int8 learns from, and that it says what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.command_line.tool import run_tool
from anomaly_seg_ros.engines.scored_model import load_scored_model
from training.study import int8


def test_crops_are_normalised_and_differ() -> None:
    scored = load_scored_model(Checkpoint.open('default'), 'dense_hybrid_odds').eval()
    images = [np.full((448, 576, 3), 128, np.uint8)]
    batches = int8.crops(images, scored, seed=0)
    first, second = next(batches), next(batches)
    assert first.shape == (int8.BATCH, 3, *int8.CROP)
    assert not torch.equal(first, second)
    # A grey of one half comes between the darkest and the brightest light.
    back = first * scored.std + scored.mean
    darkest = (128 / 255) ** int8.GAMMA[1] * int8.BRIGHTNESS[0]
    brightest = (128 / 255) ** int8.GAMMA[0] * int8.BRIGHTNESS[1]
    assert darkest - 1e-5 <= back.min()
    assert back.max() <= brightest + 1e-5
    assert torch.equal(next(int8.crops(images, scored, seed=0)), first)


def test_crops_are_mirrored_and_keep_their_colours() -> None:
    scored = load_scored_model(Checkpoint.open('default'), 'dense_hybrid_odds').eval()
    image = np.zeros((448, 576, 3), np.uint8)
    image[..., 0] = 200  # red
    image[..., 1] = np.linspace(0, 100, 576)  # green rises to the right
    batches = int8.crops([image], scored, seed=0)
    crops = torch.cat([next(batches) for _ in range(3)]) * scored.std + scored.mean
    red, green, blue = crops.unbind(1)
    assert (red > green).all()
    assert (green + 1e-5 >= blue).all()
    rises = green[:, :, -1].mean(1) > green[:, :, 0].mean(1)
    assert 0 < rises.sum() < len(crops)


def test_the_maps_are_those_of_the_network() -> None:
    scored = load_scored_model(Checkpoint.open('default'), 'dense_hybrid_odds').eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps: tuple[Tensor, ...] = int8.Outputs(scored)(image)
        output = scored.model(image)
    assert len(maps) == 2
    assert torch.equal(maps[0], output.logits)
    assert torch.equal(maps[1], output.ood_logits)


def test_missing_data_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('sys.argv', ['int8', '--data', str(tmp_path)])
    with pytest.raises(SystemExit, match='2'):
        run_tool(int8.main)
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert len(error.splitlines()) == 1
