"""Training the versions of a sweep, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from unidet.config import Config, dump_config
from unidet.engine.run_folder import write_text
from unidet.runs.child import run_command
from unidet.runs.steps import Step, resumable, run_steps
from unidet.runs.sweep.grid import SweepRun
from unidet.runs.sweep.record import SweepRecord


def run_sweep(
    record: SweepRecord,
    *,
    device: str = "cpu",
    quiet: bool = False,
    say: Callable[[str], None] = print,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Trains what is not finished; a run that fails is noted and the others go on.

    Args:
        record: of the sweep.
        device: "cpu" or "cuda".
        quiet: the runs themselves print nothing but errors.
        say: takes one line at a time.
        after: called after each run, however it ended.

    Raises:
        UserError: another sweep works in the folder.
        KeyboardInterrupt: after the interrupted run was noted.
    """
    with record.locked() as lock:
        record.write()
        runs = [run for version in record.versions for run in version.runs]
        steps = [
            Step(
                name=run.name,
                work=partial(_train, record, run, device, quiet, lock),
                title=f"[{number}/{len(runs)}] {run.name}",
            )
            for number, run in enumerate(runs, 1)
        ]
        run_steps(steps, steps, record, done="finished", say=say, after=after)


def _train(
    record: SweepRecord, run: SweepRun, device: str, quiet: bool, lock: int, resume: bool
) -> str:
    """Trains a run in a child process; returns why it failed, or "".

    What it goes on from is what lies in its folder, so ``resume`` has nothing to say.
    """
    folder = record.folder(run.name)
    folder.make()
    write_text(folder.config, dump_config(_shared_scenes(record, run.config)))
    words = [
        *("train", str(folder.config), "--work-dir", str(folder.root)),
        *("--backend", record.backend, "--device", device),
        "--resume" if resumable(folder.root) else "--overwrite",
        *(["--quiet"] if quiet else []),
    ]
    return run_command(words, lock=lock)


def _shared_scenes(record: SweepRecord, config: Config) -> Config:
    """All versions read the same generated scenes, unless the config has a place for them."""
    if config.data.format != "scenes" or config.data.root:
        return config
    data = dataclasses.replace(config.data, root=str(record.root / "data"))
    return dataclasses.replace(config, data=data)
