"""The benchmark of the scores of masks, on a size that takes no time."""

from __future__ import annotations

import pytest

from training.bench.mask_scores import main, measure


def test_the_memory_of_a_score_is_below_that_of_all_masks() -> None:
    size, queries = (512, 1024), 100
    megabytes, seconds = measure('rba', size, queries)
    everything = queries * size[0] * size[1] * 4 / 1e6
    semantics = 19 * size[0] * size[1] * 4 / 1e6
    assert semantics < megabytes < 0.8 * everything
    assert seconds > 0


def test_a_table_has_a_row_a_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--size', '64x96', '--queries', '9', '--score', 'eam,uno']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(' | ')[0].strip('| ') for line in lines] == ['score', '---', 'eam', 'uno']
