"""Training the versions of a sweep, one after the other."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial

from unidet.config import Config, dump_config
from unidet.engine.checkpointing import find_state
from unidet.engine.run_folder import RunFolder, write_text
from unidet.errors import UserError
from unidet.runs.sweep.child import run_command
from unidet.runs.sweep.grid import SweepRun
from unidet.runs.sweep.record import FAILED, FINISHED, INTERRUPTED, Record

#: Takes words of a command and returns why it failed, or "".
Launch = Callable[[list[str]], str]


def to_do(record: Record, run: SweepRun) -> str:
    """What will become of a run, in words; empty where it is finished."""
    status = record.status(run.name)
    if status == FINISHED:
        return ""
    if _resumable(record.folder(run.name)):
        return f"goes on, {status}"
    return f"starts again, {status}" if status else "starts"


def run_sweep(
    record: Record,
    *,
    device: str = "cpu",
    quiet: bool = False,
    launch: Launch | None = None,
    say: Callable[[str], None] = print,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Trains what is not finished; a run that fails is noted and the others go on.

    Args:
        record: of the sweep.
        device: "cpu" or "cuda".
        quiet: the runs themselves print nothing but errors.
        launch: runs a `unidet` command; in a child process by default.
        say: takes one line at a time.
        after: called after each run, however it ended.

    Raises:
        UserError: another sweep works in the folder.
        KeyboardInterrupt: after the interrupted run was noted.
    """
    with record.locked() as lock:
        launch = launch or partial(run_command, lock=lock)
        record.write()
        runs = [run for version in record.versions for run in version.runs]
        for number, run in enumerate(runs, 1):
            title = f"[{number}/{len(runs)}] {run.name}"
            what = to_do(record, run)
            if not what:
                say(f"{title}: finished already")
                continue
            say(f"{title}: {what}")
            started = time.perf_counter()
            # The state in which a kill leaves it.
            record.enter(run.name, INTERRUPTED)
            try:
                reason = launch(_words(record, run, device, quiet))
            except KeyboardInterrupt:
                after()
                raise
            record.enter(run.name, FAILED if reason else FINISHED, reason)
            seconds = time.perf_counter() - started
            say(f"{title}: failed: {reason}" if reason else f"{title}: done in {seconds:.0f} s")
            after()


def _resumable(folder: RunFolder) -> bool:
    """Whether a state was saved; the first one counts once it is whole."""
    try:
        find_state(folder.root)
    except UserError:
        return False
    return True


def _words(record: Record, run: SweepRun, device: str, quiet: bool) -> list[str]:
    """The command that trains a run, after its config was put in its folder."""
    folder = record.folder(run.name)
    folder.make()
    write_text(folder.config, dump_config(_shared_scenes(record, run.config)))
    return [
        *("train", str(folder.config), "--work-dir", str(folder.root)),
        *("--backend", record.backend, "--device", device),
        "--resume" if _resumable(folder) else "--overwrite",
        *(["--quiet"] if quiet else []),
    ]


def _shared_scenes(record: Record, config: Config) -> Config:
    """All versions read the same generated scenes, unless the config has a place for them."""
    if config.data.format != "scenes" or config.data.root:
        return config
    data = dataclasses.replace(config.data, root=str(record.root / "data"))
    return dataclasses.replace(config, data=data)
