import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.frames.images import write_image
from training.negatives import build_negatives
from training.negatives.coco_masks import decode_runs, run_lengths
from training.preparation import outlines
from training.preparation.outlines import largest_piece, outline


def store(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def photo(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A grainy background with a ball of another colour in its middle, and the ball's mask."""
    rng = np.random.default_rng(3)
    image = rng.integers(60, 100, (240, 320, 3), dtype=np.uint8)
    mask = np.zeros((240, 320), np.uint8)
    if kind == 'ball':
        cv2.circle(mask, (170, 110), 55, 1, cv2.FILLED)
        image[mask > 0] = rng.integers(180, 220, (int(mask.sum()), 3))
    return image, mask


def test_the_thing_in_the_middle_is_outlined() -> None:
    image, mask = photo('ball')
    found = outline(image)
    assert found is not None
    assert found.shape == mask.shape
    assert (found & mask).sum() / (found | mask).sum() > 0.93


def test_small_photos_and_large_ones_have_outlines_at_their_size() -> None:
    image, mask = photo('ball')
    for size in ((80, 60), (960, 720)):
        found = outline(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        assert found is not None
        assert found.shape == size[::-1]
        assert abs(found.mean() - mask.mean()) < 0.02


def test_an_outline_is_one_piece_without_holes() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:12, 2:12] = 1
    mask[5:8, 5:8] = 0
    mask[15:18, 20:25] = 1
    expected = np.zeros_like(mask)
    expected[2:12, 2:12] = 1
    assert (largest_piece(mask) == expected).all()
    assert not largest_piece(np.zeros((4, 4), np.uint8)).any()


@pytest.mark.parametrize('first', [0, 1])
def test_run_lengths_are_those_of_coco(first: int) -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[0, 0], mask[1:, 2] = first, 1
    lengths = run_lengths(mask)
    assert lengths == ([0, 1, 6, 2, 3] if first else [7, 2, 3])
    assert (decode_runs(lengths, (3, 4)) == mask).all()


def test_the_command_writes_what_the_coco_source_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = photo('ball')
    for name in ('ball.png', 'n1_cab.png'):
        store(tmp_path / 'photos' / name, image)
    store(tmp_path / 'photos/plain.png', np.full((240, 320, 3), 90, np.uint8))
    file = tmp_path / 'made/outlines.json'
    words = ['outlines', str(tmp_path / 'photos'), '--exclude', '*_cab.*', '--out', str(file)]
    monkeypatch.setattr('sys.argv', words)
    assert outlines.main() == 0
    assert f'1 of 2 photos have an outline: {file}' in capsys.readouterr().out
    assert [entry['file_name'] for entry in json.loads(file.read_text())['images']] == ['ball.png']
    options = {'root': tmp_path, 'annotations': 'made/outlines.json', 'images': 'photos'}
    drawn = build_negatives('coco', options | {'min_side': 100}).draw(np.random.default_rng(0))
    assert drawn.regions is not None
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    assert abs(drawn.regions.shape[0] - rows.size) <= 4
    assert abs(drawn.regions.shape[1] - columns.size) <= 4


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nothing'):
        outlines.outlined(tmp_path / 'nothing')
