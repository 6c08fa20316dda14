"""Makes the toy detector importable by tests and by the processes they start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the scenes of all runs are kept."""
    import toy

    toy.register()
    return tmp_path_factory.mktemp("scenes")
