"""What a reward model says of each criterion, and the front between them: tables, and a chart for each two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from burnish.config import OVERALL, Recipe
from burnish.records import Figure, Json, Record
from burnish.rewards.front import Point, dominated, front
from burnish.store import Store
from burnish.web.words import figure_of, interval, number

LEFT, RIGHT, TOP, BOTTOM = 44, 308, 12, 200  # the frame of a chart, which is 320 wide and 240 high
TICK = 0.05


def of_reward(store: Store, project: str, record: Record | None, recipe: Recipe) -> dict[str, Json] | None:
    """The criteria of a reward model's record; None where it is no reward model or was asked about none."""
    body = record.body if record is not None and record.kind == "reward" else {}
    if record is None or not (body.get("criteria") or body.get("left_out")):
        return None
    versions = [v for v in store.records(project, "version") if record.id in v.parents and v.body["stage"] == "rl"]
    used = [_weights(version) for version in versions]
    now = recipe.weights
    points = front(body, [*used, now])
    names = list(points[0].shares) if points else []
    overall = {name: body.get(name) for name in ("accuracy", "calibration_error")}
    return {
        "heads": [_head(name, said) for name, said in [(OVERALL, overall), *body["criteria"].items()]],
        "left_out": body["left_out"],
        "names": names,
        "pairs": len(body["held_out"]),
        "front": [
            {
                "weights": weights_in_words(point.weights),
                "shares": [interval(point.shares[name]) for name in names],
                "mark": "in the recipe" if _same(point.weights, now) else "",
                "dominated": point.dominated,
            }
            for point in points
        ],
        "charts": [_chart(points, a, b, now) for a, b in combinations(names, 2)],
        "versions": _gains(versions, list(body["criteria"]), store.records(project, "judgement")),
    }


def weights_in_words(weights: Mapping[str, float]) -> str:
    """``solves it 0.7, house style 0.3``, the largest first; what weighs nothing is left out."""
    heaviest = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {weight:.3g}" for name, weight in heaviest if weight) or OVERALL


def _weights(version: Record) -> Mapping[str, float]:
    found: Mapping[str, float] = (version.body["settings"].get("criteria") or {}).get("value", {})
    return found


def _same(weights: Mapping[str, float], others: Mapping[str, float]) -> bool:
    names = {*weights, *others}
    return bool(others) and all(math.isclose(weights.get(n, 0), others.get(n, 0), abs_tol=1e-6) for n in names)


def _head(name: str, said: Mapping[str, Json]) -> dict[str, Json]:
    error = said["calibration_error"]
    return {
        "name": name,
        "accuracy": interval(figure_of(said["accuracy"])),
        "calibration": "–" if error is None else number(error),
    }


def _gains(versions: Sequence[Record], names: Sequence[str], judgements: Sequence[Record]) -> list[dict[str, Json]]:
    """What each version gained on dev prompts over its start by each head, and what raters said who judged it; among
    themselves, by their gains, which are dominated."""
    judged = {j.body["contenders"][j.body["candidate"]]: j.body for j in judgements}
    found = []
    for version in versions:
        before, after = version.body["figures"]["before"], version.body["figures"]["after"]
        keys = {name: next((key for key in before if key.endswith(f"/{name}")), None) for name in names}
        if all(keys.values()):
            found.append((version, {name: Figure(after[key] - before[key]) for name, key in keys.items() if key}))
    gains = [gained for _, gained in found]
    return [
        {
            "name": version.name,
            "weights": weights_in_words(_weights(version)),
            "gains": [f"{gained[name].value:+.2f}" for name in names],
            "won": [interval(figure_of((judged.get(version.id, {}).get("criteria") or {}).get(n))) for n in names],
            "dominated": dominated(gained, gains),
        }
        for version, gained in found
    ]


def _chart(points: Sequence[Point], a: str, b: str, now: Mapping[str, float]) -> dict[str, Json]:
    """The shares by two criteria, each point where it lies; those that are not dominated are joined."""
    across, up = (_scale([point.shares[name].value for point in points]) for name in (a, b))
    dots = [
        {
            "x": _place(point.shares[a].value, across, LEFT, RIGHT),
            "y": _place(point.shares[b].value, up, BOTTOM, TOP),
            "dominated": point.dominated,
            "now": _same(point.weights, now),
            "says": f"{weights_in_words(point.weights)}: "
            + ", ".join(f"{name} {interval(point.shares[name])}" for name in (a, b)),
        }
        for point in points
    ]
    best = sorted((dot["x"], dot["y"]) for dot in dots if not dot["dominated"])
    return {
        "a": a,
        "b": b,
        "dots": dots,
        "line": " ".join(f"{x},{y}" for x, y in best),
        "across": [(_place(tick, across, LEFT, RIGHT), number(tick)) for tick in across],
        "up": [(_place(tick, up, BOTTOM, TOP), number(tick)) for tick in up],
    }


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """Whole ticks that hold all values."""
    low, high = math.floor(min(values) / TICK) * TICK, math.ceil(max(values) / TICK) * TICK
    return low, high if high > low else low + TICK


def _place(value: float, ends: tuple[float, float], first: float, last: float) -> float:
    return round(first + (last - first) * (value - ends[0]) / (ends[1] - ends[0]), 1)
