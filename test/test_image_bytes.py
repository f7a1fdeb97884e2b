"""What is decoded and what is refused before it is: cut JPEGs, and sizes that are only claimed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
import struct
from typing import Any
import zlib

import cv2
import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.frames.image_bytes import claimed_size, decode, is_cut, MOST_PIXELS
from anomaly_seg_ros.frames.images import read_image
from training.datasets.label_ids import read_ids

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def encoded(suffix: str, image: np.ndarray = NOISE) -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


def pil_jpeg(**options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(NOISE).save(file, 'JPEG', **options)
    return file.getvalue()


def pil_webp(**options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(NOISE).save(file, 'WEBP', **options)
    assert file.getvalue()[12:16] == b'VP8X'
    return file.getvalue()


def with_thumbnail(jpeg: bytes) -> bytes:
    """Puts a small JPEG, marks and all, into a segment at the front."""
    thumbnail = encoded('.jpg', NOISE[:8, :8])
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail + jpeg[2:]


JPEGS = {
    'plain': encoded('.jpg'),
    'progressive': pil_jpeg(progressive=True),
    'restarts': bytes(cv2.imencode('.jpg', NOISE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1]),
    'thumbnail': with_thumbnail(encoded('.jpg')),
    'grey': encoded('.jpg', NOISE[..., 0]),
}
BEHIND = {
    'nothing': b'',
    'zeros': bytes(4096),
    'scan mark': b'\xff\xda\x00\x0c' + bytes(range(256)),
    'another image': encoded('.jpg', NOISE[:9, :9]),
    'half of another image': encoded('.jpg', NOISE[:9, :9])[:-40],
}


def decoded(content: bytes) -> np.ndarray:
    return decode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize('behind', BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize('jpeg', JPEGS.values(), ids=JPEGS)
def test_a_jpeg_is_whole_up_to_its_end_mark_whatever_follows(jpeg: bytes, behind: bytes) -> None:
    assert not is_cut(jpeg + behind)
    assert (decoded(jpeg + behind) == decoded(jpeg)).all()


@pytest.mark.parametrize('share', [0.1, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize('jpeg', JPEGS.values(), ids=JPEGS)
def test_a_jpeg_without_its_end_is_cut(jpeg: bytes, share: float, tmp_path: Path) -> None:
    part = jpeg[: min(int(len(jpeg) * share), len(jpeg) - 2)]
    assert is_cut(part)
    (tmp_path / 'cut.jpg').write_bytes(part)
    with pytest.raises(ValueError, match=r'cannot decode .*cut.jpg.* is cut short: it has no end'):
        read_image(tmp_path / 'cut.jpg')


FORMATS = {suffix: encoded(suffix) for suffix in ('.png', '.jpg', '.webp', '.bmp')}
FORMATS['.webp, lossless'] = bytes(
    cv2.imencode('.webp', NOISE, [cv2.IMWRITE_WEBP_QUALITY, 101])[1]
)
FORMATS['.webp, alpha'] = encoded('.webp', np.dstack([NOISE, NOISE[..., :1]]))
FORMATS['.webp, extended'] = pil_webp(exif=b'Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0')
FORMATS['.tiff'] = encoded('.tiff')
FORMATS['.jpg, thumbnail'] = JPEGS['thumbnail']
FORMATS['.jpg, progressive'] = JPEGS['progressive']


@pytest.mark.parametrize('content', FORMATS.values(), ids=FORMATS)
def test_the_size_stands_in_the_head(content: bytes) -> None:
    assert claimed_size(content) == NOISE.shape[:2]
    for length in range(40):
        claimed_size(content[:length])  # whatever it gives, it does not fail


@pytest.mark.parametrize('table', [0xC4, 0xC8, 0xCC], ids=hex)
@pytest.mark.parametrize('frame', [0xC0, 0xC2, 0xCF], ids=hex)
def test_tables_in_front_of_a_jpegs_size_are_no_size(table: int, frame: int) -> None:
    segment = bytes([0xFF, table]) + struct.pack('>H', 9) + bytes(range(7))
    head = bytes([0xFF, frame]) + struct.pack('>HBHHB', 17, 8, 480, 640, 3)
    assert claimed_size(b'\xff\xd8' + segment + head) == (480, 640)


def test_the_size_of_a_webp_leaves_out_the_bits_for_scaling() -> None:
    head = b'RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01*'
    assert claimed_size(head + struct.pack('<HH', 640 | 1 << 14, 480 | 3 << 14)) == (480, 640)


def test_other_formats_have_no_claimed_size() -> None:
    assert claimed_size(b'') is None
    assert claimed_size(b'no image') is None


def png_of(height: int, width: int, rows: int = 0) -> bytes:
    """A PNG whose head claims a size; only `rows` rows of zeros are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * rows))
    parts = [chunk(b'IHDR', head), chunk(b'IDAT', pixels), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@pytest.mark.parametrize('size', [(8193, 16384), (40_000, 40_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_claims_too_many_pixels_is_refused(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes for OpenCV, or an error of its own that nobody expects."""
    path = tmp_path / 'bomb.png'
    path.write_bytes(png_of(*size, rows=1))
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    for read in (read_image, read_ids):
        with pytest.raises(
            ValueError, match=rf'bomb.png.* it is {size[1]}x{size[0]}, more than'
        ) as e:
            read(path)
        assert '\n' not in str(e.value)
    assert claimed_size(png_of(8192, 16384)) == (8192, 16384)
    assert MOST_PIXELS == 8192 * 16384


def tiff_of(height: int, width: int, order: str, wide: bool) -> bytes:
    """The head and the first directory of a TIFF or BigTIFF."""
    long = 'Q' if wide else 'I'
    head = struct.pack(f'{order}HHHQ', 43, 8, 0, 16) if wide else struct.pack(f'{order}HI', 42, 8)
    sides = [
        struct.pack(f'{order}HH{long}I{"4x" if wide else ""}', tag, 4, 1, side)
        for tag, side in ((256, width), (257, height))
    ]
    count = struct.pack(f'{order}{"Q" if wide else "H"}', len(sides))
    return (b'II' if order == '<' else b'MM') + head + count + b''.join(sides)


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('wide', [False, True], ids=['TIFF', 'BigTIFF'])
def test_a_tiff_that_claims_too_many_pixels_is_refused(
    order: str, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    assert claimed_size(tiff_of(480, 640, order, wide)) == (480, 640)
    with pytest.raises(ValueError, match='it is 32000x32001, more than'):
        decoded(tiff_of(32_001, 32_000, order, wide))


def test_a_jpeg_of_hundreds_of_scans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = JPEGS['progressive']
    scan = jpeg[jpeg.rindex(b'\xff\xda') : -2]
    assert decoded(jpeg[:-2] + scan * 80 + jpeg[-2:]).shape == NOISE.shape
    assert decoded(jpeg + scan * 200).shape == NOISE.shape
    comment = b'\xff\xfe\x00\x04\xff\xd9'  # an end mark inside of it ends nothing
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    with pytest.raises(ValueError, match='the JPEG has more than 100 scans; save it again'):
        decoded(jpeg[:-2] + comment + scan * 101 + jpeg[-2:])


LONG_CHUNK = encoded('.png').replace(b'\0\0\0\0IEND', b'\xc8\0\0\0tEXt')


@pytest.mark.parametrize(
    ('content', 'why'),
    [
        (png_of(8192, 16384, rows=1), 'cannot hold 16384x8192; is it truncated'),
        (
            encoded('.jpg').replace(struct.pack('>HH', 37, 53), struct.pack('>HH', 8192, 16384)),
            'cannot hold 16384x8192',
        ),
        (LONG_CHUNK, f'a chunk ends behind its {len(LONG_CHUNK)} bytes; is it truncated?'),
    ],
    ids=['PNG', 'JPEG', 'chunk'],
)
def test_sizes_that_the_bytes_cannot_have_are_refused_before_opencv_takes_gigabytes(
    content: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    with pytest.raises(ValueError, match=why):
        decoded(content)


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_a_picture_of_one_colour_is_whole_whatever_follows(suffix: str) -> None:
    black = np.zeros((2000, 3000, 3), np.uint8)
    assert (decoded(encoded(suffix, black)) == black).all()
    assert (decoded(encoded('.png') + b'\xff' * 40) == NOISE).all()


def test_an_error_of_opencv_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise cv2.error('OpenCV: (-215:Assertion failed)\n pixels <= CV_IO_MAX_IMAGE_PIXELS\n')

    monkeypatch.setattr(cv2, 'imdecode', refuse)
    with pytest.raises(ValueError, match=r'^OpenCV refuses it: OpenCV: \(-215.* pixels <= CV_IO_'):
        decoded(b'II*\0')
