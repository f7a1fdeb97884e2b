from pathlib import Path

import cv2
import numpy as np
import pytest

from anomaly_seg_ros.frames.images import find_images, read_image, write_image


def test_red_stays_red_through_a_file(tmp_path: Path) -> None:
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 200
    write_image(tmp_path / 'red.png', red)
    assert (read_image(tmp_path / 'red.png') == red).all()
    # OpenCV itself sees BGR: the value must stand in its last channel.
    assert cv2.imread(str(tmp_path / 'red.png'))[0, 0].tolist() == [0, 0, 200]


def test_grey_files_become_three_channels(tmp_path: Path) -> None:
    write_image(tmp_path / 'grey.png', np.full((3, 5), 9, np.uint8))
    assert read_image(tmp_path / 'grey.png').shape == (3, 5, 3)


@pytest.mark.parametrize('content', [b'', b'no image', b'version https://git-lfs.github.com\n'])
def test_what_is_no_image_is_an_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'bad.png'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'cannot decode .*bad.png'):
        read_image(path)


def test_a_truncated_file_is_an_error_or_an_image(tmp_path: Path) -> None:
    whole = cv2.imencode('.png', np.zeros((50, 50, 3), np.uint8))[1].tobytes()
    path = tmp_path / 'cut.png'
    path.write_bytes(whole[:40])
    with pytest.raises(ValueError, match='is it truncated'):
        read_image(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'none\.png'):
        read_image(tmp_path / 'none.png')


def test_folders_are_listed_in_order_without_other_files(tmp_path: Path) -> None:
    for name in ('b.png', 'a.JPG', 'notes.txt'):
        (tmp_path / name).write_bytes(b'x')
    assert [path.name for path in find_images([tmp_path])] == ['a.JPG', 'b.png']


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no images in'):
        find_images([tmp_path])
