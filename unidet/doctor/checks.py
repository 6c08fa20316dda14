"""Finds out what is installed, what is missing and what would mend it, importing no framework."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from unidet.backends import kernels, registry

OK, WARNING, MISSING = "ok", "warning", "missing"

OLDEST_TORCH = (2, 4)
PYTHON = (3, 10)


@dataclass(frozen=True)
class Row:
    """One finding.

    Attributes:
        name: what was looked at.
        status: "ok", "warning" (works, but not as well as it could) or "missing".
        detail: what was found.
        fix: the one line that mends it, empty where nothing needs mending.
        backends: backends that cannot be used unless this row is not "missing"; empty for what is
            optional.
    """

    name: str
    status: str
    detail: str
    fix: str = ""
    backends: tuple[str, ...] = ()


def examine() -> list[Row]:
    """All findings, in the order in which they are printed."""
    rows: list[Row] = []
    for check in CHECKS:
        rows += check()
    return rows


def usable_backends(rows: list[Row]) -> tuple[str, ...]:
    """Training backends that none of the findings rules out."""
    broken = {name for row in rows if row.status == MISSING for name in row.backends}
    return tuple(name for name in registry.FRAMEWORKS if name not in broken)


def to_json(rows: list[Row]) -> dict[str, object]:
    """The findings as plain data: ``usable_backends`` and ``rows``."""
    return {"usable_backends": list(usable_backends(rows)), "rows": [asdict(row) for row in rows]}


def _python() -> Iterator[Row]:
    version = platform.python_version()
    fits = sys.version_info >= PYTHON
    yield Row(
        "python",
        OK if fits else MISSING,
        f"{version} at {sys.executable}",
        "" if fits else "install Python 3.10 or newer and make a virtual environment with it",
        registry.FRAMEWORKS,
    )


def _dependencies() -> Iterator[Row]:
    """What unidet itself needs, as its metadata list it."""
    try:
        requirements = importlib.metadata.requires("unidet") or []
    except importlib.metadata.PackageNotFoundError:
        yield Row("unidet", WARNING, "runs from a folder and is not installed", "pip install -e .")
        return
    yield Row("unidet", OK, importlib.metadata.version("unidet"))
    for requirement in requirements:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        version = installed_version(name)
        if name == "opencv-python-headless" and version is None:
            version = installed_version("opencv-python")
        missing = version is None
        yield Row(
            name,
            MISSING if missing else OK,
            "not installed" if missing else str(version),
            f"pip install '{requirement}'" if missing else "",
            registry.FRAMEWORKS,
        )


def _kernels() -> Iterator[Row]:
    path = kernels.library_path()
    if kernels.available():
        threads = kernels.max_threads()
        yield Row("kernel library", OK, f"{path}, {threads} OpenMP threads")
    elif os.environ.get(kernels.ENVIRONMENT_VARIABLE) == "0":
        name = kernels.ENVIRONMENT_VARIABLE
        yield Row("kernel library", WARNING, f"turned off by {name}=0", f"unset {name}")
    elif path is None:
        yield Row(
            "kernel library",
            WARNING,
            "not built: NMS runs in NumPy, up to a hundred times slower",
            _rebuild_line(),
        )
    else:
        yield Row(
            "kernel library", WARNING, f"{path} does not load: NMS runs in NumPy", _rebuild_line()
        )


def _rebuild_line() -> str:
    compiler = "" if shutil.which("g++") else "apt-get install g++ libgomp1 && "
    return f"{compiler}pip install --force-reinstall --no-deps --no-cache-dir unidet"


def _torch() -> Iterator[Row]:
    version = installed_version("torch")
    if importlib.util.find_spec("torch") is None or version is None:
        line = "pip install 'unidet[torch]'"
        yield Row("torch", MISSING, "not installed", line, ("torch",))
        return
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    fits = numbers >= OLDEST_TORCH
    line = "" if fits else "pip install --upgrade 'torch>=2.4'"
    yield Row("torch", OK if fits else MISSING, version, line, ("torch",))
    if not version.endswith("+cpu") and importlib.util.find_spec("torchvision") is None:
        yield Row(
            "torchvision",
            WARNING,
            "not installed (optional): NMS of tensors on a GPU goes through the CPU",
            "pip install torchvision",
        )


def _numpy() -> Iterator[Row]:
    # Jittor 1.3 is built against NumPy 1.
    if importlib.util.find_spec("jittor") is None:
        return
    fits = int(np.__version__.partition(".")[0]) < 2
    line = "" if fits else "pip install 'numpy<2'"
    status = OK if fits else MISSING
    yield Row("numpy for jittor", status, np.__version__, line, ("jittor",))


def _compiler() -> Iterator[Row]:
    path = os.environ.get("cc_path") or shutil.which("g++")  # noqa: SIM112 (Jittor's own name)
    if path is None or shutil.which(path) is None:
        line = "apt-get install g++"
        yield Row("g++", MISSING, "not found; Jittor compiles at run time", line, ("jittor",))
        return
    yield Row("g++", OK, f"{_output(path, '-dumpfullversion')} at {path}")
    # An unknown file comes back as the bare name.
    found = os.path.isabs(_output(path, "-print-file-name=libgomp.so"))
    line = "" if found else "apt-get install libgomp1 g++"
    yield Row(
        "OpenMP",
        OK if found else MISSING,
        "libgomp of the compiler" if found else "the compiler has no libgomp",
        line,
        ("jittor",),
    )


def _headers() -> Iterator[Row]:
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    found = os.path.isfile(header)
    line = "" if found else f"apt-get install python3.{sys.version_info.minor}-dev"
    yield Row("Python headers", OK if found else MISSING, header, line, ("jittor",))


def _jittor() -> Iterator[Row]:
    version = installed_version("jittor")
    if importlib.util.find_spec("jittor") is None or version is None:
        line = "pip install 'unidet[jittor]'"
        yield Row("jittor", MISSING, "not installed", line, ("jittor",))
        return
    yield Row("jittor", OK, version, backends=("jittor",))
    from unidet.doctor import jittor

    for name, status, detail, fix, needed in jittor.findings():
        yield Row(name, status, detail, fix, ("jittor",) if needed else ())


def _optional() -> Iterator[Row]:
    launcher = shutil.which("mpirun")
    yield Row(
        "OpenMPI",
        OK if launcher else WARNING,
        launcher or "not found (optional): Jittor trains in one process",
        "" if launcher else "apt-get install openmpi-bin libopenmpi-dev",
    )
    version = installed_version("lvis")
    yield Row(
        "lvis",
        OK if version else WARNING,
        version or "not installed (optional): no evaluation on LVIS",
        "" if version else "pip install lvis",
    )


def _choice() -> Iterator[Row]:
    name = os.environ.get(registry.ENVIRONMENT_VARIABLE)
    if name is None:
        return
    fits = name in registry.available()
    yield Row(
        registry.ENVIRONMENT_VARIABLE,
        OK if fits else WARNING,
        name if fits else f"{name!r} is not an installed backend",
        "" if fits else f"unset {registry.ENVIRONMENT_VARIABLE}",
    )


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


CHECKS: tuple[Callable[[], Iterator[Row]], ...] = (
    _python,
    _dependencies,
    _kernels,
    _torch,
    _jittor,
    _numpy,
    _compiler,
    _headers,
    _choice,
    _optional,
)
