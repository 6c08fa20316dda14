"""Boxes, scores and classes that are likely to tell two forms of suppression apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


def clustered(rng: np.random.Generator, n: int, dtype: str = "float32") -> Case:
    """Many boxes on few objects, as before suppression."""
    places = rng.uniform(0, 1000, (max(n // 40, 1), 2))
    centres = places[rng.integers(0, len(places), n)] + rng.normal(0, 4, (n, 2))
    return _case(rng, centres, rng.uniform(40, 60, (n, 2)), dtype)


def spread(rng: np.random.Generator, n: int, dtype: str = "float32") -> Case:
    """Boxes all over the picture; few overlap much."""
    return _case(rng, rng.uniform(0, 1300, (n, 2)), rng.uniform(5, 60, (n, 2)), dtype)


def _case(rng: np.random.Generator, centres: np.ndarray, sizes: np.ndarray, dtype: str) -> Case:
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).astype(dtype)
    return boxes, rng.random(len(boxes)).astype(dtype), rng.integers(0, 5, len(boxes))


def _grid(rng: np.random.Generator, n: int) -> Case:
    # Whole coordinates: the overlaps 1/2, 1/3 and 1/4 are met exactly, and scores tie.
    low = rng.integers(0, 5, (n, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 5, (n, 2))], 1).astype(np.float32)
    return boxes, (rng.integers(0, 4, n) / 4).astype(np.float32), rng.integers(-2, 3, n)


def _identical(rng: np.random.Generator, n: int) -> Case:
    return (
        np.tile(np.float32([3, 4, 50, 60]), (n, 1)),
        np.full(n, 0.5, np.float32),
        np.arange(n) % 2,
    )


def _with_nan(rng: np.random.Generator, n: int) -> Case:
    boxes, scores, classes = clustered(rng, n)
    boxes[rng.random(boxes.shape) < 0.05] = np.nan
    scores[rng.random(n) < 0.1] = np.nan
    return boxes, scores, classes


def _infinite(rng: np.random.Generator, n: int) -> Case:
    boxes, scores, classes = clustered(rng, n)
    boxes[rng.random(n) < 0.1, 2] = np.inf
    boxes[rng.random(n) < 0.1, 0] = -np.inf
    boxes[rng.random(n) < 0.05, :2] = np.inf
    scores[rng.random(n) < 0.1] = np.inf
    scores[rng.random(n) < 0.1] = -np.inf
    return boxes, scores, classes


def _huge(rng: np.random.Generator, n: int) -> Case:
    boxes, scores, classes = clustered(rng, n)
    return boxes * np.float32(1e18), scores, classes


def _inverted(rng: np.random.Generator, n: int) -> Case:
    boxes, scores, classes = clustered(rng, n)
    return boxes[:, rng.permutation(4)].copy(), scores - np.float32(0.5), classes


def _signed_zero(rng: np.random.Generator, n: int) -> Case:
    boxes, _, classes = clustered(rng, n)
    return boxes, np.where(rng.random(n) < 0.5, -0.0, 0.0).astype(np.float32), classes


def _few(count: int) -> Callable[[np.random.Generator, int], Case]:
    return lambda rng, n: clustered(rng, count)


CASES: dict[str, Callable[[np.random.Generator, int], Case]] = {
    "clustered": clustered,
    "clustered_float64": lambda rng, n: clustered(rng, n, "float64"),
    "spread": spread,
    "spread_float64": lambda rng, n: spread(rng, n, "float64"),
    "ties_and_zero_area": _grid,
    "identical": _identical,
    "nan": _with_nan,
    "infinite": _infinite,
    "huge": _huge,
    "inverted": _inverted,
    "signed_zero": _signed_zero,
    "empty": _few(0),
    "single": _few(1),
    "two": _few(2),
}


def sweep(count: int) -> Iterator[tuple[str, Case, float]]:
    """``count`` random draws over kinds, sizes and thresholds, the same on every run."""
    kinds = list(CASES)
    for seed in range(count):
        rng = np.random.default_rng([20170404, seed])
        kind = kinds[seed % len(kinds)]
        size = int(rng.integers(0, 90))
        threshold = float(rng.choice([0.0, 1 / 4, 1 / 3, 0.5, 0.7, 1.0, rng.random()]))
        yield kind, CASES[kind](rng, size), threshold
