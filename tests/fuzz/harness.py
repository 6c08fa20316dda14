"""Runs a reader on mutated input: accepted or refused in one line, within seconds and a gigabyte.

A fuzzer is written as

    @fuzz(mutated_bytes(SEED), full=20_000)
    def test_reader(case: bytes, tmp_path: Path) -> None:
        with bounded():
            read(case)

and becomes two tests: a quick one and a slow one of ``full`` cases. Both are seeded.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from unidet.errors import RunFailedError, UserError

SECONDS = 5.0
MEGABYTES = 1024
QUICK = 150
FULL = 20_000


class TooSlow(BaseException):
    """Outlives ``except Exception`` in the code under test."""


class Defect(AssertionError):
    """An input that was neither accepted nor refused in one line."""


@contextlib.contextmanager
def bounded(
    *refusals: type[Exception], seconds: float = SECONDS, megabytes: int = MEGABYTES
) -> Iterator[None]:
    """A block that may end well or with a ``UserError`` of one line.

    Args:
        refusals: other errors that count as a refusal, such as those that Python code raises for
            bad arguments.
        seconds: the block may take.
        megabytes: by which the block may raise the process's peak of resident memory.

    Raises:
        Defect: any other error, several lines, too slow, too much memory.
    """
    before = _reset_peak()

    def stop(number: int, frame: Any) -> None:
        raise TooSlow

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except TooSlow:
        raise Defect(f"took longer than {seconds} s") from None
    except (UserError, RunFailedError, *refusals) as error:
        text = str(error)
        if not text.strip() or len(text) > 4000 or "Traceback" in text:
            raise Defect(f"no clear line: {text[:500]!r}") from error
    except (Exception, RecursionError) as error:
        raise Defect(f"{type(error).__name__}: {str(error)[:300]}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    grown = _peak() - before
    if grown > megabytes:
        raise Defect(f"took {grown:.0f} MB")


def _reset_peak() -> float:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak()


def _peak() -> float:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def fuzz(
    *strategies: SearchStrategy[Any], quick: int = QUICK, full: int = FULL
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turns ``test(case, ...)`` into a quick and a slow test over drawn cases.

    Args:
        strategies: one for each of the leading parameters; fixtures follow them.
        quick: cases of the quick test.
        full: cases of the slow test.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        names = list(inspect.signature(test).parameters)
        drawn, fixtures = names[: len(strategies)], names[len(strategies) :]

        def run(cases: int, **values: Any) -> None:
            count = int(os.environ.get("UNIDET_FUZZ_CASES", cases))
            body = functools.partial(test, **values)

            @seed(20_261_130)
            @settings(
                max_examples=count,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.explicit, Phase.generate, Phase.shrink),
            )
            @given(**dict(zip(drawn, strategies)))
            def cases_of(**case: Any) -> None:
                try:
                    body(**case)
                except Defect as error:
                    # Hypothesis fails to show a case that is nested too deep.
                    print(f"defect: {error}")
                    raise

            cases_of()

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                for name in ("cases", *fixtures)
            ]
        )
        counts = [
            pytest.param(quick, id=f"{quick}"),
            pytest.param(full, id=f"{full}", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
        ]
        return pytest.mark.parametrize("cases", counts)(run)

    return decorate
