"""What Jittor needs beside itself: oneDNN, CUDA or none, and a cache for compiled kernels."""

from __future__ import annotations

import fcntl
import functools
import glob
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from unidet.backends import registry

#: name, status, detail, the line that mends it, whether Jittor cannot do without.
Finding = tuple[str, str, str, str, bool]

#: Room that the core and the kernels of a few models take.
ROOM_NEEDED = 3 * 2**30
#: Beyond this the cache mostly holds kernels of code that has changed since.
LARGE_CACHE = 20 * 2**30


@functools.cache
def environment() -> ModuleType:
    """The module that prepares the process for Jittor, without importing Jittor.

    It lies in a package whose import is the import of Jittor, so it is loaded from its file.
    """
    path = Path(registry.__file__).with_name("jittor") / "environment.py"
    spec = importlib.util.spec_from_file_location("unidet._jittor_environment", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"Cannot load {path}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cache_folder() -> Path:
    """Where Jittor keeps what it compiles."""
    return environment().jittor_home() / ".cache" / "jittor"


@dataclass(frozen=True)
class CacheContents:
    """Figures of a cache folder.

    Attributes:
        size: bytes of all files.
        kernels: compiled kernels.
        core: whether Jittor's core is compiled for this Python.
        locks: lock files.
    """

    size: int
    kernels: int
    core: bool
    locks: tuple[Path, ...]


def read_cache(folder: Path) -> CacheContents:
    """Counts what lies in a cache folder; an absent one is empty."""
    size, kernels, core, locks = 0, 0, False, []
    # Jittor keeps a folder for each version of Python.
    python = f"{os.sep}py{platform.python_version()}{os.sep}"
    for place, _, names in os.walk(folder):
        inside_jit = Path(place).name == "jit"
        for name in names:
            path = os.path.join(place, name)
            try:
                size += os.lstat(path).st_size
            except OSError:  # another process has just removed it
                continue
            kernels += inside_jit and name.endswith(".so")
            core |= python in path and name.startswith("jittor_core") and name.endswith(".so")
            if name.endswith(".lock"):
                locks.append(Path(path))
    return CacheContents(size, kernels, core, tuple(locks))


def loaded_kernels() -> set[str]:
    """Files of the kernels that this process has loaded, compiled by it or found in the cache.

    Empty where the system does not say (other than Linux) and without Jittor.
    """
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return set()
    files = (line.partition("/")[2] for line in maps.read_text(encoding="utf-8").splitlines())
    return {f"/{name}" for name in files if Path(name).parent.name == "jit" and ".so" in name}


def held(lock: Path) -> bool:
    """Whether a process holds the lock; the kernel frees those of processes that died."""
    try:
        with open(lock, encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def findings() -> Iterator[Finding]:
    """What was found, in the order in which it is printed."""
    yield _onednn()
    yield _cuda()
    yield from _cache()


def _onednn() -> Finding:
    module = environment()
    target = cache_folder() / "mkl" / module.ONEDNN_FOLDER
    if (target / "lib" / "libmkldnn.so").is_file():
        return "oneDNN", "ok", str(target), "", True
    wheels = glob.glob(os.path.join(sys.prefix, "lib", "libmkldnn.so"))
    if wheels:
        return "oneDNN", "ok", "wheels installed; placed when Jittor is first used", "", True
    return "oneDNN", "missing", f"neither in {target} nor as wheels", module.ONEDNN_PIP_LINE, True


def _cuda() -> Finding:
    module = environment()
    compiler = shutil.which("nvcc")
    gpu = bool(glob.glob("/dev/nvidia[0-9]*"))
    if module.cuda_usable():
        return "CUDA for jittor", "ok", f"GPU, {compiler or 'nvcc'}, runtime and cuDNN 8", "", False
    if not gpu:
        detail = f"no GPU; {compiler} is ignored" if compiler else "no GPU and no nvcc"
        return "CUDA for jittor", "ok", f"{detail}: Jittor runs on the CPU", "", False
    version = module.cuda_version() if compiler else None
    if version is not None and version > module.NEWEST_CUDA:
        problem = f"Jittor does not compile with CUDA {version}"
    else:
        missing = "its runtime (libcudart) or cuDNN 8" if compiler else "nvcc"
        problem = f"{missing} is missing"
    return (
        "CUDA for jittor",
        "warning",
        f"a GPU, but {problem}: Jittor runs on the CPU",
        f"install the CUDA toolkit, {module.NEWEST_CUDA} at most, with libcudart and cuDNN 8, and "
        "put its nvcc on the path",
        False,
    )


def _cache() -> Iterator[Finding]:
    folder = cache_folder()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        line = "export JITTOR_HOME=/a/folder/you/may/write"
        yield "Jittor cache", "missing", f"{nearest} is not writable", line, True
        return
    contents = read_cache(folder)
    size = f"{contents.size / 2**30:.1f} GiB, {contents.kernels} kernels at {folder}"
    if not contents.core:
        line = "unidet warmup --backend jittor"
        yield "Jittor cache", "warning", f"core not compiled yet; {size}", line, False
    elif contents.size > LARGE_CACHE:
        yield "Jittor cache", "warning", f"large: {size}", f"rm -r {folder}", False
    else:
        yield "Jittor cache", "ok", size, "", False
    free = shutil.disk_usage(nearest).free
    if free < ROOM_NEEDED:
        detail = f"{free / 2**30:.1f} GiB free for compiled kernels"
        yield "disk", "warning", detail, f"free some space on the disk of {folder}", False
    busy = [str(lock) for lock in contents.locks if held(lock)]
    if busy:
        line = f"wait for the process that compiles, or end it: fuser {busy[0]}"
        yield "Jittor locks", "warning", f"held: {', '.join(busy)}", line, False
    else:
        yield "Jittor locks", "ok", f"{len(contents.locks)} lock files, none held", "", False
