"""The picture of a sweep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from unidet.visualization import read_image
from unidet.visualization.sweep import _curve, plot_sweep


def series(*pairs: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs], float)


class Sheet:
    """Notes what is drawn."""

    def plot(self, steps: np.ndarray, values: np.ndarray, **_: object) -> None:
        self.steps, self.mean = steps.tolist(), values.tolist()

    def fill_between(
        self, steps: np.ndarray, low: np.ndarray, high: np.ndarray, **_: object
    ) -> None:
        self.low, self.high = low.tolist(), high.tolist()


def test_a_curve_is_the_mean_of_the_runs_that_reach_a_step() -> None:
    sheet = Sheet()
    runs = [series((10, 0.2), (20, 0.4), (30, np.nan)), series((10, 0.4), (20, 0.8), (40, 1.0))]
    axis: Axes = sheet  # type: ignore[assignment]
    assert _curve(axis, runs, "black", "o") == 40
    np.testing.assert_allclose(sheet.steps, [10, 20, 30, 40])
    np.testing.assert_allclose(sheet.mean, [0.3, 0.6, 0.9, 1.0])
    np.testing.assert_allclose(sheet.low, [0.2, 0.4, 0.9, 1.0])
    np.testing.assert_allclose(sheet.high, [0.4, 0.8, 0.9, 1.0])


def test_many_versions_and_empty_ones_are_drawn(tmp_path: Path) -> None:
    names = [f"lr={i}" for i in range(24)]
    curves = {n: [series((1, i / 30), (2, i / 25))] * (i % 3) for i, n in enumerate(names)}
    reached = {n: [i / 25, i / 24][: i % 3] for i, n in enumerate(names)}
    out = plot_sweep(curves, reached, "AP", tmp_path / "a" / "sweep.png")
    picture = read_image(out)
    assert picture.shape[1] > picture.shape[0] > 900
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
