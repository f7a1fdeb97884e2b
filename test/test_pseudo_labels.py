from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.frames.images import write_image
from training.datasets import build_dataset
from training.preparation import pseudo_labels
from training.preparation.pseudo_labels import sure_labels, Teacher


def test_only_what_is_sure_gets_a_class() -> None:
    probabilities = torch.tensor([[[0.95, 0.5, 0.1]], [[0.05, 0.5, 0.9]]])
    assert sure_labels(probabilities, 0.9).tolist() == [[0, 255, 1]]
    assert sure_labels(probabilities, 0.95).tolist() == [[0, 255, 255]]


def test_a_teacher_says_the_same_of_a_frame_and_its_mirror_image(tiny_checkpoint) -> None:
    teacher = Teacher(Checkpoint.open(tiny_checkpoint))
    frame = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    seen, mirrored = teacher(frame), teacher(np.ascontiguousarray(frame[:, ::-1]))
    assert seen.shape == (len(teacher.meta.class_names), 64, 96)
    torch.testing.assert_close(seen.sum(0), torch.ones(64, 96))
    torch.testing.assert_close(seen, mirrored.flip(-1), atol=1e-5, rtol=1e-4)


def test_the_command_makes_a_set_that_is_learned_whole(
    tiny_checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = Checkpoint.open(tiny_checkpoint)
    frame = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / '0001.png', frame)
    words = ['pseudo_labels', '--checkpoint', str(checkpoint.folder), '--confidence', '0']
    folders = [str(tmp_path / name) for name in ('one', 'two')]
    monkeypatch.setattr('sys.argv', [*words, *folders, '--out', str(tmp_path / 'set')])
    assert pseudo_labels.main() == 0
    assert '2 frames, 100 % of pixels have a class' in capsys.readouterr().out
    made = build_dataset('classes', tmp_path / 'set', 'train')
    assert len(made) == 2
    assert made.classes.names == checkpoint.meta.class_names
    expected = Teacher(checkpoint)(frame).argmax(0).numpy()
    for index in range(2):
        assert (made[index].image == frame).all()
        assert (made[index].labels == expected).all()
