"""Logs and their curves."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.errors import RunFailedError, UserError
from unidet.evaluation.compare import compare_runs
from unidet.evaluation.run_log import read_metrics
from unidet.visualization import curves, plot_run, plot_runs, read_image


def _run(folder: Path, losses: list[float], scores: list[float], config: str | None = None) -> Path:
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"step": i, "epoch": 0, "loss": v, "loss/cls": v / 2, "lr": 0.1, "time": i}
        for i, v in enumerate(losses, start=1)
    ]
    rows += [
        {"step": 10 * i, "epoch": i, "eval": {"AP": v, "AP50": v + 0.1}}
        for i, v in enumerate(scores, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if config is not None:
        (folder / "config.yaml").write_text(config)
    return folder


def test_log_is_read_by_kind(tmp_path: Path) -> None:
    run = read_metrics(_run(tmp_path / "a", [3.0, 2.0], [0.1, 0.3]))
    assert run.name == "a"
    assert run.train["loss"][1].tolist() == [3.0, 2.0]
    assert set(run.train) == {"loss", "loss/cls", "lr"}
    assert run.evaluation["AP"][0].tolist() == [10, 20]
    assert run.epochs == {10: 1, 20: 2}


def test_resumed_steps_replace_earlier_ones_and_cut_lines_are_passed_over(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", [3.0, 2.0], [])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "epoch": 0, "loss": 5.0}\n{"step": 3, "lo')
    run = read_metrics(folder)
    assert run.train["loss"][0].tolist() == [1, 2]
    assert run.train["loss"][1].tolist() == [3.0, 5.0]


def test_broken_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", [3.0], [])
    path = folder / "metrics.jsonl"
    path.write_text("[1]\n" + path.read_text() + '{"step": 9, "loss": "x"}\n')
    run = read_metrics(folder)
    assert run.damaged == [1, 3] and run.train["loss"][0].tolist() == [1]
    path.write_text("[1]\n")
    with pytest.raises(UserError, match="Line 1"):
        read_metrics(folder)
    with pytest.raises(UserError, match="absent"):
        read_metrics(tmp_path / "absent")


def test_moving_average_by_hand() -> None:
    smooth = curves.moving_average(np.array([1.0, 2.0, np.nan, 0.0]), 0.9)
    assert smooth.tolist() == pytest.approx([1, 2.9 / 1.9, 2.9 / 1.9, 2.61 / 2.71])
    assert np.isnan(curves.moving_average(np.array([np.nan]))).all()


@pytest.mark.parametrize(("count", "factor"), [(40, 0.5), (360, 0.9), (4000, 0.9)])
def test_short_runs_are_smoothed_less(count: int, factor: float) -> None:
    values = np.linspace(1, 0, count)
    same = curves.moving_average(values, factor)
    np.testing.assert_allclose(curves.moving_average(values), same)


class _Axis:
    def __init__(self) -> None:
        self.lines: list[tuple[np.ndarray, np.ndarray, dict[str, Any]]] = []
        self.marks: list[float] = []

    def plot(self, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
        self.lines.append((np.asarray(x), np.asarray(y), style))

    def axvline(self, x: float, **style: Any) -> None:
        self.marks.append(float(x))


def _drawn(values: list[float]) -> _Axis:
    axis = _Axis()
    steps = np.arange(1, len(values) + 1)
    curves._loss(axis, steps, np.array(values), "#000000", "loss")  # type: ignore[arg-type]
    return axis


def test_raw_loss_is_light_and_average_dark() -> None:
    raw, smooth = _drawn([4.0, 3.0, 2.0]).lines
    assert raw[2]["alpha"] < 0.5
    assert smooth[2].get("alpha", 1) == 1
    assert raw[1].tolist() == [4.0, 3.0, 2.0]
    wanted = curves.moving_average(np.array([4.0, 3.0, 2.0]))
    assert smooth[1].tolist() == pytest.approx(wanted.tolist())


@pytest.mark.parametrize(
    ("first", "kept"), [(99.0, True), (100.0, True), (100.1, False), (float("nan"), False)]
)
def test_first_loss_above_100_is_left_out(first: float, kept: bool) -> None:
    raw = _drawn([first, 3.0, 300.0]).lines[0]
    assert (raw[0][0] == 1) == kept
    assert raw[1][-1] == 300.0, "a later loss must not be left out"


def test_divergence_is_marked() -> None:
    assert _drawn([2.0, 3.0, float("inf"), float("nan")]).marks == [3.0]
    assert _drawn([2.0, 3.0]).marks == []


def test_pictures_are_made_without_pyplot(tmp_path: Path) -> None:
    a = _run(tmp_path / "a", [3.0, 2.0, 1.0], [0.1, 0.3])
    b = _run(tmp_path / "b", [4.0, 3.0], [0.2])
    path = plot_run(a)
    assert path == a / "loss_curve.png"
    wide = read_image(path)
    assert wide.std() > 5
    assert wide.shape[0] > 600, "four panels make two rows"
    one = read_image(plot_runs([a, b], "AP50", tmp_path / "out" / "both.png"))
    assert one.shape[0] < wide.shape[0]


def test_the_loss_of_the_validation_is_drawn_beside_that_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _run(tmp_path / "a", [3.0, 2.0, 1.0], [0.1])
    rows = [{"step": s, "epoch": 1, "eval": {"AP": 0.1, "val_loss": 4.0 / s}} for s in (1, 2)]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    drawn: list[tuple[list[float], str | None]] = []
    original = curves._loss

    def loss(axis: Any, steps: np.ndarray, values: np.ndarray, colour: str, label: Any) -> None:
        drawn.append((values.tolist(), label))
        original(axis, steps, values, colour, label)

    monkeypatch.setattr(curves, "_loss", loss)
    plot_run(folder)
    assert drawn[:2] == [([3.0, 2.0, 1.0], "loss"), ([4.0, 2.0], "val_loss")]
    drawn.clear()
    plot_run(_run(tmp_path / "b", [3.0, 2.0], [0.1]))
    assert drawn[0] == ([3.0, 2.0], None)


def test_nothing_to_plot_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no losses and no metrics"):
        plot_run(_run(tmp_path / "a", [], []))
    with pytest.raises(UserError, match="none has logged"):
        plot_runs([tmp_path / "a"])
    b = _run(tmp_path / "b", [1.0], [0.5])
    with pytest.raises(UserError, match="Did you mean 'AP50'"):
        plot_runs([b], "AP5", tmp_path / "x.png")
    with pytest.raises(UserError, match=r"one of .*\.png.*'x\.nothing'"):
        plot_run(b, tmp_path / "x.nothing")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file is no folder"):
        plot_run(b, tmp_path / "file" / "x.png")


def test_a_refused_write_keeps_the_earlier_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(tmp_path / "a", [1.0, 0.5], [0.5])
    before = plot_run(run).read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunFailedError, match=r"loss_curve\.png: No space left on device"):
        plot_run(run)
    assert (run / "loss_curve.png").read_bytes() == before
    assert not list(run.glob(".*.tmp"))


def test_runs_are_compared_by_what_differs(tmp_path: Path) -> None:
    config = (
        "model: {{name: m, arguments: {{depth: {depth}}}}}\ntrain: {{seed: {seed}, epochs: 2}}\n"
    )
    runs = [
        _run(
            tmp_path / name,
            [3.0, 2.0],
            scores,
            config.format(depth=depth, seed=seed),
        )
        for name, depth, seed, scores in (
            ("a", 18, 0, [0.1, 0.4, 0.3]),
            ("b", 18, 1, [0.2, 0.2]),
            ("c", 50, 0, []),
        )
    ]
    comparison = compare_runs(runs)
    assert comparison.options == ["model.arguments.depth", "train.seed"]
    records = comparison.records()
    assert [r["best step"] for r in records] == [20, 10, None]
    assert [r["AP"] for r in records] == [0.4, 0.2, None]
    assert records[0]["AP50"] == pytest.approx(0.5)
    assert records[0]["last loss"] == 2.0
    (spread,) = comparison.spread()
    assert spread["runs"] == ["a", "b"]
    assert spread["mean"] == pytest.approx(0.3)
    assert spread["std"] == pytest.approx(0.1 * 2**0.5)
    lines = comparison.to_csv().splitlines()
    assert lines[0].startswith("run,model.arguments.depth,train.seed,best epoch")
    assert lines[1].startswith("a,18,0,2,20,0.4")
    assert json.loads(comparison.to_json())["runs"][2]["run"] == "c"


def test_smaller_is_better_for_losses(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", [1.0], [])
    rows = [
        {"step": i, "epoch": i, "eval": {"val_loss": v}} for i, v in ((1, 3.0), (2, 1.0), (3, 2.0))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert compare_runs([folder], "val_loss").rows[0].best_step == 2
    with pytest.raises(UserError, match="Received 'AP'"):
        compare_runs([folder], "AP")


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    runs = [_run(tmp_path / side / "run", [1.0], [0.5]) for side in ("x", "y")]
    names = [row.name for row in compare_runs(runs).rows]
    assert names == [str(run) for run in runs]


def test_runs_that_agree_lie_together() -> None:
    from matplotlib.figure import Figure

    from unidet.visualization.curves import _widen

    axis = Figure().add_subplot()
    axis.plot([10, 10], [0.283, 0.286])
    _widen(axis)
    low, high = axis.get_ylim()
    assert low < 0.28 and high > 0.29
    axis = Figure().add_subplot()
    axis.plot([10, 10], [0.1, 0.5])
    before = axis.get_ylim()
    _widen(axis)
    assert axis.get_ylim() == before
