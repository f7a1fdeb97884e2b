"""Draws the rooms of the two packages and what they import: `python docs/architecture.py`.

Every import in the code is read, folded to the folder it lies in, and drawn as an arrow downwards
where no longer way says the same. The result is `docs/architecture.svg`; a test fails when it is
not what the code says now.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from math import fsum
from pathlib import Path
import random
import sys
import textwrap
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PICTURE = Path(__file__).with_suffix('.svg')
RUNTIME, TRAINING = PACKAGES = ('anomaly_seg_ros', 'training')
ENTRY = f'{RUNTIME}/cli.py'
FONT_PX, CHAR_PX, LINE_PX, BOX_PX, ROW_PX, GAP_PX, WAY_PX = 14, 8.2, 18, 32, 64, 20, 12
"""Text, width of a letter, height of a line and of a box, row to row, between boxes, an arrow."""
EDGE_PX, BETWEEN_PX = 24, 120
"""Around everything; between the two packages."""
RESTARTS, SWEEPS = 60, 12

Graph = dict[str, set[str]]


def imported(tree: ast.AST, package: str = '') -> Iterator[str]:
    """Gives every module name that a piece of code imports, anywhere in it.

    A name taken from a module follows as `module.name`, which may be a module or not.

    Args:
        tree: The code.
        package: Dotted name of the package that it lies in, for relative imports.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[: len(package.split('.')) - node.level + 1]
            prefix = '.'.join(above) + '.' if node.level else ''
            module = (prefix + (node.module or '')).rstrip('.')
            yield module
            yield from (f'{module}.{alias.name}' for alias in node.names)


def room_of(module: str, root: Path = ROOT) -> str | None:
    """Gives a module's room: `PACKAGE/FOLDER`, `PACKAGE/*` for a loose file, None if foreign."""
    package, *rest = module.split('.')
    if package not in PACKAGES:
        return None
    if rest and (root / package / rest[0]).is_dir():
        return f'{package}/{rest[0]}'
    return ENTRY if f'{package}/{"".join(rest[:1])}.py' == ENTRY else f'{package}/*'


def rooms(root: Path = ROOT) -> Graph:
    """Gives each room with the rooms that its files import, without itself."""
    graph: Graph = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob('*.py')):
            if path.name == '__main__.py' and path.parent.name == RUNTIME:
                continue  # another door to cli.py
            parts = path.relative_to(root).with_suffix('').parts
            tree = ast.parse(path.read_text(encoding='utf-8'), filename=str(path))
            room = room_of('.'.join(parts), root)
            assert room is not None
            found = {room_of(name, root) for name in imported(tree, '.'.join(parts[:-1]))}
            graph.setdefault(room, set()).update(
                name for name in found if name not in (None, room)
            )
    return graph


def named(root: Path = ROOT) -> set[str]:
    """Gives the rooms that the command names as text, to load a verb only when it is asked for."""
    nodes = ast.walk(ast.parse((root / ENTRY).read_text(encoding='utf-8')))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return {room for room in rooms(root) if room.replace('/', '.') in texts}


def way_down(graph: Graph, room: str, above: tuple[str, ...] = ()) -> set[str]:
    """Gives all that a room imports, directly or through others.

    Raises:
        ValueError: The imports go round in a circle.
    """
    if room in above:
        circle = ' -> '.join((*above[above.index(room) :], room))
        raise ValueError(f'the rooms import each other in a circle: {circle}')
    found = graph[room]
    return found.union(*(way_down(graph, name, (*above, room)) for name in found))


def shortest(graph: Graph) -> Graph:
    """Leaves out every arrow that a longer way says already."""
    return {
        room: {name for name in found if not any(name in way_down(graph, o) for o in found)}
        for room, found in graph.items()
    }


def within(graph: Graph, package: str) -> Graph:
    """Gives the rooms of one package and their arrows among themselves."""
    inside = {room for room in graph if room.startswith(f'{package}/')} - {ENTRY}
    return {room: graph[room] & inside for room in sorted(inside)}


class Box(NamedTuple):
    """A room in the picture: the middle of its upper edge, and its width."""

    x: float
    y: float
    width: float


class Layers:
    """Places a graph in rows, arrows downwards; long arrows pass the rows between in a slot."""

    def __init__(self, graph: Graph, width: Callable[[str], float]):
        self.graph = shortest(graph)
        rows = {room: self._height(room) for room in graph}
        for room in [room for room, found in self.graph.items() if not found]:
            users = [rows[user] for user, found in self.graph.items() if room in found]
            rows[room] = min(users, default=1) - 1
        top = max(rows.values())
        self.rows: list[list[str]] = [[] for _ in range(top + 1)]
        self.width: dict[str, float] = {}
        self.links: list[tuple[str, str]] = []
        self.ways: list[list[str]] = []
        for room, row in rows.items():
            self.rows[top - row].append(room)
            self.width[room] = width(room)
        for room, found in self.graph.items():
            for name in sorted(found):
                slots = [f'{room}>{name}@{row}' for row in range(rows[room] - 1, rows[name], -1)]
                for slot in slots:
                    self.rows[top - int(slot.split('@')[1])].append(slot)
                    self.width[slot] = WAY_PX
                self.ways.append([room, *slots, name])
                self.links += pairwise(self.ways[-1])

        self.near = {name: set[str]() for name in self.width}
        for upper, lower in self.links:
            self.near[upper].add(lower)
            self.near[lower].add(upper)

    def _height(self, room: str) -> int:
        return 1 + max((self._height(name) for name in self.graph[room]), default=-1)

    def boxes(self) -> dict[str, Box]:
        """Gives rooms and slots their places, with the fewest crossings and bends found."""
        dice = random.Random(0)
        best: tuple[float, dict[str, float]] | None = None
        for _ in range(RESTARTS):
            rows = [dice.sample(row, len(row)) for row in self.rows]
            for sweep in range(SWEEPS):
                self._sort(rows, downwards=sweep % 2 == 0)
            place = self._straighten(rows)
            bends = fsum(abs(place[a] - place[b]) for a, b in self.links)
            cost = 200 * self._crossings(rows) + bends
            if best is None or cost < best[0]:
                best = cost, place
        assert best is not None
        left = min(x - self.width[name] / 2 for name, x in best[1].items())
        return {
            name: Box(best[1][name] - left, row * ROW_PX, self.width[name])
            for row, names in enumerate(self.rows)
            for name in names
        }

    def _neighbours(self, name: str, row: Iterable[str]) -> list[str]:
        return [other for other in row if other in self.near[name]]

    def _sort(self, rows: list[list[str]], *, downwards: bool) -> None:
        """Sorts each row by the mean place of its neighbours in the row that came before."""
        order = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
        for index in order:
            before = rows[index - 1 if downwards else index + 1]
            places: dict[str, float] = {}
            for at, name in enumerate(rows[index]):
                found = [before.index(o) / len(before) for o in self._neighbours(name, before)]
                places[name] = _mean(found) if found else at / len(rows[index])
            rows[index].sort(key=places.__getitem__)

    def _crossings(self, rows: list[list[str]]) -> int:
        count = 0
        for upper, lower in pairwise(rows):
            ends = [(upper.index(a), lower.index(b)) for a, b in self.links if a in upper]
            count += sum(a < c and b > d for a, b in ends for c, d in ends)
        return count

    def _straighten(self, rows: list[list[str]]) -> dict[str, float]:
        """Gives x of each name: as near to its neighbours as the order of its row allows."""
        place = {name: 100.0 * at for row in rows for at, name in enumerate(row)}
        for _ in range(2 * SWEEPS):
            for index, row in enumerate(rows):
                others = [*rows[max(index - 1, 0)], *rows[min(index + 1, len(rows) - 1)]]
                wanted = []
                for name in row:
                    near = [
                        place[other]
                        for other in self._neighbours(name, others)
                        for _ in range(4 if '>' in name and '>' in other else 1)
                    ]
                    wanted.append(_mean(near) if near else place[name])
                place.update(zip(row, self._apart(row, wanted), strict=True))
        return place

    def _apart(self, row: list[str], wanted: list[float]) -> list[float]:
        """Gives the places nearest to the wanted ones that keep the gaps (pooled neighbours)."""
        offsets = [0.0]
        for a, b in pairwise(row):
            offsets.append(offsets[-1] + (self.width[a] + self.width[b]) / 2 + GAP_PX)
        pools: list[list[float]] = []
        for want, offset in zip(wanted, offsets, strict=True):
            pools.append([want - offset])
            while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
                pools[-2:] = [pools[-2] + pools[-1]]
        levels = [_mean(pool) for pool in pools for _ in pool]
        return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _mean(values: list[float]) -> float:
    """As any Python gives it: plain `sum` rounds otherwise from 3.12 on."""
    return fsum(values) / len(values)


def label(room: str, root: Path = ROOT) -> list[str]:
    """Gives the lines in a room's box: its name, or the names of the package's loose files."""
    package, name = room.split('/')
    if name != '*':
        return [name]
    files = [path.name for path in sorted((root / package).glob('*.py'))]
    loose = [file for file in files if not file.startswith('__') and f'{package}/{file}' != ENTRY]
    return textwrap.wrap('  '.join(loose), 34)


class Panel:
    """One package in the picture."""

    def __init__(self, graph: Graph, package: str, root: Path = ROOT):
        self.package = package
        self.labels = {room: label(room, root) for room in within(graph, package)}
        self.layers = Layers(within(graph, package), self._width)
        self.boxes = self.layers.boxes()
        widest = max(box.x + box.width / 2 for box in self.boxes.values())
        self.width = round(widest) + 2 * EDGE_PX
        self.height = (
            EDGE_PX
            + EDGE_PX
            + max(round(box.y) + self._height(room) for room, box in self.boxes.items())
        )

    def _width(self, room: str) -> float:
        return max(map(len, self.labels[room])) * CHAR_PX + 24

    def _height(self, room: str) -> int:
        return BOX_PX + LINE_PX * (len(self.labels.get(room, ' ')) - 1)

    def svg(self, x: int, y: int, title: str) -> Iterator[str]:
        """Gives the lines of the panel with its upper left corner at (x, y)."""
        yield rect(x, y, self.width, self.height, 'panel')
        yield text(x + self.width / 2, y + self.height + 20, f'{self.package}/', 'title')
        yield text(x + self.width / 2, y + self.height + 20 + LINE_PX, title, 'note')
        x, y = x + EDGE_PX, y + EDGE_PX
        for way in self.layers.ways:
            stops = [self.boxes[name] for name in way]
            points = [(x + stops[0].x, y + stops[0].y + BOX_PX)]
            for stop in stops[1:-1]:
                points += [(x + stop.x, y + stop.y), (x + stop.x, y + stop.y + BOX_PX)]
            yield arrow([*points, (x + stops[-1].x, y + stops[-1].y)])
        for room, lines in self.labels.items():
            box = self.boxes[room]
            kind = f'room {self.package}'
            yield rect(x + box.x - box.width / 2, y + box.y, box.width, self._height(room), kind)
            for at, line in enumerate(lines):
                yield text(x + box.x, y + box.y + 21 + at * LINE_PX, line)


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Gives a box."""
    size = f'width="{width:.0f}" height="{height:.0f}" rx="6"'
    return f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" {size}/>'


def text(x: float, y: float, words: str, kind: str = 'name') -> str:
    """Gives a line of text with its middle at x."""
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{words}</text>'


def arrow(points: list[tuple[float, float]], kind: str = 'arrow') -> str:
    """Gives an arrow through points in turn; between two it leaves and comes in vertically."""
    path = f'M{points[0][0]:.0f} {points[0][1]:.0f}'
    for (x, y), (to_x, to_y) in pairwise(points):
        half = (y + to_y) / 2
        path += f' C{x:.0f} {half:.0f} {to_x:.0f} {half:.0f} {to_x:.0f} {to_y:.0f}'
    return f'<path class="{kind}" d="{path}"/>'


STYLE = f"""
text {{ font: {FONT_PX}px 'DejaVu Sans', Verdana, sans-serif; text-anchor: middle; fill: #1f2933 }}
.title {{ font-weight: bold }}
.note {{ fill: #52606d }}
.sheet {{ fill: #ffffff; stroke: #cbd2d9 }}
.panel {{ fill: #f5f7fa; stroke: #cbd2d9 }}
.room {{ fill: #ffffff; stroke-width: 1.5 }}
.training {{ stroke: #2f855a }}
.anomaly_seg_ros {{ stroke: #2b6cb0 }}
.arrow, .named, .wall {{ fill: none; stroke: #7b8794; stroke-width: 1.3; marker-end: url(#head) }}
.named {{ stroke-dasharray: 5 4 }}
.wall {{ stroke-width: 3 }}
"""


def picture(root: Path = ROOT) -> str:
    """Gives the text of the SVG file.

    Raises:
        ValueError: The rooms import each other in a circle.
    """
    graph = rooms(root)
    left, right = Panel(graph, TRAINING, root), Panel(graph, RUNTIME, root)
    y = EDGE_PX + BOX_PX + ROW_PX
    places = {left: EDGE_PX, right: EDGE_PX + left.width + BETWEEN_PX}
    width = places[right] + right.width + EDGE_PX
    height = y + max(left.height, right.height) + 2 * LINE_PX + EDGE_PX
    entry = (places[right] - BETWEEN_PX / 2, EDGE_PX)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<style>{STYLE}</style>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse"'
        ' markerWidth="9" markerHeight="9" orient="auto"><path fill="#7b8794" d="M0 0 8 4 0 8z"/>'
        '</marker></defs>',
        rect(0.5, 0.5, width - 1, height - 1, 'sheet'),
        *left.svg(places[left], y, 'offline: learns, measures, reports'),
        *right.svg(places[right], y, 'on the vehicle, without torch'),
    ]
    for panel, x in places.items():
        for room in sorted(named(root) & panel.labels.keys()):
            box = panel.boxes[room]
            ends = [(entry[0], entry[1] + BOX_PX), (x + EDGE_PX + box.x, y + EDGE_PX + box.y)]
            lines.append(arrow(ends, 'named'))
    lines += [
        rect(entry[0] - 75, entry[1], 150, BOX_PX, f'room {RUNTIME}'),
        text(entry[0], entry[1] + 21, 'anomaly_seg VERB'),
        text(entry[0], entry[1] + BOX_PX + 40, 'by name', 'note'),
    ]
    for source, target in ((left, right), (right, left)):
        if any(graph[room] & target.labels.keys() for room in source.labels):
            at = y + left.height / 2
            ends = [(places[source] + source.width, at), (places[target] - 3, at)]
            lines += [arrow(ends, 'wall'), text(entry[0], at - 12, 'imports', 'note')]
    return '\n'.join([*lines, '</svg>', ''])


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    PICTURE.write_text(picture(), encoding='utf-8')
    sys.stdout.write(f'{PICTURE}\n')
