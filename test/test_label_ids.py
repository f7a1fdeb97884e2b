"""Label files: what is stored is the id, whatever a viewer shows; and sets that mean nothing."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
import pytest

from anomaly_seg_ros.cli import main
from anomaly_seg_ros.frames.images import write_image
from training.datasets import build_dataset
from training.datasets.label_ids import AS_IS, ids_in, LabelTable, parse_label_map, read_ids
from training.results import read_results

IDS = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
PALETTE = [0, 0, 0, 255, 255, 255, 128, 64, 128, 9, 9, 9]
"""Black, white, road, nearly black."""


def with_palette(ids: np.ndarray) -> Image.Image:
    picture = Image.fromarray(ids)
    picture.putpalette(PALETTE)
    return picture


def of_bits(bits: int, ids: np.ndarray) -> bytes:
    """A PNG of greys of 1, 2 or 4 bits, written by hand."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack('>I', zlib.crc32(kind + data))
        return struct.pack('>I', len(data)) + kind + data + checksum

    height, width = ids.shape
    rows = b''
    for row in ids:
        text = ''.join(f'{value:0{bits}b}' for value in row).ljust(-(-width * bits // 8) * 8, '0')
        rows += b'\0' + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    head = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    parts = (chunk(b'IHDR', head), chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.bmp'])
@pytest.mark.parametrize('kind', ['one bit', 'palette', 'grey'])
def test_what_is_stored_is_the_id(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f'label{suffix}'
    picture = {
        'one bit': Image.fromarray(IDS * 255).convert('1'),
        'palette': with_palette(IDS),
        'grey': Image.fromarray(IDS),
    }[kind]
    picture.save(path)
    assert read_ids(path).tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ('suffix', 'options'),
    [
        ('.jpg', {'quality': 100}),
        ('.png', {'format': 'JPEG'}),
        ('.webp', {'quality': 90}),
        ('.webp', {'quality': 90, 'icc_profile': bytes(200)}),
    ],
)
def test_formats_that_change_numbers_hold_no_ids(
    suffix: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / f'label{suffix}'
    Image.fromarray(np.repeat(IDS[..., None], 3, 2)).save(path, **options)
    with pytest.raises(ValueError, match=r'does not keep the ids in it .*; export .* as PNG'):
        read_ids(path)


@pytest.mark.parametrize('options', [{}, {'icc_profile': bytes(200)}])
def test_a_lossless_webp_holds_ids(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / 'label.webp'
    Image.fromarray(np.repeat(IDS[..., None], 3, 2)).save(path, lossless=True, **options)
    assert read_ids(path).tolist() == IDS.tolist()


def test_ids_of_a_palette_are_no_colours(tmp_path: Path) -> None:
    ids = np.array([[0, 3], [2, 1]], np.uint8)
    with_palette(ids).save(tmp_path / 'label.png', bits=2)
    assert read_ids(tmp_path / 'label.png').tolist() == ids.tolist()


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_few_bits_are_ids(bits: int, tmp_path: Path) -> None:
    ids = np.arange(12).reshape(3, 4) % (1 << bits)
    (tmp_path / 'label.png').write_bytes(of_bits(bits, ids))
    assert read_ids(tmp_path / 'label.png').tolist() == ids.tolist()


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bit_ids(suffix: str, tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255], [256, 40_000, 65_535]], np.uint16)
    write_image(tmp_path / f'label{suffix}', ids)
    found = read_ids(tmp_path / f'label{suffix}')
    assert found.tolist() == ids.tolist()
    assert ids_in(found) == set(ids.ravel().tolist())
    table = LabelTable({0: 0, 1: 1, 255: 255, 256: 1, 40_000: 0, 65_535: 255}, 'set')
    meaning = table.meaning(found, ids_in(found), tmp_path)
    assert meaning.tolist() == [[0, 1, 255], [1, 0, 255]]
    assert meaning.dtype == np.uint8
    with pytest.raises(ValueError, match=r'holds label 256; a set has 0, 1, 255$'):
        LabelTable(AS_IS, 'a set').meaning(found, ids_in(found), tmp_path)


def test_labels_are_turned_as_their_image_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(IDS, -1).tolist()
    for picture in (with_palette(IDS), Image.fromarray(IDS), Image.fromarray(IDS > 0)):
        picture.save(tmp_path / 'label.png', exif=exif)
        assert read_ids(tmp_path / 'label.png').tolist() == turned


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_a_cut_label_file_is_one_line(share: float, tmp_path: Path) -> None:
    path = tmp_path / 'label.png'
    noise = np.random.default_rng(0).integers(0, 4, (60, 60), np.uint8)
    with_palette(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r'label\.png') as error:
        read_ids(path)
    assert '\n' not in str(error.value)


def test_floats_are_no_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / 'label.webp', IDS)
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match='holds float32, not label ids of 8 or 16 bits'):
        read_ids(tmp_path / 'label.webp')


@pytest.mark.parametrize(
    ('text', 'meanings'),
    [
        (None, AS_IS),
        ('255=1', {0: 0, 1: 1, 255: 1}),
        (' 2=1 , 7=255,0=255', {0: 255, 1: 1, 2: 1, 7: 255, 255: 255}),
        ('65535=0', AS_IS | {65535: 0}),
    ],
)
def test_label_maps(text: str | None, meanings: dict[int, int]) -> None:
    assert parse_label_map(text) == meanings


@pytest.mark.parametrize('text', ['', '255', '255:1', '255=2', '=1', '-1=0', '65536=1', '2=1,'])
def test_wrong_label_maps_say_what_is_right(text: str) -> None:
    with pytest.raises(ValueError, match=r'must be ID=MEANING, as 255=1 .* 255 \(ignored\)$'):
        parse_label_map(text)


# --- folders of images and labels ----------------------------------------------------------------


def write_set(root: Path, labels: np.ndarray, suffix: str = '.png', name: str = 'a') -> Path:
    for folder in ('images', 'labels_masks'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_image(root / 'images' / f'{name}.png', np.zeros((*labels.shape, 3), np.uint8))
    write_image(root / 'labels_masks' / f'{name}{suffix}', labels)
    return root


@pytest.mark.parametrize('suffix', ['.tif', '.TIFF', '.bmp', '.png'])
def test_labels_of_every_suffix_find_their_image(suffix: str, tmp_path: Path) -> None:
    sample = build_dataset('folder', write_set(tmp_path, IDS, suffix))[0]
    assert sample.anomaly is not None
    assert sample.anomaly.tolist() == IDS.tolist()
    assert sample.stored == {0, 1}


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    write_set(tmp_path, IDS)
    for folder in ('images', 'labels_masks'):
        (tmp_path / folder / '._a.png').write_bytes(b'no data')
        (tmp_path / folder / 'inner.png').mkdir()
    assert len(build_dataset('folder', tmp_path)) == 1
    anomaly = tmp_path / 'anomaly'
    write_set(anomaly, IDS, name='0')
    for name in ('._0.png', '.0.png'):
        (anomaly / 'images' / name).write_bytes(b'no data')
        (anomaly / 'labels_masks' / name).write_bytes(b'no data')
    write_set(anomaly / '.Trash', IDS, name='0')
    assert len(build_dataset('road_anomaly21', anomaly)) == 1


@pytest.mark.parametrize('dataset', ['folder', 'road_anomaly21'])
@pytest.mark.parametrize('folder', ['images', 'labels_masks'])
def test_a_broken_link_is_found_before_the_work(dataset: str, folder: str, tmp_path: Path) -> None:
    path = write_set(tmp_path, IDS, name='0') / folder / '0.png'
    path.unlink()
    path.symlink_to('nowhere.png')
    with pytest.raises(FileNotFoundError, match=r"0.png' is a link to 'nowhere.png', which is no"):
        build_dataset(dataset, tmp_path)


@pytest.mark.parametrize('folder', ['images', 'labels_masks'])
def test_two_files_of_one_stem_are_refused(folder: str, tmp_path: Path) -> None:
    write_set(tmp_path, IDS)
    write_image(tmp_path / folder / 'a.bmp', IDS)
    with pytest.raises(ValueError, match=r"a.bmp' and .*a.png' are of the same stem; keep one of"):
        build_dataset('folder', tmp_path)


def test_a_frame_may_have_any_name(tmp_path: Path) -> None:
    write_set(tmp_path, IDS, name=os.fsdecode(b'stra\xdfe'))
    assert build_dataset('folder', tmp_path)[0].name == 'stra\\xdfe'


def test_a_turned_image_beside_labels_that_are_not_is_said(tmp_path: Path) -> None:
    write_set(tmp_path, IDS)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / 'images' / 'a.png'
    Image.open(path).save(path, exif=exif)
    with pytest.raises(
        ValueError,
        match=r"a.png' is \(3, 2\), its labels '.*a.png' are \(2, 3\); the image was turned as",
    ):
        _ = build_dataset('folder', tmp_path)[0]
    write_image(tmp_path / 'labels_masks' / 'a.png', np.rot90(IDS).copy())
    assert build_dataset('folder', tmp_path)[0].image.shape == (3, 2, 3)


# --- sets that mean nothing ----------------------------------------------------------------------

MASK = np.zeros((24, 32), np.uint8)
MASK[:12, :16] = 255
NOTHING = {
    'masks of 0 and 255': (MASK, None, 'anomalous', '0 (normal), 255 (ignored)', True),
    'all ignored': (np.full_like(MASK, 255), None, 'valid', '255 (ignored)', True),
    'all normal': (np.zeros_like(MASK), None, 'anomalous', '0 (normal)', False),
    'mapped to ignored': (MASK, '255=255,0=255', 'valid', '0 (ignored), 255 (ignored)', True),
}


@pytest.mark.parametrize('case', NOTHING)
@pytest.mark.parametrize('form', ['maps', 'dataset'])
def test_labels_that_leave_nothing_to_measure_are_a_warning(
    form: str, case: str, tmp_path: Path, tiny_checkpoint: Path, capsys: Any
) -> None:
    labels, label_map, lacks, held, hint = NOTHING[case]
    write_set(tmp_path / 'set', labels)
    out = tmp_path / 'out'
    argv = ['evaluate', '--out', str(out), *form_arguments(form, tmp_path, tiny_checkpoint)]
    assert main([*argv, *(['--label-map', label_map] if label_map else [])]) == 0
    text = f'not a single pixel of 1 frames is {lacks}; the label files hold {held}'
    if hint:
        text += '; if 255 marks the anomaly, add --label-map 255=1'
    assert f'warning: {text}\n' in capsys.readouterr().err
    (row,) = read_results(out)
    assert text in row.extra['warnings']
    if case == 'masks of 0 and 255':
        assert main([*argv, '--label-map', '255=1']) == 0
        assert 'not a single pixel' not in capsys.readouterr().err
        (row,) = read_results(out)
        assert row.extra['n_anomaly_pixels'] == 12 * 16
        assert row.auroc is not None


def test_classes_that_are_all_ignored_are_a_warning(
    tmp_path: Path, tiny_checkpoint: Path, capsys: Any
) -> None:
    for folder, values in (('test', MASK), ('testannot', np.full_like(MASK, 11))):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / 'a.png', values)
    argv = ['evaluate', '--checkpoint', str(tiny_checkpoint), '--dataset', 'camvid']
    assert main([*argv, '--root', str(tmp_path), '--out', str(tmp_path / 'out')]) == 0
    assert 'not a single pixel of 1 frames is valid\n' in capsys.readouterr().err


def form_arguments(form: str, folder: Path, checkpoint: Path) -> list[str]:
    if form == 'dataset':
        arguments = ['--checkpoint', str(checkpoint), '--dataset', 'folder']
        return [*arguments, '--root', str(folder / 'set')]
    (folder / 'maps').mkdir()
    np.save(folder / 'maps' / 'a.npy', np.random.default_rng(0).random((24, 32), np.float32))
    return ['--scores', str(folder / 'maps'), '--labels', str(folder / 'set' / 'labels_masks')]


@pytest.mark.parametrize('dtype', [np.bool_, np.int64, np.uint16])
def test_label_arrays_of_any_whole_type(dtype: Any, tmp_path: Path) -> None:
    (tmp_path / 'labels').mkdir()
    np.save(tmp_path / 'labels' / 'a.npy', (MASK > 0).astype(dtype))
    arguments = [*form_arguments('maps', tmp_path, tmp_path)[:-1], str(tmp_path / 'labels')]
    assert main(['evaluate', *arguments, '--out', str(tmp_path / 'out')]) == 0
    (row,) = read_results(tmp_path / 'out')
    assert row.extra['n_anomaly_pixels'] == 12 * 16


def test_label_arrays_may_end_in_capitals(tmp_path: Path) -> None:
    (tmp_path / 'labels').mkdir()
    with (tmp_path / 'labels' / 'a.NPY').open('wb') as file:
        np.save(file, (MASK > 0).astype(np.uint8))
    arguments = [*form_arguments('maps', tmp_path, tmp_path)[:-1], str(tmp_path / 'labels')]
    assert main(['evaluate', *arguments, '--out', str(tmp_path / 'out')]) == 0
    (row,) = read_results(tmp_path / 'out')
    assert row.extra['n_anomaly_pixels'] == 12 * 16


@pytest.mark.parametrize('value', [-1, 70_000])
def test_label_arrays_of_impossible_ids(value: int, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / 'labels').mkdir()
    np.save(tmp_path / 'labels' / 'a.npy', np.full((24, 32), value))
    arguments = [*form_arguments('maps', tmp_path, tmp_path)[:-1], str(tmp_path / 'labels')]
    assert main(['evaluate', *arguments, '--out', str(tmp_path / 'out')]) == 2
    assert f'holds label {value}; a label file has 0, 1, 255' in capsys.readouterr().err


def test_a_label_map_is_for_labels_that_leave_it_open(
    tmp_path: Path, tiny_checkpoint: Path, capsys: Any
) -> None:
    argv = ['evaluate', '--checkpoint', str(tiny_checkpoint), '--dataset', 'camvid']
    argv += ['--root', str(tmp_path), '--out', str(tmp_path / 'out'), '--label-map', '255=1']
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "--label-map does not go with dataset 'camvid'" in said
    assert 'it is for: folder' in said


def test_an_unknown_id_names_the_map(tmp_path: Path) -> None:
    write_set(tmp_path, np.where(MASK > 0, 7, 0).astype(np.uint8))
    with pytest.raises(
        ValueError, match=r'label 7; folder has 0, 1, 255; say what it means, as --label-map 7=1$'
    ):
        _ = build_dataset('folder', tmp_path)[0]
    sample = build_dataset('folder', tmp_path, label_map={0: 0, 7: 1})[0]
    assert sample.anomaly is not None
    assert sample.anomaly.sum() == 12 * 16


def test_two_processes_know_what_all_files_hold(make_first_pass: Callable[..., Any]) -> None:
    one, other = make_first_pass({0, 255}), make_first_pass({0, 1})
    one.merge(other)
    assert one.stored == {0, 1, 255}


@pytest.fixture
def make_first_pass() -> Callable[..., Any]:
    from training.evaluation.frame import Frame
    from training.evaluation.measure import FirstPass, MeasureSettings

    def made(stored: set[int]) -> FirstPass:
        first = FirstPass(MeasureSettings(), ('msp',), 0, True)
        scores = {'msp': MASK.astype(np.float32)}
        first.update(0, Frame('a', MASK, scores, stored=frozenset(stored)))
        return first

    return made
