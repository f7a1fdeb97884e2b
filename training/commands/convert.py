"""Makes a set of own classes from what label tools and public sets export."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import lzma
from pathlib import Path
import shutil
import tempfile
import zipfile
import zlib

from anomaly_seg_ros.process.whole_file import fresh_folder
from anomaly_seg_ros.registry import lookup
from training.converting import CONVERTERS, Export, write_export
from training.datasets.classes_file import FILE_NAME

_BROKEN = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, lzma.LZMAError,
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `anomaly_seg convert` takes."""
    parser.add_argument('kind', metavar='KIND', help=f'one of: {", ".join(sorted(CONVERTERS))}')
    parser.add_argument(
        'source', type=Path, metavar='IN', help='folder or .zip of the export, with its images'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the new set')


def main(args: argparse.Namespace) -> int:
    """Runs `anomaly_seg convert`."""
    read = lookup('kind', CONVERTERS, args.kind.replace('-', '_').lower())
    if args.out.is_dir() and any(args.out.iterdir()):
        raise ValueError(f'{str(args.out)!r} already holds files; choose another --out')
    with unpacked(args.source) as folder, fresh_folder(args.out, FILE_NAME) as fresh:
        export: Export = read(folder)
        shown = write_export(export, fresh)
    for text in export.left_out:
        print(f'left out: {text}')
    print(f'{export.count} frames; class and the frames that show it:')
    width = max(map(len, shown))
    for name, count in shown.items():
        print(f'  {name:{width}} {count:6}')
    print(f'wrote {args.out}; merge or drop classes in {args.out / FILE_NAME}, then look at it:')
    print(f'  anomaly_seg check --dataset classes --root {args.out} --out {args.out}_check')
    return 0


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Gives the folder of an export, of a .zip for as long as it is needed.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: A file that is no .zip, a broken one, or one that takes more than half of
            what is free.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise FileNotFoundError(f'no file or folder {str(source)!r}')
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(source) as archive:
                _check_size(archive, folder)
                archive.extractall(folder)
        except _BROKEN as error:
            raise ValueError(
                f'cannot unpack {str(source)!r} as a .zip: {error}; give the folder of the '
                'export, or its .zip'
            ) from None
        yield Path(folder)


def _check_size(archive: zipfile.ZipFile, folder: str) -> None:
    # `zipfile` writes no more of a file than its entry states.
    size, most = sum(e.file_size for e in archive.infolist()), shutil.disk_usage(folder).free // 2
    if size > most:
        raise ValueError(
            f'{str(archive.filename)!r} unpacks to {size >> 20} MiB, more than {most >> 20} MiB, '
            f'half of what is free in {folder!r}; unpack it where there is room, and give that '
            'folder'
        )
