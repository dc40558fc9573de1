"""Everything that moves or waits on the street: the ego car's path, vehicles, riders, people; rare classes first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import vehicles
from .layout import ANNOTATED, LANE, Plan, stream
from .people import pedestrian, rider
from .scene import Scene
from .street import Street

FPS = 17.0


def ego_way(city: str, seed: int) -> tuple[Callable[[float], float], bool]:
    """s(t) of the ego car in metres and whether it stands: cruising, slow, braking, starting or waiting."""
    rng = stream("ego", city, seed)
    mode = str(rng.choice(["cruise", "slow", "brake", "start", "wait"], p=(0.5, 0.2, 0.1, 0.1, 0.1)))
    speed = {"cruise": rng.uniform(7, 13), "slow": rng.uniform(2, 6), "brake": 9.0, "start": 0.5, "wait": 0.0}[mode]
    gain = {"cruise": rng.uniform(-0.4, 0.4), "slow": 0.0, "brake": -3.5, "start": 1.8, "wait": 0.0}[mode]

    def way(t: float) -> float:
        x = t / FPS
        if gain < 0:
            x = min(x, -speed / gain)
        return speed * x + 0.5 * gain * x * x

    return way, mode in ("wait", "brake")


class Traffic:
    """Fills a scene with movers; keeps the stretches of every lane that are taken."""

    def __init__(self, scene: Scene, p: Plan, city: str, seed: int, crowd: float) -> None:
        self.scene, self.p, self.crowd = scene, p, crowd
        self.key = (city, seed)
        self.way = ego_way(city, seed)[0]
        self.lane = p.lanes if stream("lane", city, seed).random() < 0.7 else 1
        self.ego_d = (self.lane - 0.5) * LANE
        self.taken: dict[float, list[tuple[float, float]]] = {}
        self.ego_speed = (self.way(ANNOTATED + 1) - self.way(ANNOTATED - 1)) * FPS / 2

    def populate(self) -> None:
        """Wishes, parked rows, lanes, side street, riders, people: each from its own stream."""
        self._take(self.ego_d, self.p.sight, 9.0)
        self._wished(stream("wished", *self.key))
        self._parked(stream("parked", *self.key))
        self._lanes(stream("lanes", *self.key))
        self._crossing_cars(stream("crossing", *self.key))
        self._two_wheels(stream("wheels", *self.key))
        self._people(stream("people", *self.key))

    def _take(self, d: float, s: float, length: float) -> bool:
        """Claim a stretch of the lane at offset d; False when it is taken."""
        low, high = s - length / 2 - 1.5, s + length / 2 + 1.5
        row = self.taken.setdefault(round(d, 1), [])
        if any(low < b and a < high for a, b in row):
            return False
        row.append((low, high))
        return True

    def _mover(self, s: float, d: float, speed: float, forth: int) -> tuple[int, Callable]:
        """A part that passes s (metres) at the annotated frame with a speed in m/s, and its metres driven."""
        driven = lambda t: speed * (t - ANNOTATED) / FPS  # noqa: E731
        path = self.p.street.path(lambda t: s + forth * driven(t), d, 0.0, forth)
        return (self.scene.mover(path) if speed else self.scene.static(*_place(path(0)))), driven

    def _vehicle(self, kind: str, s: float, d: float, speed: float, forth: int, rng: np.random.Generator) -> bool:
        """Put one vehicle when its stretch is free."""
        length = {"truck": 9.5, "bus": 12.0, "train": 30.0}.get(kind, 5.2)
        if not self._take(d, s, length):
            return False
        if kind == "train":
            for k, ends in enumerate(("f", "", "b")):
                obj, way = self._mover(s - forth * (k - 1) * 9.6, d, speed, forth)
                vehicles.coach(self.scene, rng, obj, way, vehicles.TRAM, 9.4, 3.5, ends, new=not k)
            return True
        obj, way = self._mover(s, d, speed, forth)
        if kind == "bus":
            vehicles.coach(self.scene, rng, obj, way, vehicles.BUS, rng.uniform(10.5, 12.0), rng.uniform(3.0, 3.3))
        elif kind == "truck":
            vehicles.truck(self.scene, rng, obj, way)
        else:
            vehicles.car(self.scene, rng, obj, way, braking=forth > 0 and 0 < speed < 6)
        return True

    def _wished(self, rng: np.random.Generator) -> None:
        """Trucks, buses and trams in sight: oncoming, ahead in a lane, or standing at the kerb."""
        p = self.p
        big = [k for k in ("train", "bus", "truck") if k in p.wish]
        pace = max(self.ego_speed, 0.0)
        for kind in big:
            spots = [
                (-LANE / 2, -1, rng.uniform(28, 58), rng.uniform(5, 10)),
                (self.ego_d, 1, rng.uniform(26, 45), pace),
            ]
            if p.lanes == 2:
                other = (1.5 if self.lane == 1 else 0.5) * LANE
                spots += [
                    (other, 1, rng.uniform(20, 40), max(pace, 2.0)),
                    (-1.5 * LANE, -1, rng.uniform(22, 50), rng.uniform(5, 10)),
                ]
            if kind == "truck" and p.parking:
                spots.append((p.lanes * LANE + 1.2, 1, rng.uniform(18, 32), 0.0))
            if kind == "train":
                spots = [x for x in spots if abs(abs(x[0]) - LANE / 2) < 0.1]
                spots = [(d, f, s + 10, v) for d, f, s, v in spots]
            for k in rng.permutation(len(spots)):
                d, forth, ahead, speed = spots[k]
                if self._vehicle(kind, p.sight + ahead, d, speed, forth, rng):
                    break

    def _parked(self, rng: np.random.Generator) -> None:
        """Rows of parked cars, bicycles or motorcycles among them."""
        if not self.p.parking:
            return
        for side in (-1, 1):
            fill = rng.uniform(0.2, 0.75)
            for s in np.arange(-15, self.p.sight + 110, 6.1):
                ok = rng.random() < fill and not (
                    self.p.crossing
                    and -9
                    < s - self.p.crossing
                    < 6 + 2 * self.p.cross * bool(self.p.junction) + 14 * bool(self.p.junction)
                )
                kind = "truck" if rng.random() < 0.015 else "car"
                if ok:
                    self._vehicle(kind, s + rng.normal(0, 0.25), side * (self.p.lanes * LANE + 1.15), 0.0, side, rng)

    def _lanes(self, rng: np.random.Generator) -> None:
        """Cars ahead and oncoming."""
        p = self.p
        pace = max(self.ego_speed, 0.0)
        for k in range(p.lanes):
            d = (k + 0.5) * LANE
            busy = rng.uniform(0.1, 0.5)
            for s in np.arange(p.sight + rng.uniform(10, 22), p.sight + 130, rng.uniform(13, 24)):
                if rng.random() < busy:
                    self._vehicle("car", s, d, max(0.0, pace + rng.normal(0, 0.4)) if pace > 0.5 else 0.0, 1, rng)
            busy, speed = rng.uniform(0.2, 0.65), rng.uniform(4, 12)
            for s in np.arange(p.sight + rng.uniform(6, 20), p.sight + 150, rng.uniform(13, 24)):
                if rng.random() < busy:
                    self._vehicle("car", s, -d, speed, -1, rng)

    def _crossing_cars(self, rng: np.random.Generator) -> None:
        """A car that passes or waits in the side street."""
        p = self.p
        if not p.junction or rng.random() < 0.4:
            return
        x, y, _ = p.street.point(p.junction, 0)
        arm = Street(x, y, p.street.angle(p.junction) - np.pi / 2)
        s19 = p.half + 5 + rng.uniform(0, 8)
        speed = rng.uniform(4, 8) if p.state == "red" else 0.0
        driven = lambda t: speed * (t - ANNOTATED) / FPS  # noqa: E731
        path = arm.path(lambda t: s19 - driven(t), -1.8, 0.0, -1)
        vehicles.car(self.scene, rng, self.scene.mover(path), driven)

    def _two_wheels(self, rng: np.random.Generator) -> None:
        """Riders on the street and parked bicycles and motorcycles on the sidewalk."""
        p = self.p
        riders = []
        if "motorcycle" in p.wish and rng.random() < 0.6:
            riders.append("motorcycle")
        if "rider" in p.wish:
            riders.append("bicycle")
        if rng.random() < 0.1:
            riders.append("bicycle")
        for kind in riders:
            right = rng.random() < 0.65
            d = (p.lanes * LANE - 0.45) if right else -(p.lanes * LANE - 0.5)
            speed = max(rng.uniform(3.5, 6), (0.75 if kind == "bicycle" else 0.95) * self.ego_speed if right else 0)
            obj, way = self._mover(
                p.sight + rng.uniform(8.5, 17) + 3 * (kind == "motorcycle"), d, speed, 1 if right else -1
            )
            (vehicles.motorcycle if kind == "motorcycle" else vehicles.bicycle)(self.scene, rng, obj, way)
            rider(self.scene, rng, obj, way, kind == "motorcycle")
        stands = (
            [("motorcycle", 1 + int(rng.random() < 0.5))]
            if "motorcycle" in p.wish and "motorcycle" not in riders
            else []
        )
        stands += [("bicycle", int(rng.integers(3, 9)))] if "bicycle" in p.wish or rng.random() < 0.2 else []
        for kind, count in stands:
            s, side = p.sight + rng.uniform(10, 19), 1 if rng.random() < 0.6 or not p.parking else -1
            leaning = rng.uniform(0.9, 1.9)
            for k in range(count):
                pose = p.street.pose(s + 0.75 * k, side * (p.half + p.verge + 1.0), 0.13, leaning + rng.normal(0, 0.1))
                obj = self.scene.static(*_place(pose))
                (vehicles.motorcycle if kind == "motorcycle" else vehicles.bicycle)(self.scene, rng, obj, lambda t: 0.0)

    def _people(self, rng: np.random.Generator) -> None:
        """Walkers and standing groups on the sidewalks, people on the crossing."""
        p, mesh = self.p, self.scene
        for side in (-1, 1):
            for _ in range(rng.poisson(self.crowd * rng.uniform(0.6, 1.5))):
                s, d = (
                    p.sight + rng.uniform(4, 75),
                    side * (p.half + p.verge + rng.uniform(0.7, max(p.side - 0.4, 0.9))),
                )
                if p.junction and abs(s - p.junction) < p.cross:
                    continue
                if rng.random() < 0.25:
                    for _ in range(int(rng.integers(1, 4))):
                        pose = p.street.pose(
                            s + rng.uniform(-0.8, 0.8), d + rng.uniform(-0.4, 0.4), 0.13, rng.uniform(0, 6.28)
                        )
                        pedestrian(mesh, rng, mesh.static(*_place(pose)), None)
                    continue
                forth, speed = int(rng.choice((-1, 1))), rng.uniform(0.9, 1.7)
                driven = lambda t, v=speed: v * (t - ANNOTATED) / FPS  # noqa: E731
                path = p.street.path(lambda t, s=s, f=forth, w=driven: s + f * w(t), d, 0.13, forth)
                pedestrian(mesh, rng, mesh.mover(path), driven)
        if p.crossing and (p.state == "red" or rng.random() < 0.2):
            for _ in range(int(rng.integers(1, 6))):
                forth, speed, d0 = int(rng.choice((-1, 1))), rng.uniform(1.0, 1.6), rng.uniform(-p.half, p.half)
                driven = lambda t, v=speed: v * (t - ANNOTATED) / FPS  # noqa: E731
                s = p.crossing + rng.uniform(0.4, 2.8)
                path = lambda t, s=s, d0=d0, f=forth, w=driven: p.street.pose(s, d0 - f * w(t), 0.0, f * np.pi / 2)  # noqa: E731
                pedestrian(mesh, rng, mesh.mover(path), driven)


def _place(pose: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, z, heading of an upright pose."""
    return float(pose[0, 3]), float(pose[1, 3]), float(pose[2, 3]), float(np.arctan2(pose[1, 0], pose[0, 0]))
