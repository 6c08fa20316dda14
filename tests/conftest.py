"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    parser.addoption(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where tensors and models are made; cuda is for cuda, golden, kernels, losses, "
        "models, nn and ops",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the GPU the default device of the frameworks that have it."""
    if config.getoption("--device") == "cuda":
        if "torch" in FRAMEWORKS:
            import torch

            from unidet.backends.torch.precision import use_full_float32

            use_full_float32()
            torch.set_default_device("cuda")
        if "jittor" in FRAMEWORKS:
            from unidet.backends.jittor import jt

            jt.flags.use_cuda = int(bool(jt.has_cuda))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks as slow what is so on one backend; leaves out what a GPU cannot show."""
    for item in items:
        marker = item.get_closest_marker("slow_on")
        chosen = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if marker and chosen in marker.args:
            item.add_marker("slow")
    if config.getoption("--device") == "cuda":
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="of CPUs alone"))


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


@pytest.fixture(autouse=True)
def _environment_is_left_alone() -> Iterator[None]:
    """Fails a test that leaves a variable of ours changed: later tests' processes would see it."""

    def ours() -> dict[str, str]:
        return {name: text for name, text in os.environ.items() if name.startswith("UNIDET_")}

    before = ours()
    yield
    after = ours()
    if after != before:
        for name in before.keys() | after.keys():
            os.environ.pop(name, None)
        os.environ.update(before)
        pytest.fail(f"left changed: {sorted(dict(before.items() ^ after.items()))}")


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
