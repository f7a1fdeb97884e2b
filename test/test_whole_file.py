"""A file is written whole or not at all, for all who may read a new one."""

from __future__ import annotations

import os
from pathlib import Path
import threading

import pytest

from anomaly_seg_ros.checkpoint.folder import save_checkpoint, WEIGHTS_FILE
from anomaly_seg_ros.process.whole_file import whole_file


@pytest.mark.parametrize('mask', [0o022, 0o077])
def test_the_file_has_the_rights_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / 'a') as part:
            part.write_text('whole')
            part.chmod(0o600)
        (tmp_path / 'plain').write_text('')
    finally:
        os.umask(before)
    assert (tmp_path / 'a').read_text() == 'whole'
    assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'plain').stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'plain']


def test_nothing_is_left_and_nothing_lost_where_writing_fails(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text('before')
    with pytest.raises(TypeError), whole_file(tmp_path / 'a') as part:
        part.write_bytes('not bytes')  # type: ignore[arg-type]
    assert (tmp_path / 'a').read_text() == 'before'
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_two_may_write_one_file_at_once(tmp_path: Path) -> None:
    """As shards do that end at the same moment: either file is there in the end, and whole."""
    faults: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(200):
                with whole_file(tmp_path / 'a') as part:
                    part.write_text(text)
        except OSError as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(letter * 99,)) for letter in 'xyz']
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert (tmp_path / 'a').read_text() in {letter * 99 for letter in 'xyz'}
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_the_weights_of_a_checkpoint_are_there_for_others(tmp_path: Path, make_fake_meta) -> None:
    import torch

    save_checkpoint(tmp_path / 'made', make_fake_meta(), {'a': torch.zeros(2)})
    (tmp_path / 'plain').write_text('')
    weights = tmp_path / 'made' / WEIGHTS_FILE
    assert weights.stat().st_mode == (tmp_path / 'plain').stat().st_mode
