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

from anomaly_seg_ros.frames.image_message import ENCODINGS, to_frame
from anomaly_seg_ros.frames.significant_bits import SignificantBits
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
    'rgb16': (RGB.astype('<u2') * 256 + 99, RGB),
    'bgr16': (RGB[..., ::-1].astype('<u2') * 256, RGB),
}
PAIRS = {'uyvy': 'UYVY', 'yuv422': 'UYVY', 'yuyv': 'YUYV', 'yuv422_yuy2': 'YUYV'}
PLANAR = {'nv12': 'UV', 'nv21': 'VU'}
BAYER = {
    'bayer_rggb8': ('RG', 'GB'),
    'bayer_bggr8': ('BG', 'GR'),
    'bayer_gbrg8': ('GB', 'RG'),
    'bayer_grbg8': ('GR', 'BG'),
}
BAYER |= {name.replace('8', '16'): rows for name, rows in BAYER.items()}
"""What colour the filter passes, for the first two rows and columns: the name read aloud."""


def mosaic(encoding: str, color: tuple[int, int, int], height: int, width: int) -> Any:
    """What a sensor with this filter sees of a flat colour."""
    values = dict(zip('RGB', color, strict=True))
    tile = np.array([[values[letter] for letter in row] for row in BAYER[encoding]], np.uint8)
    seen = np.tile(tile, (height // 2 + 1, width // 2 + 1))[:height, :width]
    return seen.astype('<u2') << 8 if encoding.endswith('16') else seen


def packed(encoding: str, y: int, u: int, v: int) -> Any:
    """A flat image of 4 x 6 pixels in 4:2:2: two bytes a pixel, U and V shared by two."""
    values = {'Y': y, 'U': u, 'V': v}
    row = [values[letter] for letter in PAIRS[encoding] * 3]
    return np.tile(np.array(row, np.uint8).reshape(6, 2), (4, 1, 1))


def to_rgb(message: Any) -> NDArray[np.uint8]:
    return to_frame(message).rgb


def test_the_tables_here_cover_every_encoding() -> None:
    assert sorted([*EXACT, *PAIRS, *PLANAR, *BAYER]) == sorted(ENCODINGS)


@pytest.mark.parametrize('padding', [0, 1, 5, 64])
@pytest.mark.parametrize('encoding', EXACT)
def test_pixels_by_hand(encoding: str, padding: int, image_message: Callable[..., Any]) -> None:
    pixels, expected = EXACT[encoding]
    rgb = to_rgb(image_message(pixels, encoding, padding))
    assert rgb.tolist() == expected.tolist()
    assert rgb.dtype == np.uint8


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'bayer_rggb16'])
def test_big_endian(encoding: str, padding: int, image_message: Callable[..., Any]) -> None:
    pixels = (GREY.astype(np.uint16) * 256 + 13).astype('>u2')
    if encoding.startswith('bayer'):
        pixels = np.full((4, 6), 0x8001, '>u2')
    rgb = to_rgb(image_message(pixels, encoding, padding, is_bigendian=1))
    assert rgb[..., 0].tolist() == (pixels >> 8).tolist()


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


def planar(encoding: str, y: Any, uv: Any, padding: int, image_message: Any, **fields: Any) -> Any:
    """A 4:2:0 image: the grey plane, then at half its size pairs of the colours' differences."""
    y = np.asarray(y, np.uint8)
    pairs = np.asarray(uv, np.uint8)[..., :: 1 if PLANAR[encoding] == 'UV' else -1]
    message = image_message(np.vstack([y, pairs.reshape(len(y) // 2, -1)]), encoding, padding)
    for name, value in {'height': len(y), **fields}.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', PLANAR)
def test_planar_yuv_by_hand(
    encoding: str, padding: int, image_message: Callable[..., Any]
) -> None:
    # Upper left red, lower left blue, right halves grey of four brightnesses.
    y = [[81, 81, 16, 235], [81, 81, 100, 180], [41, 41, 60, 60], [41, 41, 60, 60]]
    uv = [[[90, 240], [128, 128]], [[240, 110], [128, 128]]]
    frame = to_frame(planar(encoding, y, uv, padding, image_message))
    red, blue = (255, 0, 0), (0, 0, 255)
    grey = [[(0,) * 3, (255,) * 3], [(98,) * 3, (191,) * 3], [(51,) * 3] * 2, [(51,) * 3] * 2]
    expected = [[red] * 2, [red] * 2, [blue] * 2, [blue] * 2]
    whole = np.concatenate([np.array(expected), np.array(grey)], 1)
    assert frame.size == (4, 4)
    assert frame.rgb.shape == (4, 4, 3)
    assert (np.abs(frame.rgb.astype(int) - whole) <= 2).all()
    assert frame.rgb_at((2, 2)).shape == (2, 2, 3)


@pytest.mark.parametrize('encoding', PLANAR)
@pytest.mark.parametrize(
    ('fields', 'what'),
    [
        ({'width': 3}, 'width is 3; .* stores pixels in pairs'),
        ({'height': 3}, 'height is 3; .* stores rows in pairs'),
        ({'height': 6}, 'data holds 24 bytes; 9 rows of step 4 need 36'),
        ({'height': 0}, 'no pixels: 0 rows'),
    ],
)
def test_planar_images_that_do_not_fit(
    encoding: str, fields: dict[str, Any], what: str, image_message: Callable[..., Any]
) -> None:
    message = planar(encoding, np.zeros((4, 4)), np.zeros((2, 2, 2)), 0, image_message, **fields)
    with pytest.raises(ValueError, match=what):
        to_frame(message)


@pytest.mark.parametrize(
    ('largest', 'bits'), [(255, 8), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (65535, 16)]
)
@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'bgr16', 'bayer_gbrg16'])
def test_the_brightest_value_of_a_camera_is_white(
    encoding: str, largest: int, bits: int, image_message: Callable[..., Any]
) -> None:
    pixels = np.full((4, 4, 3) if encoding == 'bgr16' else (4, 4), largest, '<u2')
    frame = to_frame(image_message(pixels, encoding))
    assert frame.rgb.max() == largest >> bits - 8
    assert frame.rgb.max() >= 63
    assert frame.encoding == f'{encoding}, {bits} significant bits'


def test_significant_bits_never_shrink(image_message: Callable[..., Any]) -> None:
    bits = SignificantBits()

    def brightness(value: int) -> int:
        return int(
            to_frame(image_message(np.full((2, 2), value, '<u2'), 'mono16'), bits).rgb[0, 0, 0]
        )

    assert bits.bits == 0
    assert brightness(100) == 100
    assert brightness(4095) == 255
    assert brightness(100) == 6
    assert brightness(40_000) == 156
    assert (brightness(4095), bits.bits) == (15, 16)


@pytest.mark.parametrize(
    ('given', 'value', 'expected'),
    [
        (16, 4095, 15), (12, 4095, 255), (12, 1000, 62), (10, 1000, 250), (10, 1024, 255),
        (10, 65535, 255), (8, 77, 77), (4, 15, 255), (4, 5, 85), (1, 1, 255), (1, 0, 0),
    ],
)  # fmt: skip
def test_given_bits_hold_whatever_comes(
    given: int, value: int, expected: int, image_message: Callable[..., Any]
) -> None:
    bits = SignificantBits(given)
    for _ in range(2):
        message = image_message(np.full((2, 2), value, '<u2'), 'mono16')
        assert to_frame(message, bits).rgb.max() == expected
    assert bits.bits == given


def test_eight_bits_have_no_significant_ones(image_message: Callable[..., Any]) -> None:
    bits = SignificantBits()
    assert to_frame(image_message(GREY, 'mono8'), bits).encoding == 'mono8'
    assert bits.bits == 0


def test_an_unpadded_rgb_image_is_not_copied(image_message: Callable[..., Any]) -> None:
    message = image_message(RGB)
    assert np.shares_memory(to_rgb(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('encoding', [e for e in ENCODINGS if e not in ('rgb8', *PLANAR)])
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
        ({'encoding': 'rgb12'}, "unknown encoding 'rgb12'; choose one of: rgb8, bgr8"),
        ({'encoding': 'x' * 100_000}, f"unknown encoding '{'x' * 60}'...; choose one of"),
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
    assert len(str(error.value)) < 600


@pytest.mark.parametrize('size', [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_tiny_images_convert_or_are_refused(
    encoding: str, size: tuple[int, int], image_message: Callable[..., Any]
) -> None:
    message = image_message(np.zeros((2 * size[0], size[1], 6), np.uint8), encoding)
    message.height = size[0]
    if encoding in BAYER and min(size) < 3:
        with pytest.raises(ValueError, match='has no colours; it needs 3 pixels a side'):
            to_rgb(message)
    elif encoding in PLANAR and size[0] % 2 and not size[1] % 2:
        with pytest.raises(ValueError, match='stores rows in pairs'):
            to_rgb(message)
    elif encoding in (*PAIRS, *PLANAR) and size[1] % 2:
        with pytest.raises(ValueError, match='stores pixels in pairs'):
            to_rgb(message)
    else:
        assert to_rgb(message).shape == (*size, 3)


@pytest.mark.parametrize('encoding', [e for e in ENCODINGS if e not in PLANAR])
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
