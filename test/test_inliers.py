from pathlib import Path

import numpy as np
import pytest

from anomaly_seg_ros.frames.images import write_image
from training.feeding.pasting import build_paster, Paster
from training.negatives import build_negatives
from training.negatives.negative import Negative

CAR, ROAD = 8, 3


def store(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def frames(root: Path, cars: int = 2) -> Path:
    image = np.full((60, 90, 3), 50, np.uint8)
    labels = np.full((60, 90), ROAD, np.uint8)
    for number in range(cars):
        box = slice(10, 30), slice(10 + 40 * number, 35 + 40 * number)
        labels[box], image[box] = CAR, 200 + number
    labels[50:52, 50:52] = CAR  # a speck
    store(root / 'train/a.png', image)
    store(root / 'trainannot/a.png', labels)
    return root


def options(root: Path) -> dict[str, object]:
    return {'root': str(root), 'dataset': 'camvid', 'classes': ['car']}


def test_one_whole_piece_is_drawn_with_its_class(tmp_path: Path) -> None:
    source = build_negatives('inliers', options(frames(tmp_path)))
    seen = set()
    for seed in range(12):
        part = source.draw(np.random.default_rng(seed))
        assert part.image.shape == (20, 25, 3)
        assert part.regions is not None
        assert part.regions.all()
        assert part.label == CAR
        seen.add(int(part.image[0, 0, 0]))
    assert seen == {200, 201}


def test_a_piece_takes_nothing_of_another_in_its_box(tmp_path: Path) -> None:
    root = frames(tmp_path, cars=0)
    image = np.full((60, 90, 3), 50, np.uint8)
    labels = np.full((60, 90), ROAD, np.uint8)
    labels[5:45, 5:15] = labels[35:45, 5:45] = CAR  # an L of 700 pixels
    labels[5:25, 25:45] = CAR  # 400 in the corner of its box
    store(root / 'train/a.png', image)
    store(root / 'trainannot/a.png', labels)
    source = build_negatives('inliers', options(root))
    drawn = [source.draw(np.random.default_rng(seed)).regions for seed in range(12)]
    assert {int((regions > 0).sum()) for regions in drawn if regions is not None} == {700, 400}


def test_pasted_inliers_have_their_label_and_are_no_outlier(tmp_path: Path) -> None:
    root = frames(tmp_path)
    paste = build_paster({'kind': 'inliers', **options(root), 'scale': [1.0, 1.0]})
    image, labels = np.zeros((80, 80, 3), np.uint8), np.full((80, 80), ROAD, np.uint8)
    result, ids, outlier = paste(image, labels, np.random.default_rng(0))
    assert not outlier.any()
    assert ((ids == CAR) == (result[..., 0] >= 200)).all()
    assert (ids == CAR).sum() == 20 * 25


@pytest.mark.parametrize('shapes', [{'regions': 1.0}, {'rectangle': 1.0}, {'blob': 1.0}])
def test_what_lies_beside_a_piece_has_not_its_class(shapes: dict[str, float]) -> None:
    """A thin diagonal piece, which a small square of its box can miss."""
    piece = np.eye(60, dtype=np.uint8)
    image = np.zeros((60, 60, 3), np.uint8)
    image[piece > 0] = 200

    class Source:
        short_side, crop = 0, 512

        def __init__(self) -> None:
            self.shapes = {'regions': 1.0}

        def draw(self, rng: np.random.Generator) -> Negative:
            return Negative(image, piece, CAR)

    paste = Paster(source=Source(), shapes=shapes, short_side=0, scale=(1.0, 1.0), crop=20)
    frame, road = np.full((80, 80, 3), 50, np.uint8), np.full((80, 80), ROAD, np.uint8)
    counts = []
    for seed in range(40):
        result, ids, outlier = paste(frame, road, np.random.default_rng(seed))
        assert not outlier.any()
        assert ((ids == CAR) == (result[..., 0] == 200)).all()
        assert ((ids == ROAD) == (result[..., 0] == 50)).all()
        counts.append(int((ids == CAR).sum()))
    assert min(counts) == 0, 'a square beside the piece pastes nothing'
    assert max(counts) > 10


def test_an_inlier_over_an_outlier_hides_it_and_the_other_way(tmp_path: Path) -> None:
    root = frames(tmp_path / 'camvid')
    store(tmp_path / 'photos/a.png', np.full((80, 80, 3), 90, np.uint8))
    photo = {
        'kind': 'folder', 'root': str(tmp_path / 'photos'), 'short_side': 80, 'crop': 80,
        'scale': [1.0, 1.0], 'shapes': {'rectangle': 1.0}, 'count': [3, 3],
    }  # fmt: skip
    inlier = {'kind': 'inliers', **options(root), 'scale': [1.0, 1.0], 'count': [3, 3]}
    image, labels = np.zeros((80, 80, 3), np.uint8), np.full((80, 80), ROAD, np.uint8)
    for first, second in ((photo, inlier), (inlier, photo)):
        paste = build_paster(first | {'beside': [second]})
        result, ids, outlier = paste(image, labels, np.random.default_rng(1))
        assert (outlier == (result[..., 0] == 90)).all()
        assert (outlier == (ids == 255)).all()
        assert ((ids == CAR) == (result[..., 0] >= 200)).all()
        assert outlier.any()


def test_classes_that_are_not_there_are_said(tmp_path: Path) -> None:
    root = frames(tmp_path / 'none', cars=0)
    with pytest.raises(ValueError, match=r"no classes \['horse'\]; it has: sky, building"):
        build_negatives('inliers', options(root) | {'classes': ['horse']})
    with pytest.raises(ValueError, match='no piece of 150 pixels'):
        build_negatives('inliers', options(root)).draw(np.random.default_rng(0))
