"""`unidet doctor` on machines that lack one thing or another."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks import needs_jittor
from unidet.backends import kernels, registry
from unidet.cli.main import main
from unidet.doctor import checks, jittor
from unidet.doctor.checks import Row


def row(name: str) -> Row:
    return next(row for row in checks.examine() if row.name == name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for Jittor."""
    monkeypatch.setattr(jittor.environment(), "jittor_home", lambda: tmp_path)
    return tmp_path


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes packages look as if they were not installed."""
    find, version = importlib.util.find_spec, checks.installed_version
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in names else find(name, *rest),
    )
    monkeypatch.setattr(
        checks, "installed_version", lambda name: None if name in names else version(name)
    )


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in registry.available():
        assert name in text.splitlines()[-1]
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["usable_backends"] == list(registry.available())
    assert {"python", "torch", "jittor", "kernel library"} <= {r["name"] for r in report["rows"]}


def test_every_problem_has_a_line_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    hide(monkeypatch, "torch", "lvis", "rich")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    rows = checks.examine()
    assert {row.status for row in rows} == {checks.OK, checks.WARNING, checks.MISSING}
    for found in rows:
        assert bool(found.fix) == (found.status != checks.OK), found
        assert "\n" not in found.fix
        assert found.detail


def test_neither_framework_is_needed_or_imported() -> None:
    """Both are hidden from a process of its own; it ends with status 1 and says how to go on."""
    program = """
import sys, importlib.util, importlib.metadata
find, version = importlib.util.find_spec, importlib.metadata.version
hidden = ("torch", "jittor")
importlib.util.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)
def lookup(name):
    if name in hidden:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = lookup
from unidet.cli.main import main
status = main(["doctor"])
assert not [name for name in hidden if name in sys.modules]
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "pip install 'unidet[torch]'" in done.stdout
    assert "pip install 'unidet[jittor]'" in done.stdout
    assert "none" in done.stdout.splitlines()[-1]


def test_doctor_imports_no_framework() -> None:
    program = """
import sys
from unidet.cli.main import main
status = main(["doctor", "--json"])
assert not [name for name in ("torch", "jittor") if name in sys.modules]
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_jittor
def test_without_a_compiler_jittor_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("cc_path", raising=False)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    rows = checks.examine()
    assert "jittor" not in checks.usable_backends(rows)
    assert row("g++").fix == "apt-get install g++"
    assert ("torch" in checks.usable_backends(rows)) == ("torch" in registry.available())


@needs_jittor
def test_numpy_2_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numpy.__version__", "2.1.0")
    assert row("numpy for jittor").fix == "pip install 'numpy<2'"
    assert "jittor" not in checks.usable_backends(checks.examine())


def test_a_missing_dependency_rules_both_out(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "safetensors")
    rows = checks.examine()
    assert checks.usable_backends(rows) == ()
    assert row("safetensors").fix.startswith("pip install 'safetensors")


def test_old_torch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    version = checks.installed_version
    monkeypatch.setattr(
        checks, "installed_version", lambda n: "2.3.1+cpu" if n == "torch" else version(n)
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    (found,) = checks._torch()
    assert (found.status, found.detail) == (checks.MISSING, "2.3.1+cpu")


def test_kernels_turned_off_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "0")
    assert row("kernel library").fix == f"unset {kernels.ENVIRONMENT_VARIABLE}"
    monkeypatch.delenv(kernels.ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setattr(kernels, "library_path", lambda: None)
    assert row("kernel library").status == checks.WARNING
    assert "pip install" in row("kernel library").fix


def test_an_unknown_backend_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, "tensorflow")
    assert row(registry.ENVIRONMENT_VARIABLE).status == checks.WARNING


def findings() -> dict[str, jittor.Finding]:
    return {finding[0]: finding for finding in jittor.findings()}


def test_onednn_absent_placeable_placed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = home / "prefix"
    monkeypatch.setattr(sys, "prefix", str(prefix))
    _, status, _, fix, needed = findings()["oneDNN"]
    assert (status, needed) == ("missing", True)
    assert fix.startswith("pip install onednn")
    wheel = prefix / "lib" / "libmkldnn.so"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert findings()["oneDNN"][1] == "ok"
    placed = home / ".cache/jittor/mkl" / jittor.environment().ONEDNN_FOLDER / "lib"
    placed.mkdir(parents=True)
    (placed / "libmkldnn.so").touch()
    assert str(placed.parent) in findings()["oneDNN"][2]


def test_cache_is_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings()["Jittor cache"][1] == "warning"
    folder = home / ".cache/jittor/jt/gcc" / f"py{platform.python_version()}" / "default"
    (folder / "jit").mkdir(parents=True)
    (folder / "jit" / "one.so").write_bytes(bytes(100))
    (folder / "jit" / "one.cc").write_bytes(bytes(20))
    (folder / "jittor_core.so").write_bytes(bytes(1000))
    contents = jittor.read_cache(jittor.cache_folder())
    assert (contents.size, contents.kernels, contents.core) == (1120, 1, True)
    assert findings()["Jittor cache"][1] == "ok"
    monkeypatch.setattr(jittor, "LARGE_CACHE", 1000)
    assert findings()["Jittor cache"][3].startswith("rm -r ")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert findings()["Jittor cache"][1] == "missing"


def test_a_core_of_another_python_does_not_count(home: Path) -> None:
    folder = home / ".cache/jittor/py2.7.18"
    folder.mkdir(parents=True)
    (folder / "jittor_core.so").touch()
    assert not jittor.read_cache(jittor.cache_folder()).core


def test_held_and_free_locks(home: Path) -> None:
    folder = home / ".cache/jittor"
    folder.mkdir(parents=True)
    lock = folder / "jittor.lock"
    lock.touch()
    assert findings()["Jittor locks"][1] == "ok"
    with open(lock, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert str(lock) in findings()["Jittor locks"][2]
        assert findings()["Jittor locks"][1] == "warning"
    assert findings()["Jittor locks"][1] == "ok"


@pytest.mark.parametrize(
    ("usable", "gpus", "status"),
    [(True, ["/dev/nvidia0"], "ok"), (False, [], "ok"), (False, ["/dev/nvidia0"], "warning")],
)
def test_cuda(usable: bool, gpus: list[str], status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jittor.environment(), "cuda_usable", lambda: usable)
    monkeypatch.setattr(jittor.glob, "glob", lambda pattern: gpus)
    found = jittor._cuda()
    assert found[1] == status
    assert bool(found[3]) == (status == "warning")
