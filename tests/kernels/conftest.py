"""The kernels' tests run with the compiled library and with the NumPy forms."""

from __future__ import annotations

import pytest

from unidet.backends import kernels


@pytest.fixture(params=["compiled", "numpy"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Chooses the compiled library or its replacement."""
    if request.param == "numpy":
        monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "0")
        assert not kernels.available()
    elif not kernels.available():
        pytest.skip("the compiled kernel library is not installed")
    return request.param
