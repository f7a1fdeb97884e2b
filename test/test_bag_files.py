"""Bags: written from images, read whole and damaged."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
import os
from pathlib import Path
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from types import SimpleNamespace
from typing import Any

import cv2
from lz4.frame import compress as lz4_compress
import numpy as np
from numpy.typing import NDArray
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from anomaly_seg_ros.bags import packing
from anomaly_seg_ros.bags.mcap_file import McapFile
from anomaly_seg_ros.bags.mcap_scan import McapScan
from anomaly_seg_ros.bags.packing import zstd
from anomaly_seg_ros.bags.reader import (
    BagReader,
    choose_topic,
    read_images,
    TYPESTORE,
)
from anomaly_seg_ros.bags.sqlite_scan import SqliteScan
from anomaly_seg_ros.bags.storage import is_bag, open_storage, unpack_message
from anomaly_seg_ros.bags.writer import BagWriter, Stamp
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands.make_bag import START_NS
from anomaly_seg_ros.frames.image_message import compressed_to_frame
from anomaly_seg_ros.frames.images import encode_image
from anomaly_seg_ros.node.message_types import COMPRESSED_IMAGE, IMAGE, TEXT

ROOT = Path(__file__).resolve().parent.parent
HEIGHT, WIDTH = 24, 32
STORAGES = pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])


def pictures(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    """Noise, so that no two are alike and none can be packed away."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def images_of(bag: Path, topic: str) -> list[Any]:
    with BagReader(bag) as reader:
        return list(reader.images(topic))


def data_file(bag: Path) -> Path:
    (path,) = [path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3')]
    return path


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


# --- messages ------------------------------------------------------------------------------------


def compressed(data: bytes, kind: str = '') -> Any:
    return SimpleNamespace(format=kind, data=array('B', data))


def compressed_to_rgb(message: Any) -> NDArray[np.uint8]:
    return compressed_to_frame(message).rgb


@pytest.mark.parametrize('kind', ['', 'png', 'rgb8; png compressed bgr8', 'something else'])
def test_png_messages_are_lossless_whatever_their_format_says(kind: str) -> None:
    (image,) = pictures(1)
    assert (compressed_to_rgb(compressed(encode_image(image, '.png'), kind)) == image).all()


def test_jpeg_messages_keep_the_order_of_colours() -> None:
    image = np.full((16, 16, 3), (250, 10, 90), np.uint8)
    decoded = compressed_to_rgb(compressed(encode_image(image, '.jpg')))
    assert np.abs(decoded.astype(int) - image).max() <= 4


def as_file(suffix: str, image: Any) -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


@pytest.mark.parametrize(
    ('data', 'kind', 'problem'),
    [
        (b'', 'jpeg', 'cannot decode 0 bytes'),
        (b'no image at all', 'jpeg', 'cannot decode 15 bytes'),
        (encode_image(pictures(1)[0], '.jpg')[:-200], 'jpeg', 'is cut short'),
        (encode_image(pictures(1)[0], '.png'), '16UC1; compressedDepth png', 'is a depth image'),
        (
            encode_image(pictures(1)[0], '.png'),
            'rgb8; jpeg compressed bgr8',
            "format is 'rgb8; jpeg compressed bgr8', but the data are png",
        ),
        (encode_image(pictures(1)[0], '.jpg'), 'PNG', "format is 'PNG', but the data are jpeg"),
        (
            as_file('.png', np.full((5, 5), 1200, np.uint16)),
            'rgb8; png compressed bgr8',
            "format is 'rgb8; png compressed bgr8', but the data are uint16; is it depth?",
        ),
        (
            as_file('.jpg', np.zeros((2, 9), np.uint8)),
            'bayer_rggb8; jpeg compressed ',
            'a Bayer image of 9x2 has no colours; it needs 3 pixels a side',
        ),
        (b'', 'jpeg' * 100, r'cannot decode 0 bytes of format .{62}\.\.\. as an image'),
    ],
)
def test_compressed_messages_that_cannot_be_used(data: bytes, kind: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        compressed_to_rgb(compressed(data, kind))


@pytest.mark.parametrize('kind', ['mono16; png compressed ', '16UC1; png compressed ', 'png', ''])
def test_a_compressed_image_of_a_12_bit_camera_is_not_black(kind: str) -> None:
    image = np.array([[0, 16, 4095], [100, 2048, 15]], np.uint16)
    frame = compressed_to_frame(compressed(as_file('.png', image), kind))
    assert frame.rgb[..., 0].tolist() == [[0, 1, 255], [6, 128, 0]]
    assert frame.encoding == f'{kind.partition(";")[0] or "png"}, 12 significant bits'


@pytest.mark.parametrize(
    ('kind', 'order'), [('rggb', 'RGGB'), ('bggr', 'BGGR'), ('gbrg', 'GBRG'), ('grbg', 'GRBG')]
)
@pytest.mark.parametrize(('suffix', 'codec'), [('.jpg', 'jpeg'), ('.png', 'png')])
@pytest.mark.parametrize('depth', [8, 16])
def test_a_mosaic_in_a_compressed_image_has_its_colours(
    kind: str, order: str, suffix: str, codec: str, depth: int
) -> None:
    color = dict(zip('RGB', (200, 100, 50), strict=True))
    tile = np.array([color[letter] for letter in order], np.uint8).reshape(2, 2)
    mosaic: Any = np.tile(tile, (8, 8))
    if depth == 16 and suffix == '.png':
        mosaic = mosaic.astype(np.uint16) << 4
    data = as_file(suffix, mosaic)
    frame = compressed_to_frame(compressed(data, f'bayer_{kind}{depth}; {codec} compressed '))
    assert np.abs(frame.rgb.astype(int) - (200, 100, 50)).max() <= 6
    assert frame.rgb_at((4, 4)).shape == (4, 4, 3)


def test_floats_in_a_compressed_image_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.zeros((3, 4, 3), np.float32))
    with pytest.raises(ValueError, match='but the data are float32; is it depth'):
        compressed_to_frame(compressed(as_file('.png', np.zeros((3, 4), np.uint8))))


def test_colours_in_a_compressed_bayer_image_stay_what_they_are() -> None:
    (image,) = pictures(1)
    message = compressed(encode_image(image, '.png'), 'bayer_rggb8; png compressed bgr8')
    assert (compressed_to_rgb(message) == image).all()


# --- writing and reading -------------------------------------------------------------------------


FILL_THE_DISK = """
import os, sys
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Reader

from anomaly_seg_ros.node.message_types import IMAGE
from anomaly_seg_ros.bags.writer import BagWriter, Stamp

disk = Path(sys.argv[1])
image = np.frombuffer(os.urandom(600 * 1000), np.uint8).reshape(600, 1000)
try:
    with BagWriter(disk / 'bag', packed=True) as bag:
        bag.add_topic('/image', IMAGE)
        for number in range(1, 8):
            bag.add_image('/image', Stamp(number, number, 'front'), image, 'mono8')
            if number == 4:
                with (disk / 'of_others').open('wb', buffering=0) as other:
                    while other.write(bytes(4096)):
                        pass
except OSError as error:
    print(error.strerror)
with Reader(disk / 'bag') as reader:
    print([log_time for _, log_time, data in reader.messages() if image.tobytes() in bytes(data)])
"""
OWN_DISK = 'mount -t tmpfs -o size=8m tmpfs {disk} && exec "$@"'


def test_a_full_disk_leaves_a_whole_bag(root: Path, tmp_path: Path) -> None:
    """The end has its room from the beginning: here others take all that is left."""
    shell = ['unshare', '-m', 'sh', '-c', OWN_DISK.format(disk=tmp_path), 'sh']
    if subprocess.run([*shell, 'true'], capture_output=True, check=False).returncode:
        pytest.skip('no mount of our own may be made here')
    command = [*shell, sys.executable, '-c', FILL_THE_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stderr == ''
    assert done.stdout.splitlines() == ['No space left on device', '[1, 2, 3, 4]']


@STORAGES
@pytest.mark.parametrize('packing', [None, 'png', 'jpeg'])
def test_what_is_written_is_read_back(
    make: Callable[..., Path], storage: str, packing: str | None
) -> None:
    images = pictures(5)
    found = list(read_images(make(images, storage, packing)))
    assert [stamp for stamp, _ in found] == [START_NS + i * 10**8 for i in range(5)]
    for (_, pixels), image in zip(found, images, strict=True):
        if packing == 'jpeg':
            assert np.abs(pixels.astype(int) - image).mean() < 60
        else:
            assert (pixels == image).all()


def test_make_bag_is_the_same_each_time(make: Callable[..., Path], tmp_path: Path) -> None:
    first = data_file(make(pictures(3))).read_bytes()
    shutil.rmtree(tmp_path / 'in')
    assert data_file(make(pictures(3))).read_bytes() == first


def test_make_bag_names_topic_rate_and_source(
    save: Callable[..., list[Path]], tmp_path: Path, capsys: Any
) -> None:
    save(tmp_path / 'images', pictures(3), 'street_{}')
    out = tmp_path / 'bag'
    argv = ['make_bag', str(tmp_path / 'images'), '--out', str(out), '--rate', '4']
    assert main([*argv, '--topic', 'front/image', '--compressed', 'png']) == 0
    assert f'3 images on /front/image/compressed; play it: ros2 bag play {out}' in (
        capsys.readouterr().out
    )
    with BagReader(out) as reader:
        assert reader.topics == {
            '/front/image/compressed': COMPRESSED_IMAGE,
            '/front/image/name': TEXT,
        }
        names = reader.image_names('/front/image/compressed')
        frames = list(reader.images('/front/image/compressed'))
    assert [names[frame.log_time] for frame in frames] == [f'street_{i}.png' for i in range(3)]
    assert [frame.stamp for frame in frames] == [START_NS + i * 250_000_000 for i in range(3)]
    assert {frame.frame_id for frame in frames} == {'camera'}


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--rate', '0'], 'rate is 0; it must lie above 0'),
        (['--rate', 'inf'], 'rate is inf; it must lie above 0'),
        (['--rate', 'nan'], 'rate is nan; it must lie above 0'),
        (['--rate', '1e-10'], 'may not last until a stamp of 2147483648 s'),
        (['--topic', 'front image'], "'front image' is no topic; use letters"),
        (['--topic', '/'], 'is no topic'),
    ],
)
def test_make_bag_refuses(
    save: Callable[..., list[Path]], more: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    save(tmp_path / 'images', pictures(1))
    argv = ['make_bag', str(tmp_path / 'images'), '--out', str(tmp_path / 'bag'), *more]
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_make_bag_leaves_nothing_half_done(
    save: Callable[..., list[Path]], tmp_path: Path, capsys: Any
) -> None:
    paths = save(tmp_path / 'images', pictures(3))
    paths[1].write_bytes(b'broken')
    argv = ['make_bag', str(tmp_path / 'images'), '--out', str(tmp_path / 'bag')]
    assert main(argv) == 2
    assert 'f01.png' in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_make_bag_overwrites_nothing(make: Callable[..., Path], tmp_path: Path) -> None:
    bag = make(pictures(1))
    before = data_file(bag).read_bytes()
    with pytest.raises(ValueError, match='exists; delete it or choose another folder'):
        make(pictures(2))
    assert data_file(bag).read_bytes() == before


# --- topics --------------------------------------------------------------------------------------


def test_the_topic_is_the_only_one_or_the_one_asked_for() -> None:
    both = {'/a': IMAGE, '/b': COMPRESSED_IMAGE, '/text': TEXT}
    assert choose_topic({'/a': IMAGE, '/text': TEXT}, None, Path('x')) == '/a'
    assert choose_topic(both, '/b', Path('x')) == '/b'


@pytest.mark.parametrize(
    ('known', 'asked', 'message'),
    [
        (
            {'/a': IMAGE, '/b': COMPRESSED_IMAGE},
            None,
            'has the image topics /a, /b; choose one with',
        ),
        ({'/a': IMAGE, '/t': TEXT}, '/t', "has the image topics /a; '/t' is not among them"),
        ({'/t': TEXT}, None, 'has no image topic'),
        ({}, '/a', 'has no image topic'),
    ],
)
def test_a_topic_that_is_not_clear(known: dict[str, str], asked: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_topic(known, asked, Path('x'))


# --- damage --------------------------------------------------------------------------------------


@STORAGES
@pytest.mark.parametrize('packing', [None, 'png'])
@pytest.mark.parametrize('share', [0.3, 0.5, 0.9])
def test_a_cut_bag_gives_its_readable_part(
    make: Callable[..., Path], storage: str, packing: str | None, share: float
) -> None:
    images = pictures(40, 64, 96)
    bag = make(images, storage, packing)
    cut(data_file(bag), share)
    with BagReader(bag) as reader:
        topic = choose_topic(reader.topics, None, bag)
        found = list(reader.images(topic))
        (problem,) = reader.problems()
        assert reader.announced(topic) == 40
        assert reader.count(topic) in (None, len(found))
    size = data_file(bag).stat().st_size
    assert problem.startswith(data_file(bag).name)
    assert str(size) in problem
    # Noise hardly packs: the part of the images is that of the bytes, less one chunk.
    assert 40 * share - 8 <= len(found) <= 40
    for frame, image in zip(found, images, strict=False):
        assert (frame.frame().rgb == image).all()
    assert [frame.stamp for frame in found] == [START_NS + i * 10**8 for i in range(len(found))]


def test_a_lost_index_loses_no_message(make: Callable[..., Path]) -> None:
    bag = make(pictures(5))
    path = data_file(bag)
    os.truncate(path, path.stat().st_size - 10)
    with BagReader(bag) as reader:
        assert len(list(reader.images('/image'))) == 5
        assert reader.problems() == []


@pytest.mark.parametrize('storage_packing', ['', 'zstd', 'lz4'])
def test_a_cut_chunk_gives_its_readable_part(tmp_path: Path, storage_packing: str) -> None:
    with BagWriter(tmp_path / 'in', packed=storage_packing == 'zstd') as bag:
        bag.add_topic('/image', IMAGE)
        for i, image in enumerate(pictures(40, 64, 96)):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    if storage_packing == 'lz4':
        pack_first_chunk_with_lz4(path)
    # One chunk of 40 x 18 kB is all there is; a third of it holds at least ten whole images.
    cut(path, 0.34)
    assert len(images_of(path, '/image')) >= 10


def pack_first_chunk_with_lz4(path: Path) -> None:
    """Writes the chunk of a file anew as a recorder with lz4 would have; the rest goes."""
    content = path.read_bytes()
    start = 8
    kind, length = struct.unpack_from('<BQ', content, start)
    assert kind == 0x01
    chunk = start + 9 + length
    kind, length = struct.unpack_from('<BQ', content, chunk)
    assert kind == 0x06
    head, records = content[chunk + 9 : chunk + 9 + 28], content[chunk + 9 + 40 :][: length - 40]
    packed = lz4_compress(records)
    body = head + struct.pack('<I', 3) + b'lz4' + struct.pack('<Q', len(packed)) + packed
    path.write_bytes(content[:chunk] + struct.pack('<BQ', 0x06, len(body)) + body)


@STORAGES
def test_a_killed_recorder_leaves_no_metadata(make: Callable[..., Path], storage: str) -> None:
    bag = make(pictures(6), storage)
    (bag / 'metadata.yaml').unlink()
    with BagReader(bag) as reader:
        assert len(list(reader.images('/image'))) == 6
        assert reader.announced('/image') is None
        assert reader.problems() == ['there is no metadata.yaml; was the recorder killed?']
    with BagReader(data_file(bag)) as reader:
        assert len(list(reader.images('/image'))) == 6
        assert reader.problems() == []
    assert is_bag(bag)
    assert is_bag(data_file(bag))


def test_damaged_metadata_is_done_without(make: Callable[..., Path]) -> None:
    bag = make(pictures(4))
    (bag / 'metadata.yaml').write_text('rosbag2_bagfile_information: [1, 2', encoding='utf-8')
    with BagReader(bag) as reader:
        assert len(list(reader.images('/image'))) == 4
        assert reader.problems() == ['metadata.yaml is damaged; the files are read without it']


def spoilt(content: bytes, number: int, back: int = 0) -> bytes:
    """Overwrites the start of a packed chunk, or what lies before it: 20 bytes its checksum."""
    place = 0
    for _ in range(number):
        place = content.index(b'\x28\xb5\x2f\xfd', place + 1)
    return content[: place - back] + b'\1\2\3\4' + content[place - back + 4 :]


@pytest.mark.parametrize('back', [0, 20], ids=['content', 'checksum'])
def test_a_damaged_chunk_in_a_cut_file_is_left_out(tmp_path: Path, back: int) -> None:
    with BagWriter(tmp_path / 'in', packed=True) as bag:
        bag.add_topic('/image', IMAGE)
        for i, image in enumerate(pictures(9, 600, 600)):  # each fills a chunk
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    path.write_bytes(spoilt(path.read_bytes(), 5, back)[:-40])
    with BagReader(path) as reader:
        assert [frame.stamp for frame in reader.images('/image')] == [0, 1, 2, 3, 5, 6, 7, 8]
        assert reader.count('/image') == 8
        assert reader.problems() == ['in.mcap: 1 damaged chunks are left out']


def test_a_damaged_chunk_in_a_whole_file_ends_the_reading(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'in', packed=True) as bag:
        bag.add_topic('/image', IMAGE)
        for i, image in enumerate(pictures(4, 600, 600)):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    path.write_bytes(spoilt(path.read_bytes(), 3))
    with BagReader(path) as reader:
        assert [frame.stamp for frame in reader.images('/image')] == [0, 1]
        (problem,) = reader.problems()
    assert problem.startswith('in.mcap: damaged: ')


def test_a_bag_of_16_bit_images_is_as_bright_as_they_are(tmp_path: Path, capsys: Any) -> None:
    values = np.array([[[0, 16, 4095]] * 3] * 2, np.uint16)
    (tmp_path / 'images').mkdir()
    for name, image in (('a', values), ('b', values // 16)):
        (tmp_path / 'images' / f'{name}.png').write_bytes(as_file('.png', image))
    assert main(['make_bag', str(tmp_path / 'images'), '--out', str(tmp_path / 'bag')]) == 0
    assert '2 images (of 16 bits, 12 of them significant) on /image' in capsys.readouterr().out
    bright, dark = (image for _, image in read_images(tmp_path / 'bag'))
    assert (bright[0, 0].tolist(), dark[0, 0].tolist()) == ([255, 1, 0], [15, 0, 0])


def test_hidden_files_are_no_part_of_a_bag(make: Callable[..., Path]) -> None:
    bag = make(pictures(2))
    (bag / '._in.mcap').write_bytes(b'what macOS puts on foreign disks')
    (bag / 'metadata.yaml').unlink()
    with BagReader(bag) as reader:
        assert len(list(reader.images('/image'))) == 2
        assert not any('._in' in problem for problem in reader.problems())
    (bag / 'in.mcap').unlink()
    assert not is_bag(bag)


def test_messages_that_sqlite_has_not_filed_yet_are_spoken_of(make: Callable[..., Path]) -> None:
    bag = make(pictures(2), 'sqlite3')
    (bag / 'in.db3-wal').write_bytes(b'something')
    with BagReader(bag) as reader:
        assert len(list(reader.images('/image'))) == 2
        (problem,) = reader.problems()
    assert 'in.db3-wal holds messages that are not in the bag yet' in problem


def test_split_bags_are_read_in_order_and_lost_files_named(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / 'long'
    folder.mkdir()
    for number, image in zip((9, 10, 11), pictures(3), strict=True):
        with BagWriter(tmp_path / f'part{number}') as bag:
            bag.add_topic('/image', IMAGE)
            bag.add_image('/image', Stamp(number, number, 'c'), image, 'rgb8')
        data_file(tmp_path / f'part{number}').rename(folder / f'long_{number}.mcap')
    assert [stamp for stamp, _ in read_images(folder)] == [9, 10, 11]
    (folder / 'metadata.yaml').write_text(
        'rosbag2_bagfile_information:\n'
        '  relative_file_paths: [long_10.mcap, long_11.mcap, long_12.mcap]\n'
        '  topics_with_message_count: []\n',
        encoding='utf-8',
    )
    with BagReader(folder) as reader:
        assert [frame.stamp for frame in reader.images('/image')] == [10, 11]
        assert reader.problems() == ['metadata.yaml names files that are not there: long_12.mcap']


@pytest.mark.parametrize('mode', ['MESSAGE', 'FILE'])
@STORAGES
def test_bags_that_the_recorder_has_packed(tmp_path: Path, mode: str, storage: str) -> None:
    images = pictures(3)
    writer = Writer(tmp_path / 'in', version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with BagWriter(tmp_path / 'plain', storage) as bag:
        bag.add_topic('/image', IMAGE)
        for i, image in enumerate(images):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    with writer, BagReader(tmp_path / 'plain') as reader:
        connection = writer.add_connection('/image', IMAGE, typestore=TYPESTORE)
        for _, _, log_time, data in reader.messages(['/image']):
            writer.write(connection, log_time, data)
    found = [pixels for _, pixels in read_images(tmp_path / 'in')]
    assert all((a == b).all() for a, b in zip(found, images, strict=True))


# --- sizes that a file only claims, or hides -----------------------------------------------------


def bomb(size: int, declared: bool) -> bytes:
    """Zeros that zstd packs to nearly nothing, with or without their number in the head."""
    if declared:
        return bytes(zstd.compress(bytes(size)))
    packer = zstd.ZstdCompressor()
    blocks = [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b''.join([*blocks, packer.flush()])


BOMBS = pytest.mark.parametrize('declared', [True, False], ids=['declared', 'hidden'])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, 'MOST_BYTES', 2**20)


def peak_mb(code: str) -> int:
    """Peak memory of a process of its own that runs some code."""
    ending = 'import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)'
    command = [sys.executable, '-c', f'{code}\n{ending}']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


@BOMBS
def test_bytes_are_unpacked_up_to_a_bound(declared: bool, small: None) -> None:
    assert unpack_message(zstd.compress(bytes(2**20))) == bytes(2**20)
    with pytest.raises(ValueError, match=r'the packed message: unpacks to .*more than 1 MiB'):
        unpack_message(bomb(2**21, declared))
    two_frames = zstd.compress(bytes(2**19)) + zstd.compress(bytes(2**19 + 1))
    with pytest.raises(ValueError, match='unpacks to more than 1 MiB'):
        unpack_message(two_frames)
    with pytest.raises(ValueError, match='unpacks to more than 1 MiB'):
        packing.unpack(lz4_compress(bytes(2**21)), 'lz4')


@pytest.mark.slow
@BOMBS
def test_a_bomb_of_gigabytes_takes_no_more_than_the_bound(declared: bool, tmp_path: Path) -> None:
    path = tmp_path / 'bomb.zst'
    if declared:  # a head that claims 8 GiB, and nothing behind it
        path.write_bytes(b'\x28\xb5\x2f\xfd\xe0' + (8 * 2**30).to_bytes(8, 'little'))
    else:
        path.write_bytes(bomb(2 * 2**30, declared))
        assert path.stat().st_size < 300_000
    code = 'from anomaly_seg_ros.bags.storage import unpack_message\n'
    idle = peak_mb(code)
    code += (
        f'try:\n    unpack_message(open({str(path)!r}, "rb").read())\n'
        'except ValueError as error:\n    assert "more than 512 MiB" in str(error)\n'
    )
    assert peak_mb(code) - idle < (20 if declared else 1200)  # the parts, and they joined


@BOMBS
def test_a_message_that_is_too_large_is_one_broken_frame(
    declared: bool, small: None, tmp_path: Path
) -> None:
    with BagWriter(tmp_path / 'plain') as bag:
        bag.add_topic('/image', IMAGE)
        for i, image in enumerate(pictures(3)):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    with BagReader(tmp_path / 'plain') as reader:
        messages = list(reader.messages(['/image']))
    writer = Writer(tmp_path / 'in', version=9, storage_plugin=StoragePlugin.SQLITE3)
    with writer:
        connection = writer.add_connection('/image', IMAGE, typestore=TYPESTORE)
        for i, (_, _, log_time, data) in enumerate(messages):
            packed = bomb(2**21, declared) if i == 1 else zstd.compress(data)
            writer.write(connection, log_time, packed)
    frames = images_of(tmp_path / 'in', '/image')
    assert [frame.message is None for frame in frames] == [False, True, False]
    assert re.fullmatch(r'the packed message: unpacks to .*more than 1 MiB', frames[1].problem)
    assert '\n' not in frames[1].problem


def with_first_chunk(path: Path, size: int, packed: bytes, *, cut: bool) -> None:
    """Puts other bytes into a chunk whose length must stay; without its end if `cut`."""
    content = bytearray(path.read_bytes())
    start = content.index(b'\x28\xb5\x2f\xfd')
    head = start - 8 - 4 - len('zstd')
    length = int.from_bytes(content[start - 8 : start], 'little')
    assert len(packed) <= length
    padding = length - len(packed)
    # A skippable frame of zstd fills the rest.
    filler = b'\x50\x2a\x4d\x18' + (padding - 8).to_bytes(4, 'little') + bytes(padding - 8)
    content[start : start + length] = packed + filler
    content[head - 12 : head - 4] = size.to_bytes(8, 'little')
    content[head - 4 : head] = bytes(4)
    path.write_bytes(content[:-40] if cut else content)


@pytest.mark.parametrize('cut', [False, True], ids=['whole', 'cut'])
@pytest.mark.parametrize(
    ('size', 'real', 'declared', 'problem'),
    [
        (2**21, 2**21, True, 'unpacks to 2 MiB, which is more than 1 MiB'),
        (2**40, 2**10, True, 'unpacks to 1048576 MiB, which is more than 1 MiB'),
        (2**10, 2**21, True, 'damaged: it holds more than the 1024 bytes that it declares'),
        (2**10, 2**21, False, 'damaged: it holds more than the 1024 bytes that it declares'),
    ],
)
def test_a_chunk_that_is_too_large_is_refused(
    size: int, real: int, declared: bool, problem: str, cut: bool, small: None, tmp_path: Path
) -> None:
    with BagWriter(tmp_path / 'in', packed=True) as bag:
        bag.add_topic('/image', IMAGE)
        for i, image in enumerate(pictures(2, 300, 600)):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    with_first_chunk(path, size, bomb(real, declared), cut=cut)
    if cut:
        with pytest.raises(ValueError, match='has no image topic'):
            list(read_images(path))
        with BagReader(path) as reader:
            (found,) = reader.problems()
        assert found.startswith('in.mcap: 1 ')
        assert 'left out' in found
        assert problem in found or 'damaged chunks' in found
        return
    with BagReader(path) as reader:
        assert list(reader.images('/image')) == []
        (found,) = reader.problems()
    assert found.startswith(f'in.mcap: {problem} (the chunk at byte ')


@BOMBS
def test_a_packed_file_takes_at_most_half_of_what_is_free(
    declared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / 'in').mkdir()
    path = tmp_path / 'in' / 'in_0.db3.zstd'
    path.write_bytes(bomb(2**24, declared))
    free = shutil.disk_usage(tmp_path)._replace(free=2**24)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: free)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    argv = ['bag', str(tmp_path / 'in'), '--checkpoint', 'default', '--out', str(tmp_path / 'o')]
    assert main(argv) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(r'in_0.db3.zstd. unpacks to .*more than 8 MiB, half of what is free', error)
    assert f'zstd -d {path}' in error
    assert '\n' not in error
    assert [p.name for p in tmp_path.iterdir()] == ['in']


def test_a_summary_that_does_not_speak_of_all_is_not_trusted(tmp_path: Path) -> None:
    """Other numbers of messages in the statistics and the index: the file is read through."""
    with BagWriter(tmp_path / 'in') as bag:
        bag.add_topic('/image', IMAGE)
        for i, image in enumerate(pictures(3)):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    assert isinstance(open_storage(path), McapFile)
    content = path.read_bytes()
    statistics = content.rindex(b'\x0b' + (56).to_bytes(8, 'little'))
    for place, value in ((9, 20), (9 + 8 + 2 + 4 + 4 + 4, 7)):  # messages; chunks
        changed = bytearray(content)
        changed[statistics + place] = value
        path.write_bytes(changed)
        storage = open_storage(path)
        assert isinstance(storage, McapScan)
        assert storage.counts == {'/image': 3}
        assert len(list(storage.messages(['/image']))) == 3


def without_message_indices(content: bytes) -> bytes:
    """Takes out of each index of a chunk where its messages lie, as some recorders write it."""
    start = int.from_bytes(content[-28:-20], 'little')
    place, summary = start, b''
    while content[place] != 0x02:
        length = int.from_bytes(content[place + 1 : place + 9], 'little')
        record = content[place + 9 : place + 9 + length]
        if content[place] == 0x08:
            size = int.from_bytes(record[32:36], 'little')
            assert size
            record = record[:32] + bytes(4) + record[36 + size :]
        summary += content[place : place + 1] + len(record).to_bytes(8, 'little') + record
        place += 9 + length
    return content[:start] + summary + content[place:]


def test_a_summary_without_message_indices_is_enough(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'in') as bag:
        for topic in ('/image', '/other'):
            bag.add_topic(topic, IMAGE)
        for i, image in enumerate(pictures(3, 600, 600)):
            bag.add_image('/other' if i == 1 else '/image', Stamp(i, i, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    path.write_bytes(without_message_indices(path.read_bytes()))
    storage = open_storage(path)
    assert isinstance(storage, McapFile)
    assert storage.counts == {'/image': 2, '/other': 1}
    assert [message.log_time for message in storage.messages(['/image'])] == [0, 2]


TOPICS = 'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT)'
MESSAGES = 'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, '


def write_sqlite(path: Path, *statements: str) -> Path:
    file = sqlite3.connect(path)
    for statement in statements:
        file.execute(statement)
    file.commit()
    file.close()
    return path


ENDLESS = 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS id, '


@pytest.mark.parametrize(
    ('statements', 'name'),
    [
        ((TOPICS, f'CREATE VIEW messages AS {ENDLESS} 1 AS topic_id FROM c'), 'messages'),
        (
            (MESSAGES + 'data BLOB)', f'CREATE VIEW topics AS {ENDLESS} "/t" AS name FROM c'),
            'topics',
        ),
        ((TOPICS, MESSAGES + 'data BLOB AS (zeroblob(900000000)))'), 'messages'),
        ((TOPICS, 'CREATE VIRTUAL TABLE messages USING fts4(data)'), 'messages'),
    ],
    ids=['view', 'topics', 'generated', 'virtual'],
)
def test_what_a_bag_computes_is_no_recording(
    statements: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    path = write_sqlite(tmp_path / 'in.db3', *statements)
    with pytest.raises(ValueError, match=f"'{name}' in it is no plain table"):
        open_storage(path)
    if name == 'messages' and 'VIEW' in statements[1]:  # the type that a schema names is a text
        file = sqlite3.connect(path)
        file.execute('PRAGMA writable_schema = ON')
        file.execute("UPDATE sqlite_master SET type = 'table' WHERE type = 'view'")
        file.commit()
        file.close()
        with pytest.raises(ValueError, match=f"'{name}' in it is no plain table"):
            open_storage(path)


@pytest.mark.parametrize('scan', [False, True], ids=['whole', 'scan'])
def test_rows_of_other_types_are_broken_frames(scan: bool, tmp_path: Path) -> None:
    data = raw_cdr(pictures(1)[0]).hex()
    path = write_sqlite(
        tmp_path / 'in.db3',
        TOPICS,
        MESSAGES + 'data)',
        f"INSERT INTO topics VALUES (1, '/image', '{IMAGE}'), (2, NULL, NULL), "
        f"(3, x'ff', '{IMAGE}')",
        "INSERT INTO messages VALUES (1, 1, 5, NULL), (2, 1, 6, 'text'), (3, 3, 6, NULL), "
        f"(4, 1, 'late', x'{data}')",
    )
    with BagReader(path) as reader:
        if scan:
            reader._storages = [(path.name, SqliteScan(path))]
        assert reader.topics == {'/image': IMAGE}
        frames = list(reader.images('/image'))
        assert reader.problems() == [
            'in.db3: 2 topics are left out (they have no name or no type)'
        ]
    assert [(frame.log_time, frame.message is None) for frame in frames] == [
        (5, True), (6, True), (0, False),
    ]  # fmt: skip
    assert all(frame.problem for frame in frames[:2])


def mcap_record(kind: int, content: bytes) -> bytes:
    return struct.pack('<BQ', kind, len(content)) + content


def mcap_text(text: str) -> bytes:
    return struct.pack('<I', len(text)) + text.encode()


def write_mcap(
    path: Path,
    messages: list[tuple[int, bytes]],
    kinds: list[str],
    *,
    indexed: bool = False,
    counted: bool = True,
    repeated: bool = True,
    outside: int = 0,
    times: Sequence[int] | None = None,
) -> None:
    """Writes one chunk of messages, (channel from 1, CDR) each, all of them on /image.

    Args:
        path: Of the file.
        messages: What is in it.
        kinds: Message type of each channel.
        indexed: Whether the chunk has an index of its messages.
        counted: Whether the statistics have the number of messages of each channel.
        repeated: Whether the summary holds the channels and their types.
        outside: How many of the last messages lie behind the chunk.
        times: Log time of each message; None for 0, 1, 2, ...
    """
    declared = b''
    for number, kind in enumerate(kinds, 1):
        schema = struct.pack('<H', number) + mcap_text(kind) + mcap_text('ros2msg') + bytes(4)
        channel = struct.pack('<HH', number, number) + mcap_text('/image') + mcap_text('cdr')
        declared += mcap_record(0x03, schema) + mcap_record(0x04, channel + bytes(4))
    records = [
        mcap_record(0x05, struct.pack('<HIQQ', channel, time, time, time) + data)
        for time, (channel, data) in zip(times or range(len(messages)), messages, strict=True)
    ]
    inner = declared + b''.join(records[: len(records) - outside])
    last = len(messages) - outside - 1
    head = struct.pack('<QQQI', 0, last, len(inner), 0) + mcap_text('')
    content = b'\x89MCAP0\r\n' + mcap_record(0x01, mcap_text('ros2') + mcap_text('us'))
    offset = len(content)
    chunk = mcap_record(0x06, head + struct.pack('<Q', len(inner)) + inner)
    content += chunk
    offsets, index = b'', b''
    if indexed:
        for number in range(1, len(kinds) + 1):
            offsets += struct.pack('<HQ', number, len(content) + len(index))
            index += mcap_record(0x07, struct.pack('<HI', number, 0))
    content += index + b''.join(records[len(records) - outside :]) + mcap_record(0x0F, bytes(4))
    summary = len(content)
    numbers = [channel for channel, _ in messages]
    counts = [struct.pack('<HQ', n, numbers.count(n)) for n in sorted(set(numbers)) if counted]
    statistics = struct.pack('<QHIIIIQQ', len(messages), 1, len(kinds), 0, 0, 1, 0, last)
    place = struct.pack('<QQQQI', 0, last, offset, len(chunk), len(offsets)) + offsets
    place += struct.pack('<Q', len(index)) + mcap_text('') + struct.pack('<QQ', *[len(inner)] * 2)
    content += declared if repeated else b''
    content += mcap_record(
        0x0B, statistics + struct.pack('<I', 10 * len(counts)) + b''.join(counts)
    )
    content += mcap_record(0x08, place)
    content += mcap_record(0x02, struct.pack('<QQI', summary, 0, 0)) + b'\x89MCAP0\r\n'
    path.write_bytes(content)


def cdr(kind: str, **values: Any) -> bytes:
    types = TYPESTORE.types
    if kind != TEXT:
        time = types['builtin_interfaces/msg/Time'](sec=1, nanosec=0)
        values['header'] = types['std_msgs/msg/Header'](stamp=time, frame_id='c')
    return bytes(TYPESTORE.serialize_cdr(types[kind](**values), kind))


def raw_cdr(image: NDArray[np.uint8]) -> bytes:
    height, width = image.shape[:2]
    size = {'height': height, 'width': width, 'step': width * 3, 'is_bigendian': 0}
    return cdr(IMAGE, encoding='rgb8', data=image.reshape(-1), **size)


@pytest.mark.parametrize('indexed', [False, True])
@pytest.mark.parametrize('counted', [False, True])
@pytest.mark.parametrize('repeated', [False, True])
@pytest.mark.parametrize('outside', [0, 3])
def test_a_summary_that_leaves_something_out_hides_no_message(
    tmp_path: Path, indexed: bool, counted: bool, repeated: bool, outside: int
) -> None:
    images = pictures(20)
    messages = [(1, raw_cdr(image)) for image in images]
    path = tmp_path / 'in.mcap'
    options = {'counted': counted, 'repeated': repeated, 'outside': outside}
    write_mcap(path, messages, [IMAGE], indexed=indexed, **options)
    with BagReader(path) as reader:
        assert reader.topics == {'/image': IMAGE}
        assert reader.count('/image') == 20
        found = [image.frame().rgb for image in reader.images('/image')]
        assert reader.problems() == []
    assert np.array_equal(found, images)


def test_an_index_that_leads_twice_to_one_chunk_is_not_trusted(tmp_path: Path) -> None:
    path, image = tmp_path / 'in.mcap', pictures(1)[0]
    write_mcap(path, [(1, raw_cdr(image))], [IMAGE])
    content, footer = path.read_bytes()[:-37], path.read_bytes()[-37:]
    place = content[content.rindex(b'\x08' + (64).to_bytes(8, 'little')) :]
    path.write_bytes(content + place + footer)
    with pytest.raises(ValueError, match=r'its index leads twice to byte \d+'):
        McapFile(path)
    assert [frame.log_time for frame in images_of(path, '/image')] == [0]


def test_chunks_that_overlap_in_time_are_unpacked_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, image = [0, 9, 1, 8, 2, 7], np.zeros((300, 600, 3), np.uint8)
    with BagWriter(tmp_path / 'in', packed=True) as bag:
        bag.add_topic('/image', IMAGE)
        for time in times:
            bag.add_image('/image', Stamp(time, time, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    assert [frame.log_time for frame in images_of(path, '/image')] == sorted(times)
    monkeypatch.setattr(packing, 'MOST_BYTES', 1_500_000)
    with pytest.raises(ValueError, match='more of its chunks overlap in time'):
        McapFile(path)
    assert [frame.log_time for frame in images_of(path, '/image')] == times
    monkeypatch.setattr(McapFile, '_check_overlap', lambda file: None)
    file = McapFile(path)
    assert len(list(file.messages(['/image']))) < len(times)
    assert file.problem.startswith('damaged: more of its chunks overlap in time')
    file.close()


def test_messages_of_a_chunk_come_by_log_time(tmp_path: Path) -> None:
    """A recorder of several threads writes them as they come."""
    path, images = tmp_path / 'in.mcap', pictures(3)
    write_mcap(path, [(1, raw_cdr(image)) for image in images], [IMAGE], times=(2, 0, 1))
    found = [image.frame().rgb for image in images_of(path, '/image')]
    assert np.array_equal(found, [images[1], images[2], images[0]])


def test_statistics_that_promise_too_much_are_spoken_of(tmp_path: Path) -> None:
    path = tmp_path / 'in.mcap'
    write_mcap(path, [(1, raw_cdr(image)) for image in pictures(3)], [IMAGE])
    content = path.read_bytes()
    for promised in (b'\x0b' + (56).to_bytes(8, 'little'), b'\x01\0' + (3).to_bytes(8, 'little')):
        at = content.rindex(promised) + len(promised) - (8 if promised[0] == 1 else 0)
        content = content[:at] + (5).to_bytes(8, 'little') + content[at + 8 :]
    path.write_bytes(content)
    with BagReader(path) as reader:
        assert len(list(reader.images('/image'))) == 3
        assert reader.problems() == [
            'in.mcap: its statistics speak of 2 messages more than it holds'
        ]


@pytest.mark.parametrize('repeated', [True, False])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize(
    'kinds', [[IMAGE, COMPRESSED_IMAGE, TEXT], [TEXT, COMPRESSED_IMAGE, IMAGE]]
)
def test_messages_of_several_types_on_one_topic_are_read_each_by_its_own(
    tmp_path: Path, storage: str, kinds: list[str], repeated: bool
) -> None:
    (image,) = pictures(1)
    packed = np.frombuffer(encode_image(image, '.png'), np.uint8)
    data = {
        IMAGE: raw_cdr(image),
        COMPRESSED_IMAGE: cdr(COMPRESSED_IMAGE, format='png', data=packed),
        TEXT: cdr(TEXT, data='no image'),
    }
    if storage == 'mcap':
        path = tmp_path / 'in.mcap'
        messages = [(number, data[kind]) for number, kind in enumerate(kinds, 1)]
        write_mcap(path, messages, kinds, repeated=repeated)
    else:
        with Writer(tmp_path / 'in', version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
            for time, kind in enumerate(kinds):
                channel = writer.add_connection('/image', kind, typestore=TYPESTORE)
                writer.write(channel, time, data[kind])
        path = data_file(tmp_path / 'in')
        scan = SqliteScan(path)
        assert [message.kind for message in scan.messages(['/image'])] == kinds
        scan.close()
    with BagReader(path) as reader:
        assert choose_topic(reader.topics, None, path) == '/image'
        found = dict(zip(kinds, reader.images('/image'), strict=True))
    for kind in (IMAGE, COMPRESSED_IMAGE):
        assert np.array_equal(found[kind].frame().rgb, image)
    with pytest.raises(ValueError, match=f'a message of the type {TEXT!r} is no image'):
        found[TEXT].frame()


@STORAGES
@pytest.mark.parametrize('metadata', ['there', 'of the packed file', 'lost'])
def test_a_recording_next_to_its_packed_copy_is_read_once(
    make: Callable[..., Path], storage: str, metadata: str
) -> None:
    bag = make(pictures(3), storage)
    file, text = data_file(bag), (bag / 'metadata.yaml').read_text(encoding='utf-8')
    packed = file.with_name(f'{file.name}.zstd')
    packed.write_bytes(zstd.compress(file.read_bytes()))
    if metadata == 'lost':
        (bag / 'metadata.yaml').unlink()
    elif metadata != 'there':
        text = text.replace(file.name, packed.name)
        (bag / 'metadata.yaml').write_text(text, encoding='utf-8')
    for left in ((file, packed), (packed,)):
        with BagReader(bag) as reader:
            assert len(list(reader.images('/image'))) == 3
            assert reader.count('/image') == 3
            assert len(reader.problems()) == (metadata == 'lost')
        assert packed in left
        file.unlink(missing_ok=True)


@pytest.mark.parametrize(
    'count', ['[' * 20_000, '!!int ""', '.inf', '&a [*a]'], ids=['nested', 'empty', 'inf', 'alias']
)
def test_metadata_with_odd_values_is_done_without(make: Callable[..., Path], count: str) -> None:
    bag = make(pictures(2))
    (bag / 'metadata.yaml').write_text(
        'rosbag2_bagfile_information: {relative_file_paths: [a.mcap], '
        f'topics_with_message_count: [{{topic_metadata: {{name: /a}}, message_count: {count}}}]}}',
        encoding='utf-8',
    )
    with BagReader(bag) as reader:
        assert len(list(reader.images('/image'))) == 2
        assert reader.problems() == ['metadata.yaml is damaged; the files are read without it']
