"""What a source archive and the wheel built from it hold, and that the wheel works."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"backends": "unidet/backends", "weights_convert": "unidet/weights_convert",
          "configs": "unidet/configs", "unidet": "unidet"}  # fmt: skip

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("setuptools", "wheel", "build")),
    reason="needs setuptools, wheel and build: pip install 'unidet[dev]'",
)


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from the source archive of a clean copy."""
    place = tmp_path_factory.mktemp("packaging")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "Makefile",
                 "constraints.txt"):  # fmt: skip
        shutil.copy(ROOT / name, source)
    leave_out = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "build")
    for name in MAPPED:
        shutil.copytree(ROOT / name, source / name, ignore=leave_out)
    python = sys.executable
    run(python, "-m", "build", "--sdist", "--no-isolation", "-o", str(place), cwd=source)
    (archive,) = place.glob("*.tar.gz")
    run(python, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "-w", str(place), str(archive), cwd=place)  # fmt: skip
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_only_package_is_unidet(names: list[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"unidet"}


def test_every_module_is_there(names: list[str]) -> None:
    """A folder without `__init__.py` would be left out without a word."""
    expected = {
        str(Path(target, path.relative_to(ROOT / folder)))
        for folder, target in MAPPED.items()
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert expected - set(names) == set()


def test_configs_marker_and_licence_are_there(names: list[str]) -> None:
    configs = {
        f"unidet/configs/{path.relative_to(ROOT / 'configs')}"
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert configs - set(names) == set()
    assert "unidet/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_kernels_are_there_and_their_source_is_not(names: list[str]) -> None:
    built = [name for name in names if name.startswith("unidet/backends/kernels/_kernels")]
    assert len(built) == 1
    assert not [name for name in names if name.endswith((".cpp", ".h"))]
    assert not [name for name in names if "test" in name.split("/")]


def test_the_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    program = """
import numpy as np, unidet
from unidet.backends import kernels
assert kernels.available(), kernels.library_path()
boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
assert kernels.nms(boxes, np.float32([.5, .6, .1]), .5).tolist() == [1, 2]
print(unidet.__file__, kernels.library_path())
"""
    places = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(target)).split()
    assert all(place.startswith(str(target)) for place in places)


def test_a_machine_without_a_compiler_can_install(tmp_path: Path) -> None:
    """The kernels are left out, with the NumPy forms in their place."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    leave_out = shutil.ignore_patterns("__pycache__", "*.so")
    for name in MAPPED:
        shutil.copytree(ROOT / name, source / name, ignore=leave_out)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "-w", str(tmp_path), str(source), cwd=tmp_path, CC="missing", CXX="missing")  # fmt: skip
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        assert not [name for name in archive.namelist() if "_kernels." in name]
        archive.extractall(tmp_path / "site")
    program = """
import numpy as np
from unidet.backends import kernels
assert not kernels.available()
assert kernels.nms(np.float32([[0, 0, 1, 1], [0, 0, 1, 1]]), np.float32([1, 2]), .5).tolist() == [1]
"""
    run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))


SCRIPT = """
from typing_extensions import assert_type

import unidet
from unidet.models import DetectionModel
from unidet.models.retinanet import RetinaNet

detector = unidet.Detector("best.safetensors", backend="torch")
assert_type(detector("photo.jpg"), unidet.Detections)
assert_type(detector(["a.jpg", "b.jpg"]), list[unidet.Detections])
assert_type(unidet.create_model("retinanet_r18_fpn", num_classes=3), DetectionModel)
model = RetinaNet(num_classes=3, depth=18, backend="torch")
assert_type(model, RetinaNet)
print(model.losses({}, [])["loss_cls"], detector("photo.jpg").scores)
"""
WRONG = "import unidet\nunidet.models.retinanet.RetinaNet(num_clases=3)\n"


@pytest.mark.parametrize("installed", ["editable", "wheel"])
def test_type_checkers_follow(installed: str, tmp_path: Path, request: Any) -> None:
    """A user's script and the example are clean in mypy's and pyright's eyes."""
    pytest.importorskip("mypy")
    python = sys.executable
    if installed == "wheel":
        run(python, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
        python = str(tmp_path / "venv/bin/python")
        (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
        with zipfile.ZipFile(request.getfixturevalue("wheel")) as archive:
            archive.extractall(site)
        # NumPy's types, without the editable install beside them.
        (site / "numpy").symlink_to(Path(np.__file__).parent)
    shutil.copytree(ROOT / "examples/fcos/unidet_fcos", tmp_path / "unidet_fcos")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG.replace("unidet\n", "unidet.models.retinanet\n", 1))
    options = ["--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", "--python-executable", python, *options]
    run(*command, "script.py", "unidet_fcos", cwd=tmp_path)
    with pytest.raises(AssertionError, match='"num_clases"'):
        run(*command, "wrong.py", cwd=tmp_path)
    if installed == "editable" and shutil.which("pyright"):
        run("pyright", "--pythonpath", sys.executable, "script.py", "unidet_fcos", cwd=tmp_path)
