"""Steps that build on one another: which have to run, and running them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unidet.errors import RunFailedError, UserError, suggestion
from unidet.runs.recipe.ledger import Ledger, digest_of


@dataclass(frozen=True)
class Step:
    """One part of a recipe.

    Attributes:
        name: by which it is chosen.
        needs: steps whose outputs it reads.
        settings: what it depends on, in JSON's types.
        files: from outside that it reads.
        outputs: files and folders that it leaves.
        work: does it; the argument says whether an interrupted attempt may be gone on with.
        note: what it does, in a few words.
    """

    name: str
    needs: tuple[str, ...]
    settings: Any
    files: tuple[Path, ...]
    outputs: tuple[Path, ...]
    work: Callable[[bool], None] = field(compare=False)
    note: str = ""


@dataclass(frozen=True)
class Planned:
    """A step with the reason why it runs; empty where it is done already."""

    step: Step
    reason: str


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
    steps: Sequence[Step], chosen: Sequence[Step], ledger: Ledger, *, overwrite: bool = False
) -> Iterator[Planned]:
    """The chosen steps, each looked at when its turn comes.

    Args:
        steps: all.
        chosen: some of them, of :func:`choose`.
        ledger: of the work dir.
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
        reason = ledger.state(need.name, inputs_of(need))
        if reason:
            raise _missing(heirs[0], need.name, ledger, reason)
    for step in chosen:
        for other in step.needs:
            before = [name for name in again if other in behind(steps, name)]
            if other not in names and before:
                raise _missing(step.name, other, ledger, f"{before[0]} runs, on which it builds")
        rerun = next((name for name in step.needs if name in again), None)
        reason = ledger.state(step.name, inputs_of(step))
        if rerun:
            reason = f"{rerun} runs"
        elif overwrite:
            reason = reason or "asked for"
        if reason:
            again.append(step.name)
        yield Planned(step, reason)


def _missing(step: str, need: str, ledger: Ledger, reason: str) -> UserError:
    return UserError(
        f"Missing step {need} in {ledger.root}, which {step} needs. Expected it done. "
        f"Received: {reason}. Run it too, or leave out --only and --from."
    )


def inputs_of(step: Step) -> str:
    """What the ledger compares."""
    return digest_of(step.settings, step.files)


def run_steps(
    steps: Sequence[Step],
    chosen: Sequence[Step],
    ledger: Ledger,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Runs what has to run.

    Args:
        steps, chosen, ledger, overwrite: see :func:`plan`.
        say: takes one line at a time.

    Returns:
        Names of the steps that ran.

    Raises:
        UserError: see :func:`plan`, bad input of a step, or files that no step of this work dir
            has written stand where one would write.
        RunFailedError: a step did not leave what it should, or see the step.
    """
    for step in chosen:
        strange = next((path for path in step.outputs if path.exists()), None)
        if strange and not ledger.known(step.name) and not overwrite:
            raise UserError(
                f"File exists: {strange}, which no recipe in {ledger.root} has written. Choose "
                "another work dir or pass --overwrite."
            )
    ran = []
    for planned in plan(steps, chosen, ledger, overwrite=overwrite):
        step = planned.step
        if not planned.reason:
            say(f"{step.name}: done already")
            continue
        say(f"{step.name}: {step.note} ({planned.reason})")
        inputs = inputs_of(step)
        resume = planned.reason == "interrupted" and not overwrite
        ledger.begin(step.name, inputs, behind(steps, step.name))
        started = time.perf_counter()
        step.work(resume)
        for path in step.outputs:
            if not path.exists():
                raise RunFailedError(f"Step {step.name} left no {path}.")
        seconds = time.perf_counter() - started
        ledger.end(step.name, step.outputs, seconds)
        say(f"{step.name}: done in {seconds:.0f} s")
        ran.append(step.name)
    return ran
