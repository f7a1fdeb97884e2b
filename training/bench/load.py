"""Two nodes that are sent more than they can serve, in turn: one raw camera, and another input."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from tqdm import tqdm

from training.results import ResultRow

from .candidates import EngineCall
from .frame import Image
from .node_session import (
    NodeSession,
    NodeSetting,
    output_topics,
    running_session,
)
from .timing import percentiles

TOO_MANY = 1.5
"""Frames that are sent for one that can be served."""
SERVED_FRAMES = 20
"""Of one raw camera, one by one, before each block."""

NOTE = (
    'sent: one and a half times as many frames as one raw camera is served just before; ratio: '
    'median over the blocks, in turn, of frames/s over those of one raw camera; age: image '
    'published to mask received, p50 of each camera'
)


def measure_load(
    call: EngineCall, images: Sequence[Image], setting: NodeSetting, blocks: int, block_s: float
) -> list[ResultRow]:
    """Gives the row of one raw camera, and that of another input.

    Args:
        call: What both nodes run.
        images: (H, W, 3) RGB camera frames, in turn.
        setting: Of the other node.
        blocks: Of each node.
        block_s: Seconds of a block.

    Raises:
        ToolError: A node ended, did not start or does not answer; it has said why.
    """
    settings = [NodeSetting(), setting]
    with running_session(call, images, output_topics('mask'), settings) as nodes:
        rates = alternate(nodes, blocks, block_s)
        rows = []
        for node, of, mine in zip(nodes, settings, rates, strict=True):
            row = row_of(node, len(of.cameras), mine, rates[0])
            row.score = call.score
            row.extra['what'] = f'{len(of.cameras)} x {of.transport}'
            rows.append(row)
        return rows


def alternate(nodes: Sequence[NodeSession], blocks: int, block_s: float) -> list[list[float]]:
    """Gives the frames per second of each node in each block, after one to warm up.

    Both are sent the same in a block, and what the machine serves just then: its pace changes.
    """
    rates: list[list[float]] = [[] for _ in nodes]
    order = list(range(len(nodes)))
    with tqdm(total=blocks, unit='block', disable=None) as bar:
        for block in range(-1, blocks):
            rate_hz = TOO_MANY * served_hz(nodes[0])
            for number in order if block % 2 == 0 else reversed(order):
                rate = nodes[number].open_loop(block_s, rate_hz)
                if block >= 0:
                    rates[number].append(rate)
            bar.update(block >= 0)
    return rates


def served_hz(node: NodeSession) -> float:
    """Gives the frames per second of a node that gets the next when one is done.

    By the median, so that a frame that had to wait for something else sets no pace.
    """
    latencies_ms, _ = node.closed_loop(SERVED_FRAMES)
    return 1000 / median(latencies_ms)


def row_of(
    node: NodeSession, cameras: int, mine: Sequence[float], base: Sequence[float]
) -> ResultRow:
    """Gives the row of a node's frames per second beside those of the first."""
    latencies = [node.latencies_ms(camera) for camera in range(cameras)]
    ages = [percentiles(each)['p50'] for each in latencies]
    engine, memory = node.engine(), node.memory_mb()
    extra: dict[str, Any] = {
        'kind': 'load',
        'fps': median(mine),
        'ratio_to_one_raw': median(a / b for a, b in zip(mine, base, strict=True)),
        'ages_ms': ages,
        'age_ratio': max(ages) / min(ages),
        'memory_mb': memory,
    }
    return ResultRow(
        engine=engine.get('name'),
        precision=engine.get('precision'),
        peak_mb=memory['peak'],
        latency_ms=percentiles([age for each in latencies for age in each]),
        n_images=sum(map(len, latencies)),
        extra=extra,
    )
