"""Exports a checkpoint with a score as an engine folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines import engine_module, ENGINES
from anomaly_seg_ros.frames.images import find_images
from anomaly_seg_ros.models import stride_of
from anomaly_seg_ros.process.whole_file import fresh_folder
from anomaly_seg_ros.provenance import code_version
from anomaly_seg_ros.registry import check_name
from anomaly_seg_ros.scores import SCORES

from .building import announce
from .choice import check_classes, loaded, Wanted
from .folder import (
    ENGINE_FILE,
    EngineMeta,
    ExportRequest,
    sums_of,
    write_engine_meta,
)


def exported() -> tuple[str, ...]:
    """Gives the names of the engines that are exported."""
    return tuple(name for name in ENGINES if engine_module(name).FACTS.exports)


def check_size(model: str, size: tuple[int, int]) -> None:
    """Refuses images that are smaller than one pixel of a network's coarsest map.

    Raises:
        ValueError: A side is below the network's stride; the text says the nearest that is not.
    """
    stride = stride_of(model)
    if min(size) < stride:
        usable = 'x'.join(str(max(side, stride)) for side in size)
        raise ValueError(
            f'size {size[0]}x{size[1]} is below the stride {stride} of {model!r}; use {usable}'
        )


def check_calibration(precision: str, folder: Path | None) -> None:
    """Checks that frames are there where the precision needs them, before minutes of work.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        ValueError: 'int8' without frames, or frames for another precision.
    """
    if precision == 'int8' and folder is None:
        raise ValueError("precision 'int8' needs frames: give --calibration DIR")
    if precision != 'int8' and folder is not None:
        raise ValueError(f"--calibration is for precision 'int8', not {precision!r}")
    if folder is not None:
        find_images([folder])


def export_engine(
    checkpoint: Checkpoint,
    score: str | None,
    size: tuple[int, int],
    precision: str,
    out: Path,
    engine: str = 'openvino',
    batch_sizes: Sequence[int] = (),
    calibration: Path | None = None,
) -> EngineMeta:
    """Exports a checkpoint with its score; `out` appears whole or not at all.

    Args:
        checkpoint: What the engine is to serve.
        score: A key of `SCORES`; None for the checkpoint's own.
        size: (height, width) of the images.
        precision: One that the engine has.
        out: Engine folder; an existing engine folder there is replaced.
        engine: One of `exported()`.
        batch_sizes: For engines that are built for fixed sizes; empty = 1 alone.
        calibration: Folder of frames for 'int8'.

    Raises:
        FileNotFoundError: The checkpoint or the frames are missing.
        ImportError: The engine's library is not installed.
        ValueError: The score does not fit the network, the engine has no such precision, or
            `out` holds something else.
    """
    score = score or checkpoint.meta.score
    check_name('score', SCORES, score)
    if engine not in exported():
        raise ValueError(
            f'engine {engine!r} cannot be exported; choose one of: {", ".join(exported())}'
        )
    facts = engine_module(engine).FACTS
    if precision not in facts.precisions:
        raise ValueError(
            f'engine {engine!r} is not exported in {precision!r}; '
            f'choose one of: {", ".join(facts.precisions)}'
        )
    if batch_sizes and not facts.batches:
        raise ValueError(f'engine {engine!r} takes any batch size; leave --batch out')
    check_size(checkpoint.meta.model, size)
    check_calibration(precision, calibration)
    wanted = Wanted(checkpoint, score, precision, size)
    check_classes(engine, wanted)
    module = loaded(engine)
    announce(engine, module.device(), wanted)
    with fresh_folder(out, ENGINE_FILE) as folder:
        request = ExportRequest(
            checkpoint=checkpoint,
            score=wanted.score,
            precision=precision,
            input_size=size,
            batch_sizes=tuple(batch_sizes) or ((1,) if facts.batches else ()),
            calibration=calibration,
            replaces=out if out.exists() else None,
        )
        made = module.export(request, folder)
        here = wanted.here(module)
        meta = EngineMeta(
            engine=engine,
            score=wanted.score,
            precision=made,
            input_size=size,
            batch_sizes=request.batch_sizes,
            key=here.key,
            code=here.code,
            files=sums_of(folder),
            versions=here.versions,
            device=here.device,
            commit=code_version(),
        )
        write_engine_meta(folder, meta)
    return meta
