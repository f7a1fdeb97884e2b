"""A made-up drive through an English street, with odd objects on the road."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
import math
from typing import NamedTuple

import cv2
import numpy as np

from anomaly_seg_ros.classes import IGNORE

from .cars import Car, draw_car
from .cutouts import draw_lamp, draw_sign, gable, person, tree
from .facades import House, paint_facades, plan_houses
from .ground import paint_ground
from .haze import apply_haze, haze_window
from .measures import (
    EMPTY,
    KERB_LEFT_M,
    KERB_RIGHT_M,
    LEFT_M,
    ODD,
    PERIOD_M,
    RIGHT_M,
    STEP_M,
)
from .odd_objects import odd_sprites
from .photo import Finish
from .plane import Plane
from .shadow import draw_shadow
from .sky import paint_backdrop, paint_sky
from .sprite import paste, Sprite
from .texture import Bytes, Color
from .view import CAMERA_M, Canvas, NEAR_M, View

MIN_SIZE = (64, 64)
FIRST_ODD_M, ODD_SPACING_M = 26.0, 40.0
"""Where the odd objects stand, from the camera of frame 0."""
ODD_REACH_M, ODD_PASSED_M = 90.0, 2.2
"""An odd object is drawn while its distance is between these."""
TRAFFIC_STEP_M = 0.25
"""Way of oncoming cars between two frames."""
CAR_COLORS: tuple[Color, ...] = (
    (150, 154, 158), (36, 38, 42), (38, 52, 84), (118, 26, 28), (196, 198, 198), (78, 88, 92),
)  # fmt: skip
COATS: tuple[Color, ...] = (
    (34, 36, 42), (58, 30, 32), (44, 52, 66), (92, 88, 82), (28, 28, 30), (66, 60, 48),
)  # fmt: skip


class SyntheticFrame(NamedTuple):
    """One frame of the drive.

    Attributes:
        image: (H, W, 3) RGB.
        labels: (H, W) CamVid train ids; 255 on odd objects, which have no class.
        anomaly: (H, W), 1 on odd objects, else 0.
    """

    image: Bytes
    labels: Bytes
    anomaly: Bytes


class _Thing(NamedTuple):
    """Something on the street: how far ahead, how to draw it, what it covers of the ground."""

    depth: float
    draw: Callable[[Canvas, View], None]
    shadow: tuple[tuple[float, float], tuple[float, float]] | None


class SyntheticRoad:
    """A camera that drives along a street without end; frames depend on seed and index only.

    Every 40 m, first at 26 m, an odd object stands on the road: a huge teddy, crates, a huge
    beach ball, a cow, a sofa, in turn. It takes 100 frames from one to the next: 120 frames show
    one being passed and another coming.
    """

    def __init__(self, size: tuple[int, int] = (360, 480), seed: int = 0) -> None:
        """Paints the textures.

        Args:
            size: Height and width of the frames, in pixels.
            seed: Another street for another seed.

        Raises:
            ValueError: `size` is too small to show a street.
        """
        if size[0] < MIN_SIZE[0] or size[1] < MIN_SIZE[1]:
            raise ValueError(f'size {size} is too small for a street; use at least {MIN_SIZE}')
        self._view = view = View(*size)
        self._seed = seed
        rng = np.random.default_rng((seed, 0))
        density = 20.0 if size[0] < 240 else 40.0 if size[0] < 600 else 80.0
        rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) + 0.5
        below = np.maximum(rows - view.horizon, 1e-3)
        depth = view.focal * CAMERA_M / below
        offset = (columns - view.centre) / view.focal * depth - LEFT_M
        ground = paint_ground(rng, density)
        self._planes = [Plane(ground, density, depth, offset, view.focal * CAMERA_M)]
        self._behind: list[tuple[float, float, Sprite]] = []
        for side in (LEFT_M, RIGHT_M):
            away = np.maximum((columns - view.centre) * math.copysign(1, side), 1e-3)
            depth = view.focal * abs(side) / away
            offset = CAMERA_M - (rows - view.horizon) / view.focal * depth
            houses = plan_houses(rng)
            wall = paint_facades(rng, houses, density)
            self._planes.append(Plane(wall, density, depth, offset, view.focal * abs(side)))
            self._add_gables(rng, houses, side)
        self._sky = paint_sky(rng, size)
        self._backdrop = paint_backdrop(rng, view)
        self._near_haze = haze_window(view)
        self._finish = Finish(rng, size)

    def frame(self, index: int) -> SyntheticFrame:
        """Gives frame `index`; each is 0.4 m further on than the one before.

        Raises:
            ValueError: `index` is negative.
        """
        if index < 0:
            raise ValueError(f'frame {index} is before the first; use 0 or more')
        view = self._view
        slack = self._sky.shape[1] - view.width
        shift = abs(index // 4 % (2 * slack) - slack)
        canvas = Canvas(
            np.ascontiguousarray(self._sky[:, shift : shift + view.width]),
            np.zeros((view.height, view.width), np.uint8),
        )
        far = (self._backdrop.labels != EMPTY).astype(np.uint8)
        cv2.copyTo(self._backdrop.labels, far, canvas.labels)
        cv2.copyTo(self._backdrop.color, far, canvas.image)
        self._draw_behind(canvas, index)
        for plane in self._planes:
            plane.draw(canvas, index)
        apply_haze(canvas.image, self._near_haze)
        things = sorted(self._things(index), key=lambda thing: -thing.depth)
        for thing in things:
            if thing.shadow is not None:
                draw_shadow(canvas, view, *thing.shadow)
        for thing in things:
            thing.draw(canvas, view)
        image = self._finish(canvas.image, index)
        anomaly = (canvas.labels == ODD).astype(np.uint8)
        canvas.labels[anomaly == 1] = IGNORE
        return SyntheticFrame(image, canvas.labels, anomaly)

    def odd_objects(self, index: int) -> list[tuple[float, float]]:
        """Gives depth and x, in m, of the odd objects ahead in frame `index`, nearest first."""
        return [(depth, x) for depth, x, _ in self._odd_ahead(index * STEP_M)]

    def _odd_ahead(self, here: float) -> list[tuple[float, float, Sprite]]:
        found = []
        for number in _slots(here - FIRST_ODD_M, ODD_SPACING_M, ODD_REACH_M):
            depth = FIRST_ODD_M + number * ODD_SPACING_M - here
            if number >= 0 and ODD_PASSED_M < depth < ODD_REACH_M:
                found.append((depth, *self._odd(number)))
        return found

    def _odd(self, number: int) -> tuple[float, Sprite]:
        """Gives where an object stands, clear of the lanes' traffic, and which it is."""
        kinds = odd_sprites()
        sprite = kinds[(number + self._seed) % len(kinds)]
        away = 1.0 + sprite.size[0] / 2 + 0.1 * _draws(self._seed, 1, number)[0]
        return (-away if number % 3 == 2 else away), sprite

    def _things(self, index: int) -> list[_Thing]:
        here = index * STEP_M
        return [
            *self._odd_things(here), *self._parked_cars(here), *self._traffic(index),
            *self._street_furniture(here), *self._people(index),
        ]  # fmt: skip

    def _odd_things(self, here: float) -> list[_Thing]:
        things = []
        for depth, x, sprite in self._odd_ahead(here):
            half = sprite.size[0] / 2
            shadow = ((x - half - 0.1, x + half + 0.1), (depth - 0.5, depth + 0.7))
            draw = partial(paste, sprite=sprite, base=(x, 0, depth))
            things.append(_Thing(depth, draw, shadow))
        return things

    def _parked_cars(self, here: float) -> list[_Thing]:
        things = []
        for side, x, share in ((2, KERB_LEFT_M + 1.05, 0.6), (3, KERB_RIGHT_M - 1.05, 0.65)):
            for slot in _slots(here, 6.0, 84):
                draws = _draws(self._seed, side, slot)
                place = slot * 6.0 + draws[0] * 0.8
                taken = side == 2 and self._blocked(place)
                if draws[1] < share and not taken:
                    oncoming = side == 3 and draws[2] < 0.8
                    car = Car(x + 0.15 * draws[3], place - here, oncoming,
                              CAR_COLORS[int(draws[4] * 6)], 0.3 * (draws[5] > 0.85))  # fmt: skip
                    things.append(_car_thing(car))
        return things

    def _blocked(self, place: float) -> bool:
        """Whether a car parked on the left would hide an odd object that lies there."""
        number = round((place - FIRST_ODD_M) / ODD_SPACING_M)
        odd = FIRST_ODD_M + number * ODD_SPACING_M
        return number >= 0 and self._odd(number)[0] < 0 and -14 < place - odd < 3

    def _traffic(self, index: int) -> list[_Thing]:
        lead = 34 + 4 * math.sin(index / 45)
        things = [_car_thing(Car(0.05, lead, False, CAR_COLORS[self._seed % 6], 0.0))]
        here = index * (STEP_M + TRAFFIC_STEP_M)
        for slot in _slots(here, 42.0, 120):
            draws = _draws(self._seed, 4, slot)
            depth = slot * 42.0 + 16 * draws[0] - here
            paint = CAR_COLORS[int(draws[1] * 6)]
            things.append(_car_thing(Car(4.75, depth, True, paint, 0.3 * (draws[2] > 0.7))))
        return [thing for thing in things if 2 < thing.depth < 110]

    def _street_furniture(self, here: float) -> list[_Thing]:
        things: list[_Thing] = []
        for slot in _slots(here, 17.0, 120):
            draws = _draws(self._seed, 5, slot)
            x = KERB_LEFT_M - 0.75 if slot % 2 else KERB_RIGHT_M + 0.75
            depth = slot * 17.0 + 3 * draws[0] - here
            if draws[1] < 0.6:
                width = tree(slot % 5).size[0]
                base = (x, 0.1, depth)
                shadow = ((x - 0.1 * width, x + 0.1 * width), (depth - 0.4, depth + 0.4))
                draw = partial(paste, sprite=tree(slot % 5), base=base)
                things.append(_Thing(depth, draw, shadow))
            post = depth + 7
            things.append(_Thing(post, partial(draw_lamp, x=x, depth=post), None))
            if draws[2] < 0.45:
                sign = partial(draw_sign, kind=slot % 3 == 0, x=x + 0.1, depth=depth + 4)
                things.append(_Thing(depth + 4, sign, None))
        return [thing for thing in things if thing.depth > 2.5]

    def _people(self, index: int) -> list[_Thing]:
        things = []
        for side, middle in ((6, KERB_LEFT_M - 1.5), (7, KERB_RIGHT_M + 1.3)):
            pace = 0.02 if side == 6 else -0.03
            here = index * (STEP_M + pace)
            for slot in _slots(here, 8.0, 70):
                draws = _draws(self._seed, side, slot)
                depth = slot * 8.0 + 6 * draws[0] - here
                if draws[1] > 0.55 or depth < 3:
                    continue
                coat = COATS[int(draws[2] * len(COATS))]
                phase = (index // 6 + slot) % 2
                sprite = person(coat, (34, 36, 44) if draws[3] < 0.6 else (54, 50, 46), phase)
                x = middle + 1.2 * (draws[4] - 0.5)
                shadow = ((x - 0.3, x + 0.3), (depth - 0.25, depth + 0.25))
                draw = partial(paste, sprite=sprite, base=(x, 0.1, depth))
                things.append(_Thing(depth, draw, shadow))
        return things

    def _add_gables(self, rng: np.random.Generator, houses: Sequence[House], side: float) -> None:
        """Keeps what shows behind the facades: end walls above lower neighbours, garden trees."""
        outward = math.copysign(1, side)
        for before, house in zip([houses[-1], *houses[:-1]], houses, strict=True):
            if house.height > before.height + 0.5:
                sprite = gable(house, rng)
                x = side + outward * (sprite.size[0] / 2 - 0.1)  # no sky in the corner
                self._behind.append((house.start, x, sprite))
            if not house.storeys:
                middle = (house.start + house.end) / 2
                self._behind.append((middle, side + outward * 4.5, tree(len(self._behind) % 5)))

    def _draw_behind(self, canvas: Canvas, index: int) -> None:
        here = index * STEP_M % PERIOD_M
        ahead = [((place - here) % PERIOD_M, x, sprite) for place, x, sprite in self._behind]
        for depth, x, sprite in sorted(ahead, key=lambda item: -item[0]):
            if depth > 4:
                paste(canvas, self._view, sprite, (x, 0, depth))


def _slots(here: float, pitch: float, reach: float) -> range:
    """Gives the numbers of the places, `pitch` apart, that a camera at `here` may see."""
    return range(math.floor(here / pitch) - 1, math.ceil((here + reach) / pitch))


@lru_cache(maxsize=4096)
def _draws(seed: int, what: int, number: int) -> tuple[float, ...]:
    """Gives six numbers in 0..1 that belong to one place on the street."""
    return tuple(np.random.default_rng((seed, what, number + 2**20)).random(6).tolist())


def _car_thing(car: Car) -> _Thing:
    shadow = ((car.x - 1.0, car.x + 1.0), (car.depth - 0.2, car.depth + 4.3))
    if car.depth < 2 * NEAR_M:
        shadow = ((car.x - 1.0, car.x + 1.0), (2 * NEAR_M, max(2.5, car.depth + 4.3)))
    return _Thing(car.depth, partial(draw_car, car=car), shadow)
