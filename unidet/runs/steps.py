"""Steps that depend on each other: finds the steps that have to run, and runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unidet.engine.checkpointing import find_state
from unidet.errors import RunFailedError, UserError, suggestion
from unidet.runs.record import Record


@dataclass(frozen=True)
class Step:
    """One part of a recipe, or one run of a sweep.

    Attributes:
        name: by which it is chosen and recorded.
        work: does it; the argument says whether an interrupted attempt may be gone on with.
            Returns why it failed where the others go on all the same.
        needs: steps whose outputs it reads.
        settings: what it depends on, in JSON's types.
        files: from outside that it reads.
        outputs: files and folders that it leaves.
        note: what it does, in a few words.
        title: begins what is said of it; the name by default.
    """

    name: str
    work: Callable[[bool], str | None] = field(compare=False)
    needs: tuple[str, ...] = ()
    settings: Any = None
    files: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    note: str = ""
    title: str = ""


def behind(steps: Sequence[Step], name: str) -> list[str]:
    """Names of the steps that build on one, directly or not, in their order."""
    found = {name}
    for step in steps:
        if found & set(step.needs):
            found.add(step.name)
    return [step.name for step in steps if step.name in found and step.name != name]


def choose(steps: Sequence[Step], only: Sequence[str] = (), start: str | None = None) -> list[Step]:
    """The steps that are asked for.

    Args:
        steps: all, each after those that it needs.
        only: names of these alone.
        start: the name of one; it and those that build on it.

    Raises:
        UserError: an unknown name, or both ``only`` and ``start``.
    """
    known = [step.name for step in steps]
    for option, names in (("--only", only), ("--from", [start] if start else [])):
        for name in names:
            if name not in known:
                raise UserError(
                    f"Invalid value for `{option}`. Expected one of {', '.join(known)}. "
                    f"Received {name!r}.{suggestion(name, known)}"
                )
    if only and start:
        raise UserError("Invalid options. Expected --only or --from. Received both.")
    wanted = {start, *behind(steps, start)} if start else set(only or known)
    return [step for step in steps if step.name in wanted]


def plan(
    steps: Sequence[Step], chosen: Sequence[Step], record: Record, *, overwrite: bool = False
) -> Iterator[tuple[Step, str]]:
    """The chosen steps with why they run ("" where they are done), looked at one by one.

    Args:
        steps: all.
        chosen: some of them, of :func:`choose`.
        record: of the work dir.
        overwrite: run the chosen steps even where they are done.

    Raises:
        UserError: a step that is not chosen is not done, and a chosen one builds on it.
    """
    names = {step.name for step in chosen}
    again: list[str] = []
    for need in steps:
        heirs = [name for name in behind(steps, need.name) if name in names]
        if need.name in names or not heirs:
            continue
        reason = record.state(need)
        if reason:
            raise _missing(heirs[0], need.name, record, reason)
    for step in chosen:
        for other in step.needs:
            before = [name for name in again if other in behind(steps, name)]
            if other not in names and before:
                raise _missing(step.name, other, record, f"{before[0]} runs, on which it builds")
        rerun = next((name for name in step.needs if name in again), None)
        reason = record.state(step)
        if rerun:
            reason = f"{rerun} runs"
        elif overwrite:
            reason = reason or "asked for"
        if reason:
            again.append(step.name)
        yield step, reason


def _missing(step: str, need: str, record: Record, reason: str) -> UserError:
    return UserError(
        f"Missing step {need} in {record.root}, which {step} needs. Expected it done. "
        f"Received: {reason}. Run it too, or leave out --only and --from."
    )


def run_steps(
    steps: Sequence[Step],
    chosen: Sequence[Step],
    record: Record,
    *,
    overwrite: bool = False,
    done: str = "done",
    say: Callable[[str], None] = print,
    after: Callable[[], object] = lambda: None,
) -> list[str]:
    """Runs what has to run.

    Args:
        steps, chosen, record, overwrite: see :func:`plan`.
        done: said of a step that need not run.
        say: takes one line at a time.
        after: called after each step that ran, failed or not, or was interrupted.

    Returns:
        Names of the steps that ran.

    Raises:
        UserError: see :func:`plan`, bad input of a step, or files that no step of this work dir
            has written stand where one would write.
        RunFailedError: a step did not leave what it should, or see the step.
    """
    for step in chosen:
        strange = next((path for path in step.outputs if path.exists()), None)
        if strange and step.name not in record.entries and not overwrite:
            raise UserError(
                f"File exists: {strange}, which no recipe in {record.root} has written. Choose "
                "another work dir or pass --overwrite."
            )
    ran = []
    for step, reason in plan(steps, chosen, record, overwrite=overwrite):
        title = step.title or step.name
        if not reason:
            say(f"{title}: {done} already")
            continue
        say(f"{title}: {step.note} ({reason})" if step.note else f"{title}: {reason}")
        record.begin(step, behind(steps, step.name))
        started = time.perf_counter()
        try:
            failure = step.work(reason == "interrupted" and not overwrite) or ""
        except KeyboardInterrupt:
            after()
            raise
        missing = next((path for path in step.outputs if not path.exists()), None)
        if missing and not failure:
            raise RunFailedError(f"Step {step.name} left no {missing}.")
        seconds = time.perf_counter() - started
        record.end(step, failure, seconds)
        say(f"{title}: " + (f"failed: {failure}" if failure else f"done in {seconds:.0f} s"))
        ran.append(step.name)
        after()
    return ran


def resumable(folder: Path) -> bool:
    """Whether a run has saved a state; the first one counts once it is whole."""
    try:
        find_state(folder)
    except UserError:
        return False
    return True
