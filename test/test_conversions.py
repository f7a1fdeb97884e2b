"""`sensor_msgs/Image` to RGB and back: every encoding by hand, and what is broken refused."""

from __future__ import annotations

from array import array
from collections.abc import Callable
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from anomaly_seg_ros.frames.image_message import ENCODINGS, to_rgb
from anomaly_seg_ros.ros.conversions import ImageWriter

pytestmark = pytest.mark.ros

RGB = np.array(
    [[[10, 20, 30], [40, 50, 60], [70, 80, 90], [1, 2, 3]], [[0, 0, 0], [255, 255, 255]] * 2],
    np.uint8,
)
"""Two rows of four pixels."""
GREY = np.array([[0, 1, 127, 128], [200, 254, 255, 9]], np.uint8)
ALPHA = np.full((2, 4, 1), 77, np.uint8)

# In each: the pixels as they lie in the message, the RGB that must come out.
EXACT: dict[str, tuple[NDArray[Any], NDArray[np.uint8]]] = {
    'rgb8': (RGB, RGB),
    'bgr8': (RGB[..., ::-1], RGB),
    '8UC3': (RGB[..., ::-1], RGB),
    'rgba8': (np.concatenate([RGB, ALPHA], 2), RGB),
    'bgra8': (np.concatenate([RGB[..., ::-1], ALPHA], 2), RGB),
    'mono8': (GREY, np.stack([GREY] * 3, -1)),
    '8UC1': (GREY, np.stack([GREY] * 3, -1)),
    'mono16': (GREY.astype('<u2') * 256 + 200, np.stack([GREY] * 3, -1)),
    '16UC1': (GREY.astype('<u2') * 256, np.stack([GREY] * 3, -1)),
}
PAIRS = {'uyvy': 'UYVY', 'yuv422': 'UYVY', 'yuyv': 'YUYV', 'yuv422_yuy2': 'YUYV'}
BAYER = {
    'bayer_rggb8': ('RG', 'GB'),
    'bayer_bggr8': ('BG', 'GR'),
    'bayer_gbrg8': ('GB', 'RG'),
    'bayer_grbg8': ('GR', 'BG'),
}
"""What colour the filter passes, for the first two rows and columns: the name read aloud."""


def mosaic(encoding: str, color: tuple[int, int, int], height: int, width: int) -> Any:
    """What a sensor with this filter sees of a flat colour."""
    values = dict(zip('RGB', color, strict=True))
    tile = np.array([[values[letter] for letter in row] for row in BAYER[encoding]], np.uint8)
    return np.tile(tile, (height // 2 + 1, width // 2 + 1))[:height, :width]


def packed(encoding: str, y: int, u: int, v: int) -> Any:
    """A flat image of 4 x 6 pixels in 4:2:2: two bytes a pixel, U and V shared by two."""
    values = {'Y': y, 'U': u, 'V': v}
    row = [values[letter] for letter in PAIRS[encoding] * 3]
    return np.tile(np.array(row, np.uint8).reshape(6, 2), (4, 1, 1))


def test_the_tables_here_cover_every_encoding() -> None:
    assert sorted([*EXACT, *PAIRS, *BAYER]) == sorted(ENCODINGS)


@pytest.mark.parametrize('padding', [0, 1, 5, 64])
@pytest.mark.parametrize('encoding', EXACT)
def test_pixels_by_hand(encoding: str, padding: int, image_message: Callable[..., Any]) -> None:
    pixels, expected = EXACT[encoding]
    rgb = to_rgb(image_message(pixels, encoding, padding))
    assert rgb.tolist() == expected.tolist()
    assert rgb.dtype == np.uint8


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
def test_big_endian(encoding: str, padding: int, image_message: Callable[..., Any]) -> None:
    pixels = (GREY.astype(np.uint16) * 256 + 13).astype('>u2')
    rgb = to_rgb(image_message(pixels, encoding, padding, is_bigendian=1))
    assert rgb[..., 0].tolist() == GREY.tolist()


@pytest.mark.parametrize('padding', [0, 7])
@pytest.mark.parametrize('encoding', BAYER)
@pytest.mark.parametrize('color', [(200, 100, 50), (255, 0, 0), (0, 0, 255)])
def test_a_mosaic_of_a_flat_colour_gives_the_colour(
    encoding: str, color: tuple[int, int, int], padding: int, image_message: Callable[..., Any]
) -> None:
    rgb = to_rgb(image_message(mosaic(encoding, color, 8, 10), encoding, padding))
    assert rgb.shape == (8, 10, 3)
    assert (rgb == color).all()


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', PAIRS)
@pytest.mark.parametrize(
    ('yuv', 'expected'),
    [
        # BT.601, 16..235: 1.164 (Y - 16) + {1.596 V', -0.813 V' - 0.391 U', 2.018 U'}
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (255, 255, 255)),
        ((81, 90, 240), (255, 0, 0)),
        ((145, 54, 34), (0, 255, 0)),
        ((41, 240, 110), (0, 0, 255)),
        ((100, 150, 120), (85, 96, 142)),
    ],
)
def test_packed_yuv(
    encoding: str,
    yuv: tuple[int, int, int],
    expected: tuple[int, ...],
    padding: int,
    image_message: Callable[..., Any],
) -> None:
    rgb = to_rgb(image_message(packed(encoding, *yuv), encoding, padding))
    assert rgb.shape == (4, 6, 3)
    assert (np.abs(rgb.astype(int) - expected) <= 2).all()


def test_an_unpadded_rgb_image_is_not_copied(image_message: Callable[..., Any]) -> None:
    message = image_message(RGB)
    assert np.shares_memory(to_rgb(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('encoding', [e for e in ENCODINGS if e != 'rgb8'])
def test_other_images_are_the_callers(encoding: str, image_message: Callable[..., Any]) -> None:
    wide = np.zeros((4, 4, 16), np.uint8)
    message = image_message(wide, encoding)
    rgb = to_rgb(message)
    assert rgb.shape == (4, 4, 3)
    assert not np.shares_memory(rgb, np.frombuffer(message.data, np.uint8))
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', 'mono16', 'bayer_rggb8', 'uyvy'])
def test_the_padding_of_the_last_row_may_be_missing(
    encoding: str, image_message: Callable[..., Any]
) -> None:
    message = image_message(np.arange(4 * 6 * 8, dtype=np.uint8).reshape(4, 6, 8), encoding, 9)
    expected = to_rgb(message)
    bytes_a_pixel = {'rgb8': 3, 'bgr8': 3, 'mono16': 2, 'uyvy': 2}.get(encoding, 1)
    needed = message.step * 3 + 6 * bytes_a_pixel
    message.data = message.data[:needed]
    assert (to_rgb(message) == expected).all()
    message.data = message.data[: needed - 1]
    with pytest.raises(ValueError, match=f'holds {needed - 1} bytes; .* need {needed}$'):
        to_rgb(message)


@pytest.mark.parametrize(
    ('fields', 'what'),
    [
        ({'encoding': 'rgb16'}, "unknown encoding 'rgb16'; choose one of: rgb8, bgr8"),
        ({'encoding': ''}, "unknown encoding ''"),
        ({'encoding': 'RGB8'}, "unknown encoding 'RGB8'"),
        ({'height': 0}, 'no pixels: 0 rows, 4 columns'),
        ({'width': 0}, 'no pixels: 2 rows, 0 columns'),
        ({'data': array('B')}, 'data holds 0 bytes; 2 rows of step 12 need 24'),
        ({'data': array('B', bytes(23))}, 'data holds 23 bytes; 2 rows of step 12 need 24'),
        ({'height': 3}, 'data holds 24 bytes; 3 rows of step 12 need 36'),
        ({'height': 2**32 - 1, 'step': 2**32 - 1}, 'data holds 24 bytes'),
        ({'step': 11}, "step is 11; 4 pixels of 'rgb8' need 12 bytes a row"),
        ({'step': 0}, 'step is 0'),
        ({'encoding': 'mono16', 'width': 7}, 'step is 12; 7 pixels'),
        ({'encoding': 'uyvy', 'width': 3}, "width is 3; 'uyvy' stores pixels in pairs"),
        ({'encoding': 'yuyv', 'width': 5}, "width is 5; 'yuyv' stores pixels in pairs"),
    ],
)
def test_broken_images_are_refused(
    fields: dict[str, Any], what: str, image_message: Callable[..., Any]
) -> None:
    message = image_message(RGB)
    for name, value in fields.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=what) as error:
        to_rgb(message)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('size', [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_tiny_images_convert_or_are_refused(
    encoding: str, size: tuple[int, int], image_message: Callable[..., Any]
) -> None:
    message = image_message(np.zeros((*size, 4), np.uint8), encoding)
    if encoding in PAIRS and size[1] % 2:
        with pytest.raises(ValueError, match='stores pixels in pairs'):
            to_rgb(message)
    else:
        assert to_rgb(message).shape == (*size, 3)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_as_cv_bridge_does(encoding: str, image_message: Callable[..., Any]) -> None:
    cv_bridge = pytest.importorskip('cv_bridge')
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 4), dtype=np.uint8)
    message = image_message(pixels, encoding)
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    assert np.abs(to_rgb(message).astype(int) - expected).max() <= 1


# --- and back ------------------------------------------------------------------------------------


def header() -> Header:
    result = Header(frame_id='camera')
    result.stamp.sec, result.stamp.nanosec = 12, 34
    return result


def test_field_checks_are_on() -> None:
    assert os.environ['ROS_PYTHON_CHECK_FIELDS'] == '1'
    with pytest.raises(AssertionError):
        Image().data = [1000]


FLOATS = np.array([[0.0, -1.5, 3e7], [np.inf, 1e-9, 1.0]], np.float32)


@pytest.mark.parametrize(
    ('encoding', 'image', 'raw', 'step'),
    [
        ('mono8', GREY, GREY.tobytes(), 4),
        ('bgr8', RGB, RGB[..., ::-1].tobytes(), 12),
        ('32FC1', FLOATS, FLOATS.tobytes(), 12),
    ],
)
def test_written_bytes_by_hand(encoding: str, image: Any, raw: bytes, step: int) -> None:
    stamp = header()
    message = ImageWriter(encoding).fill(image, stamp)
    assert message.header is stamp
    assert (message.height, message.width) == image.shape[:2]
    assert (message.encoding, message.step) == (encoding, step)
    assert message.is_bigendian == (sys.byteorder == 'big')
    assert isinstance(message.data, array)
    assert message.data.typecode == 'B'
    assert message.data.tobytes() == raw


@pytest.mark.parametrize(
    ('encoding', 'kind', 'channels'),
    [('mono8', np.uint8, ()), ('bgr8', np.uint8, (3,)), ('32FC1', np.float32, ())],
)
def test_the_buffer_is_used_again_until_the_size_changes(
    encoding: str, kind: Any, channels: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    writer = ImageWriter(encoding)

    def fill(height: int, width: int) -> tuple[Any, Any]:
        image = rng.integers(0, 256, (height, width, *channels)).astype(kind)
        message = writer.fill(image, header())
        expected = image[..., ::-1] if channels else image
        assert message.data.tobytes() == np.ascontiguousarray(expected).tobytes()
        assert (message.height, message.width) == (height, width)
        assert message.step == width * (len(channels) * 3 or 1) * np.dtype(kind).itemsize
        return message, message.data

    first, buffer = fill(4, 6)
    second, same_buffer = fill(4, 6)
    assert second is first
    assert same_buffer is buffer
    _, wider = fill(6, 4)
    assert wider is not buffer
    fill(2, 2)
    fill(40, 60)


def test_an_image_that_is_not_contiguous() -> None:
    message = ImageWriter('bgr8').fill(RGB[:, ::2], header())
    assert message.data.tobytes() == RGB[:, ::2, ::-1].tobytes()
    message = ImageWriter('mono8').fill(GREY[:, ::2], header())
    assert message.data.tobytes() == GREY[:, ::2].tobytes()


def test_another_type_is_never_squeezed_in() -> None:
    with pytest.raises(TypeError):
        ImageWriter('mono8').fill(FLOATS, header())


def test_a_written_image_is_read_as_it_was() -> None:
    assert (to_rgb(ImageWriter('bgr8').fill(RGB, header())) == RGB).all()
    assert (to_rgb(ImageWriter('mono8').fill(GREY, header()))[..., 1] == GREY).all()
