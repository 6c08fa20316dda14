"""The harness itself notices what it is there for."""

from __future__ import annotations

import time

import pytest
from hypothesis import strategies as st

from tests.fuzz.harness import Defect, bounded, fuzz
from unidet.errors import UserError


def test_errors_time_and_memory_are_noticed() -> None:
    with bounded():
        raise UserError("Invalid value for `x`. Expected 1. Received 2.")
    with pytest.raises(Defect, match="KeyError"), bounded():
        raise KeyError("x")
    with pytest.raises(Defect, match="longer"), bounded(seconds=0.1):
        time.sleep(2)
    with pytest.raises(Defect, match="MB"), bounded(megabytes=20):
        bytearray(b"x") * 60_000_000
    with pytest.raises(Defect, match="no clear line"), bounded():
        raise UserError("")


@fuzz(st.integers(), quick=50, full=200)
def test_cases_are_drawn(case: int) -> None:
    assert isinstance(case, int)
