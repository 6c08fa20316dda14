"""A loader that waits for a file says so, and gives up where it is told to."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.data import DetectionDataset, Loader, Preprocess
from unidet.data.stall import StallWatch
from unidet.errors import RunFailedError

SMALL = Preprocess(resize="fixed", size=(32, 64))
#: The image that cannot be read at once.
SLOW = 4


@pytest.fixture
def gate(scenes: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Reading of one image waits until this is set."""
    event, read = threading.Event(), DetectionDataset.read

    def wait(self: DetectionDataset, i: int) -> np.ndarray:
        if i == SLOW:
            event.wait(60)
        return read(self, i)

    monkeypatch.setattr(DetectionDataset, "read", wait)
    yield event
    event.set()  # the threads that were left alone


def file_name(scenes: DetectionDataset) -> str:
    return str(scenes.images[SLOW].path)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stall_is_reported_until_it_ends(
    workers: int, scenes: DetectionDataset, gate: threading.Event
) -> None:
    lines: list[str] = []
    loader = Loader(scenes, SMALL, 2, num_workers=workers, stall_seconds=0.05)

    def report(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            gate.set()

    loader.watch.report = report
    seen = [i for batch in loader for i in batch.image_ids]
    assert seen == [record.id for record in scenes.images]
    assert len(lines) >= 3
    assert all(line.startswith("warning: no batch for ") for line in lines)
    assert all(file_name(scenes) in line for line in lines[:3])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stall_ends_with_an_error(
    workers: int, scenes: DetectionDataset, gate: threading.Event
) -> None:
    loader = Loader(scenes, SMALL, 2, num_workers=workers, stall_seconds=0, stall_error_seconds=0.2)
    batches = loader.epoch(0)
    with pytest.raises(RunFailedError, match="stall_error_seconds") as caught:
        list(batches)
    assert file_name(scenes) in str(caught.value)
    assert list(batches) == []


def test_without_limits_nothing_is_said(
    scenes: DetectionDataset, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    loader = Loader(scenes, SMALL, 5, stall_seconds=0)
    threading.Timer(0.2, gate.set).start()
    assert [len(batch) for batch in loader] == [5, 5]
    assert not caplog.records


def test_by_default_the_log_gets_the_line(
    scenes: DetectionDataset, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    loader = Loader(scenes, SMALL, 5, stall_seconds=0.05)
    threading.Timer(0.3, gate.set).start()
    assert [len(batch) for batch in loader] == [5, 5]
    assert file_name(scenes) in caplog.records[0].message


def test_intervals_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Queue:
        def get(self, timeout: float) -> Any:
            import queue

            clock[0] += timeout
            if clock[0] > 60 * 16:
                return "batch"
            raise queue.Empty

    monkeypatch.setattr("unidet.data.stall.time.monotonic", lambda: clock[0])
    watch, lines = StallWatch(60), []
    watch.report = lines.append
    assert watch.wait(Queue()) == "batch"  # type: ignore[arg-type]
    assert [line.split(" s.")[0].split()[-1] for line in lines] == [
        "60",
        "120",
        "240",
        "480",
        "960",
    ]
    assert lines[0].endswith("No file is being read.")


@pytest.mark.parametrize("options", [{"stall_seconds": -1}, {"stall_error_seconds": float("nan")}])
def test_bad_limits(options: dict[str, float], scenes: DetectionDataset) -> None:
    with pytest.raises(ValueError, match="Invalid value for `stall_"):
        Loader(scenes, SMALL, 2, **options)


STALLED_RUN = """
import sys, threading
import numpy as np
from unidet.cli.main import main
from unidet.data import DetectionDataset
read = DetectionDataset.read
def blocked(self, i):
    if i == 3 and "train" in str(self.images[i].path):
        threading.Event().wait()
    return read(self, i)
DetectionDataset.read = blocked
sys.exit(main())
"""


def test_a_run_says_so_and_ends(backend: str, tmp_path: Path) -> None:
    """Terminal and log both name the file, and a thread that never returns holds up no exit."""
    sets = ["data.scenes.train_images=8", "data.scenes.val_images=2", "data.num_workers=2",
            "data.stall_seconds=0.3", "data.stall_error_seconds=1", "data.cache=false",
            "data.scenes.height=64", "data.scenes.width=64"]  # fmt: skip
    work = tmp_path / "run"
    words = ["train", "--backend", backend, "--work-dir", str(work)]
    words += [word for key in sets for word in ("--set", key)]
    done = subprocess.run(
        [sys.executable, "-c", STALLED_RUN, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    log = (work / "log.txt").read_text(encoding="utf-8")
    for text in (done.stdout, log):
        assert "warning: no batch for " in text
        assert "000003" in text
    assert "error: No batch for 1 s" in done.stderr
    assert "000003" in done.stderr
