"""The benchmark of the scores of masks, on a size that takes little time."""

from __future__ import annotations

import pytest

from training.bench.mask_scores import main


def test_the_memory_of_each_score_is_below_that_of_all_masks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through the command, whose processes are fresh: what this one has freed would be used."""
    height, width, queries = 512, 1024, 100
    size = ['--size', f'{height}x{width}', '--queries', str(queries)]
    assert main([*size, '--score', 'eam,rba']) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert [row[0] for row in rows] == ['score', '---', 'eam', 'rba']
    everything = queries * height * width * 4 / 1e6
    semantics = 19 * height * width * 4 / 1e6
    for _, megabytes, seconds in rows[2:]:
        assert semantics < float(megabytes) < 0.8 * everything
        assert float(seconds) > 0
