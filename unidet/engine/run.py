"""Training in one call: opens the run folder, builds or restores the run, trains, reports."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from unidet.backends.parallel import ranks
from unidet.backends.registry import resolve as resolve_backend
from unidet.backends.registry import use
from unidet.config import Config, dump_config, from_mapping, resolve
from unidet.engine.checkpointing import check_best, inherit_best, publish, settle
from unidet.engine.display import Display
from unidet.engine.progress import Progress
from unidet.engine.resume import check_resume
from unidet.engine.run_folder import RunFolder, keep_config, write_text
from unidet.engine.run_lock import locked
from unidet.engine.run_log import NoLog, RunLog
from unidet.engine.saved_state import Saved, find_state, open_state
from unidet.engine.trainer import Trainer
from unidet.errors import RunFailedError, UserError


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves.

    Attributes:
        work_dir: the run's folder.
        epochs: finished epochs.
        steps: optimizer steps.
        epoch_losses: mean loss of each epoch.
        metrics: of the last evaluation, or of the best one with ``train.load_best_at_end``;
            empty without one.
        best: best value of ``train.best_metric``, None without an evaluation.
        best_step: step that reached it.
        weights: file of the final weights: the last ones, or the best with
            ``train.load_best_at_end``.
        seconds: wall time of this call.
    """

    work_dir: Path
    epochs: int
    steps: int
    epoch_losses: list[float]
    metrics: dict[str, float]
    best: float | None
    best_step: int | None
    weights: Path
    seconds: float


def train(
    config: Config,
    *,
    backend: str | None = None,
    device: str = "cpu",
    work_dir: str | Path,
    resume: str | Path | bool | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> RunResult:
    """Trains a model and leaves a run folder.

    In a job that ``torchrun`` or ``mpirun`` has started, each rank calls this; rank 0 alone writes.

    Args:
        config: what to train, on what, and how.
        backend: "torch" or "jittor"; see :func:`unidet.backends.resolve`.
        device: "cpu" or "cuda".
        work_dir: the run's folder.
        resume: True goes on from the state in ``work_dir``; a path goes on from that run. The
            state may have been written on either backend.
        seed: takes the place of ``train.seed``.
        overwrite: replace an earlier run in ``work_dir``.
        quiet: print nothing.

    Raises:
        UserError: bad input, or ``work_dir`` holds a run and neither ``resume`` nor ``overwrite``
            is given.
        RunFailedError: the loss diverged, the disk refused a write, or another rank failed or was
            killed; the last saved state is intact.
    """
    started = time.perf_counter()
    backend = resolve_backend(backend)
    if seed is not None:
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
    config = from_mapping(resolve(config))
    folder = RunFolder(Path(work_dir))
    folder.check()
    world, existed = ranks.join(backend, device), folder.root.exists()
    try:
        with _sole_user(folder, world):
            try:
                trainer = _train(
                    config, folder, backend, device, resume, overwrite, quiet, existed=existed
                )
            except ranks.RanksLostError:
                if world.is_main and not folder.has_state:
                    folder.remove(keep_root=existed)
                raise
    except ranks.RanksLostError as error:
        raise RunFailedError(
            f"Another rank failed or was killed, or the job was stopped, so rank {world.rank} "
            "stops too. "
            + (
                f"What was saved in {folder.root} is whole; go on with --resume, with any number "
                "of ranks."
                if folder.has_state
                else "Nothing had been saved yet."
            )
        ) from error
    weights = folder.final if config.train.load_best_at_end else folder.last
    return _result(folder, trainer.progress, weights, time.perf_counter() - started)


@contextmanager
def _sole_user(folder: RunFolder, world: ranks.World) -> Iterator[None]:
    """Locks the folder on rank 0; where another run holds it, every rank says so."""
    with ExitStack() as stack:
        refusal = ""
        if world.is_main:
            try:
                stack.enter_context(locked(folder.root))
            except UserError as error:
                refusal = str(error)
        refusal = world.from_main(refusal)
        if refusal:
            raise UserError(refusal)
        yield


def _train(
    config: Config,
    folder: RunFolder,
    backend: str,
    device: str,
    resume: str | Path | bool | None,
    overwrite: bool,
    quiet: bool,
    *,
    existed: bool,
) -> Trainer:
    world = ranks.world()
    saved, origin, notes = _saved_state(config, folder, resume, overwrite)
    world.wait()  # all have seen the folder as it was before
    with use(backend):
        trainer = Trainer(config, folder, backend=backend, device=device)
        if saved is not None:
            trainer.restore(saved)
        elif config.train.weights:
            notes.append(trainer.start_from(config.train.weights))
        world.wait()  # all have read what the folder may be cleared of
        if world.is_main:
            damage = list(saved.notes) if saved is not None else []
            damage += _open_folder(folder, config, saved, origin, overwrite=overwrite)
            if origin is not None:
                inherit_best(folder, origin, trainer.progress)
            elif saved is not None:
                damage += check_best(folder, trainer.progress)
            if quiet:
                # What was lost is said all the same.
                for line in damage:
                    print(f"unidet: {line}", file=sys.stderr, flush=True)
            notes += damage
        progress = trainer.progress
        progress.best, progress.best_step = world.from_main((progress.best, progress.best_step))
        try:
            _run(trainer, notes + trainer.warnings, quiet=quiet)
        except UserError:
            # Bad input, such as a damaged image, that showed late: nothing was learnt yet.
            if world.is_main and not folder.has_state:
                folder.remove(keep_root=existed)
            raise
    return trainer


def _run(trainer: Trainer, notes: list[str], *, quiet: bool) -> None:
    step = trainer.progress.step
    main, smoothing = trainer.world.is_main, trainer.config.train.smoothing
    with (
        RunLog(trainer.folder, step, smoothing) if main else NoLog() as log,
        Display(
            trainer.span.total, step, quiet=quiet or not main, live=trainer.world.size == 1
        ) as display,
    ):
        trainer.attach(log, display)
        for note in notes:
            trainer.say(note)
        if log.damage:
            trainer.say(log.damage)
            if quiet:
                print(f"unidet: {log.damage}", file=sys.stderr, flush=True)
        trainer.run()


def _result(folder: RunFolder, progress: Progress, weights: Path, seconds: float) -> RunResult:
    return RunResult(
        folder.root,
        progress.epoch,
        progress.step,
        list(progress.epoch_losses),
        dict(progress.metrics),
        progress.best,
        progress.best_step,
        weights,
        seconds,
    )


def _saved_state(
    config: Config, folder: RunFolder, resume: str | Path | bool | None, overwrite: bool
) -> tuple[Saved | None, Path | None, list[str]]:
    """The state to go on from, its place if that is another run's, and lines for the log."""
    if not resume:
        if not folder.is_empty and not overwrite:
            raise UserError(
                f"Invalid value for `work_dir`. Expected a new or empty folder. Received "
                f"{folder.root}, which is not. Go on with --resume, or replace it with --overwrite."
            )
        return None, None, []
    place = folder.root if resume is True else resume
    elsewhere = folder.root.resolve() not in find_state(place).resolve().parents
    if overwrite and not elsewhere:
        raise UserError(
            f"Invalid value for `overwrite`. Expected false, because the state to resume is in "
            f"{folder.root} itself. Received true."
        )
    if elsewhere and not folder.is_empty and not overwrite:
        raise UserError(
            f"Invalid value for `work_dir`. Expected a new folder, because {resume} is another "
            f"run. Received {folder.root}, which is not empty. Replace it with --overwrite."
        )
    generation, saved = open_state(place)
    differences = check_resume(saved, config, str(generation.parent))
    notes = [
        f"resumed {generation.parent} at step {saved.progress.step}, written on {saved.backend}"
    ]
    notes += [f"changed since: {line}" for line in differences]
    return saved, generation if elsewhere else None, notes


def _open_folder(
    folder: RunFolder,
    config: Config,
    saved: Saved | None,
    origin: Path | None,
    *,
    overwrite: bool,
) -> list[str]:
    """Makes the folder ready; returns what of an earlier run could not be read."""
    folder.make()
    if overwrite:
        folder.clear()
    # Those of an earlier end of the run; this one ends later.
    folder.final.unlink(missing_ok=True)
    lines = [] if overwrite or saved is None else keep_config(folder)
    write_text(folder.config, dump_config(config))
    if saved is not None and origin is None:
        settle(folder, saved.name)
    # A run that was killed between saving and publishing has an older last.safetensors.
    publish(folder)
    return lines
