from pathlib import Path
import re
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps
import pytest

from anomaly_seg_ros.frames.images import find_images, read_image, read_pixels, write_image
from anomaly_seg_ros.frames.orientation import orientation, turned
from anomaly_seg_ros.frames.significant_bits import SignificantBits


def test_red_stays_red_through_a_file(tmp_path: Path) -> None:
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 200
    write_image(tmp_path / 'red.png', red)
    assert (read_image(tmp_path / 'red.png') == red).all()
    # OpenCV itself sees BGR: the value must stand in its last channel.
    bgr = read_pixels(tmp_path / 'red.png', cv2.IMREAD_COLOR)
    assert bgr[0, 0].tolist() == [0, 0, 200]


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


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    for name in ('._a.png', '.b.png', 'a.png'):
        (tmp_path / name).write_bytes(b'x')
    assert [path.name for path in find_images([tmp_path])] == ['a.png']
    (tmp_path / 'a.png').unlink()
    with pytest.raises(FileNotFoundError, match='no images in'):
        find_images([tmp_path])


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'link.png').symlink_to('nowhere.png')
    with pytest.raises(FileNotFoundError, match=r"folder.png' is a folder, not an image file"):
        read_image(tmp_path / 'folder.png')
    with pytest.raises(FileNotFoundError, match=r"link.png' is a link to 'nowhere.png', which is"):
        read_image(tmp_path / 'link.png')


STORED = np.array([[1, 2, 3], [4, 5, 6]], np.uint8) * 40
"""What a file holds, and below it what a viewer shows of it, by what Exif says."""
SHOWN = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}
FORMATS: dict[str, dict[str, Any]] = {
    '.png': {}, '.jpg': {'quality': 100}, '.webp': {'lossless': True}, '.tif': {},
}  # fmt: skip


@pytest.mark.parametrize('way_up', SHOWN)
@pytest.mark.parametrize('suffix', FORMATS)
def test_pictures_are_turned_as_viewers_turn_them(
    way_up: int, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f'photo{suffix}'
    exif = Image.Exif()
    exif[0x0112] = way_up
    extra = {'tiffinfo': {0x0112: way_up}} if suffix == '.tif' else {'exif': exif}
    # Large enough that JPEG's blocks keep the brightness.
    stored = np.repeat(np.repeat(STORED, 16, 0), 16, 1)
    Image.fromarray(stored).convert('RGB').save(path, **FORMATS[suffix], **extra)
    image = read_image(path)
    shown = ImageOps.exif_transpose(Image.open(path)).convert('RGB')
    assert (np.abs(image.astype(int) - np.asarray(shown)) <= 2).all()
    assert (np.abs(image[8::16, 8::16, 0] - np.array(SHOWN[way_up]) * 40) <= 2).all()
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    ('begin', 'words'),
    [
        (b'\0\0\0\x18ftypheic', 'it is a HEIC or AVIF picture; save it as JPEG'),
        (b'\0\0\0\x18ftypisom', 'it is a video: anomaly_seg demo --source shows it'),
        (b'\x1a\x45\xdf\xa3', 'it is a video'),
        (b'RIFF\0\0\0\0AVI ', 'it is a video'),
        (b'GIF89a' + b'G' * 300, 'is it truncated?'),
        (b'text', 'is it truncated?'),
    ],
)
def test_what_people_take_for_an_image_is_named(begin: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / 'file.jpg'
    path.write_bytes(begin + bytes(100))
    with pytest.raises(ValueError, match=re.escape(words)):
        read_image(path)


@pytest.mark.parametrize('way_up', SHOWN)
def test_grey_is_turned_too(way_up: int) -> None:
    assert turned(STORED, way_up).tolist() == (np.array(SHOWN[way_up]) * 40).tolist()


def test_odd_exif_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / 'photo.jpg'
    Image.fromarray(STORED).save(path, exif=exif)
    whole = path.read_bytes()
    assert orientation(whole) == 6
    for length in range(len(whole)):
        orientation(whole[:length])  # whatever it gives, it does not fail
    at = whole.index(b'\x01\x12')
    for change in (b'\x00\x00', b'\x00\x09', b'\xff\xff'):
        assert orientation(whole[: at + 8] + change + whole[at + 10 :]) == 1
    assert orientation(b'') == orientation(b'no image') == 1


def test_a_16_bit_file_of_a_12_bit_camera_is_not_black(tmp_path: Path) -> None:
    values = np.array([[0, 16, 4095], [100, 2048, 15]], np.uint16)
    bright, dark = tmp_path / 'bright.png', tmp_path / 'dark.png'
    write_image(bright, values)
    write_image(dark, values // 16)
    write_image(tmp_path / 'color.tif', np.dstack([values] * 3))
    grey = [[0, 1, 255], [6, 128, 0]]
    assert read_image(bright)[..., 1].tolist() == grey
    assert read_image(tmp_path / 'color.tif')[..., 2].tolist() == grey
    bits = SignificantBits()
    assert read_image(bright, bits)[..., 0].tolist() == grey
    assert read_image(dark, bits).max() == 15
    assert read_image(dark).max() == 255


def test_floats_are_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / 'depth.png', STORED)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.zeros((3, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r'depth.png.* holds float32; an image has 8 or 16 bits'):
        read_image(tmp_path / 'depth.png')


def test_a_suffix_of_no_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot make a '.xyz' file of an image of shape"):
        write_image(tmp_path / 'a.xyz', STORED)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no images in'):
        find_images([tmp_path])
