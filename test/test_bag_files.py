"""Bags: written from images, read whole and damaged."""

from __future__ import annotations

from array import array
from collections.abc import Callable
import os
from pathlib import Path
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.bags.reader import (
    BagReader,
    choose_topic,
    COMPRESSED,
    RAW,
    read_images,
    TEXT,
    TYPESTORE,
)
from anomaly_seg_ros.bags.storage import is_bag
from anomaly_seg_ros.bags.writer import BagWriter, Stamp
from anomaly_seg_ros.cli import main
from anomaly_seg_ros.commands.make_bag import encode, START_NS
from anomaly_seg_ros.frames.image_message import compressed_to_rgb

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


@pytest.mark.parametrize('kind', ['', 'png', 'rgb8; png compressed bgr8', 'something else'])
def test_png_messages_are_lossless_whatever_their_format_says(kind: str) -> None:
    (image,) = pictures(1)
    assert (compressed_to_rgb(compressed(encode(image, 'png'), kind)) == image).all()


def test_jpeg_messages_keep_the_order_of_colours() -> None:
    image = np.full((16, 16, 3), (250, 10, 90), np.uint8)
    decoded = compressed_to_rgb(compressed(encode(image, 'jpeg')))
    assert np.abs(decoded.astype(int) - image).max() <= 4


@pytest.mark.parametrize(
    ('data', 'kind', 'problem'),
    [
        (b'', 'jpeg', 'cannot decode 0 bytes'),
        (b'no image at all', 'jpeg', 'cannot decode 15 bytes'),
        (encode(pictures(1)[0], 'jpeg')[:-200], 'jpeg', 'is cut short'),
        (encode(pictures(1)[0], 'png'), '16UC1; compressedDepth png', 'is a depth image'),
    ],
)
def test_compressed_messages_that_cannot_be_used(data: bytes, kind: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        compressed_to_rgb(compressed(data, kind))


# --- writing and reading -------------------------------------------------------------------------


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
        assert reader.topics == {'/front/image/compressed': COMPRESSED, '/front/image/name': TEXT}
        names = reader.image_names('/front/image/compressed')
        frames = list(reader.images('/front/image/compressed'))
    assert [names[frame.log_time] for frame in frames] == [f'street_{i}.png' for i in range(3)]
    assert [frame.stamp for frame in frames] == [START_NS + i * 250_000_000 for i in range(3)]
    assert {frame.frame_id for frame in frames} == {'camera'}


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--rate', '0'], 'rate is 0.0; it must be above 0'),
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
    both = {'/a': RAW, '/b': COMPRESSED, '/text': TEXT}
    assert choose_topic({'/a': RAW, '/text': TEXT}, None, Path('x')) == '/a'
    assert choose_topic(both, '/b', Path('x')) == '/b'


@pytest.mark.parametrize(
    ('known', 'asked', 'message'),
    [
        ({'/a': RAW, '/b': COMPRESSED}, None, 'has the image topics /a, /b; choose one with'),
        ({'/a': RAW, '/t': TEXT}, '/t', "has the image topics /a; '/t' is not among them"),
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
        assert (frame.rgb() == image).all()
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
        bag.add_topic('/image', RAW)
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
    import struct

    from lz4.frame import compress

    content = path.read_bytes()
    start = 8
    kind, length = struct.unpack_from('<BQ', content, start)
    assert kind == 0x01
    chunk = start + 9 + length
    kind, length = struct.unpack_from('<BQ', content, chunk)
    assert kind == 0x06
    head, records = content[chunk + 9 : chunk + 9 + 28], content[chunk + 9 + 40 :][: length - 40]
    packed = compress(records)
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
        bag.add_topic('/image', RAW)
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
        bag.add_topic('/image', RAW)
        for i, image in enumerate(pictures(4, 600, 600)):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    path = data_file(tmp_path / 'in')
    path.write_bytes(spoilt(path.read_bytes(), 3))
    with BagReader(path) as reader:
        assert [frame.stamp for frame in reader.images('/image')] == [0, 1]
        (problem,) = reader.problems()
    assert problem.startswith('in.mcap: damaged: ')


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
            bag.add_topic('/image', RAW)
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
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    images = pictures(3)
    writer = Writer(tmp_path / 'in', version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with BagWriter(tmp_path / 'plain', storage) as bag:
        bag.add_topic('/image', RAW)
        for i, image in enumerate(images):
            bag.add_image('/image', Stamp(i, i, 'c'), image, 'rgb8')
    with writer, BagReader(tmp_path / 'plain') as reader:
        connection = writer.add_connection('/image', RAW, typestore=TYPESTORE)
        for _, log_time, data in reader.messages(['/image']):
            writer.write(connection, log_time, data)
    found = [pixels for _, pixels in read_images(tmp_path / 'in')]
    assert all((a == b).all() for a, b in zip(found, images, strict=True))
