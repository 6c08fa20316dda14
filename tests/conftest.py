"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unidet.backends import available

FRAMEWORKS = available()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=("torch", "jittor"),
        action="append",
        help="run the tests of this backend alone (repeatable)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `backend` runs once for each framework."""
    if "backend" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--backend") or ("torch", "jittor")
        metafunc.parametrize(
            "backend",
            [
                pytest.param(
                    name,
                    marks=()
                    if name in FRAMEWORKS
                    else pytest.mark.skip(reason=f"{name} is not installed"),
                )
                for name in wanted
            ],
        )


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Folder of the sample data sets and golden outputs."""
    value = os.environ.get("UNIDET_TEST_DATA")
    if not value:
        pytest.skip("UNIDET_TEST_DATA is not set: sample data and golden outputs are not here")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"UNIDET_TEST_DATA is not a folder: {value}")
    return path


@pytest.fixture
def both() -> None:
    """Skips where either framework is missing."""
    if len(FRAMEWORKS) < 2:
        pytest.skip(f"needs torch and jittor, found {', '.join(FRAMEWORKS) or 'neither'}")
