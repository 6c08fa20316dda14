"""Makes ``import jittor`` work, quietly and without a network, whatever the machine holds.

Jittor compiles its core on the first import and configures itself through environment variables.
Left alone, that import crashes where ``nvcc`` lies on the path without a usable GPU, downloads
oneDNN, reseeds NumPy and ``random``, turns off the verification of HTTPS certificates and lifts
Python's recursion limit. :func:`load` does the import once and undoes all of that.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import faulthandler
import fcntl
import glob
import importlib
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import ssl
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from unidet.backends.registry import BackendNotAvailableError

#: Prints Jittor's own start-up log when set to anything but "0".
VERBOSE_VARIABLE = "UNIDET_JITTOR_VERBOSE"
#: "1" or "0" overrides the search for a usable CUDA toolkit.
CUDA_VARIABLE = "UNIDET_JITTOR_CUDA"
#: Newest toolkit that Jittor's sources compile with: 13 took members of cudaDeviceProp away.
NEWEST_CUDA = 12

ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"
ONEDNN_LIBRARY = re.compile(r"lib(dnnl|mkldnn)\.so")
ONEDNN_PIP_LINE = "pip install onednn-cpu-gomp==2021.2.0 onednn-devel-cpu-gomp==2021.2.0"

#: The core is glue around kernels: -O1 compiles faster than Jittor's -O2 and runs as fast.
CORE_FLAGS = " -O1 "
#: What -Ofast allows, but NaN and infinity keep their meaning. The parts are named one by one:
#: given -Ofast or -ffast-math, gcc also links start-up code that makes the whole process flush
#: denormal numbers to zero, NumPy's and PyTorch's as well. Without -ffast-math the compiler does
#: not announce __FAST_MATH__, which is what makes glibc declare its vector exp, log and pow.
KERNEL_FLAGS = (
    " -O3 -fno-math-errno -fno-signed-zeros -fno-trapping-math -fassociative-math"
    " -freciprocal-math -fno-rounding-math -fexcess-precision=fast -D__FAST_MATH__ "
)


def load() -> ModuleType:
    """Prepares the environment, imports Jittor and returns it. Later calls are free.

    Raises:
        BackendNotAvailableError: Jittor, a compiler, Python's headers or oneDNN is missing, or
            Jittor's cache is damaged; the message says what mends it.
    """
    if "jittor" in sys.modules:
        return sys.modules["jittor"]
    prepare()
    with _globals_restored():
        with _config_restored():
            importlib.import_module("jittor_utils")
        with _announced():
            module = _import_jittor()
    importlib.import_module("unidet.backends.jittor.compiling").prepare(module)
    importlib.import_module("unidet.backends.jittor.memory").prepare()
    return module


def prepare() -> None:
    """Sets the environment variables and files that the import of Jittor reads.

    Variables that the user has set keep their value.
    """
    _check_build_tools()
    defaults = {
        "log_silent": "0" if os.environ.get(VERBOSE_VARIABLE, "0") != "0" else "1",
        # Jittor would take the name from the git branch that happens to surround site-packages.
        # Our own, since scripts that import Jittor with other flags would rebuild its core.
        "cache_name": "unidet",
        # Otherwise Jittor imports torch, needed or not.
        "FIX_TORCH_ERROR": "0",
        "cc_flags": CORE_FLAGS,
        "kernel_flags": KERNEL_FLAGS,
    }
    if not cuda_usable():
        defaults["nvcc_path"] = ""
    config = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}-config")
    if config.is_file():
        defaults["python_config_path"] = str(config)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if sys.platform == "linux" and os.environ.get("use_mkl", "1") == "1":  # noqa: SIM112
        place_onednn(jittor_home())


def jittor_home() -> Path:
    """The folder that holds ``.cache/jittor``, found as Jittor finds it."""
    config = Path.home() / ".cache" / "jittor" / "config.json"
    recorded = {}
    with contextlib.suppress(OSError, json.JSONDecodeError):
        recorded = json.loads(config.read_text(encoding="utf-8"))
    chosen = os.environ.get("JITTOR_HOME") or recorded.get("JITTOR_HOME") or Path.home()
    return Path(chosen).absolute()


def cuda_usable() -> bool:
    """Whether Jittor may build for CUDA: GPU, ``nvcc`` up to 12, its runtime, cuDNN 8 are there.

    ``UNIDET_JITTOR_CUDA=1`` or ``0`` overrides the answer.
    """
    override = os.environ.get(CUDA_VARIABLE)
    if override in ("0", "1"):
        return override == "1"
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not glob.glob("/dev/nvidia[0-9]*") or not os.path.isfile(nvcc):
        return False
    if (cuda_version() or 0) > NEWEST_CUDA:
        return False
    roots = [Path(nvcc).resolve().parent.parent, Path("/usr/local/cuda")]
    runtime = [str(root / "lib64" / "libcudart.so") for root in roots]
    return _loads("cudart", runtime) and _loads("cudnn", ["libcudnn_ops_infer.so.8"])


def cuda_version() -> int | None:
    """Major version of the toolkit that ``nvcc`` belongs to, by the file it comes with."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    record = Path(nvcc).resolve().parent.parent / "version.json"
    try:
        text = json.loads(record.read_text(encoding="utf-8"))["cuda"]["version"]
        return int(text.split(".")[0])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def place_onednn(home: Path) -> Path:
    """Puts the oneDNN of the installed wheels where Jittor looks, and returns that folder.

    Safe with other processes that do the same: the folder appears by one rename.

    Raises:
        BackendNotAvailableError: it is not there and the wheels are not installed.
    """
    target = home / ".cache" / "jittor" / "mkl" / ONEDNN_FOLDER
    if _holds_onednn(target):
        return target
    libraries = [p for p in Path(sys.prefix, "lib").iterdir() if ONEDNN_LIBRARY.match(p.name)]
    include = Path(sys.prefix, "include")
    headers = [*include.glob("*dnn*"), *include.glob("oneapi")]
    if not any(path.name == "libmkldnn.so" for path in libraries) or not headers:
        raise BackendNotAvailableError(
            f"Jittor needs oneDNN and {target} does not hold it. Install it: {ONEDNN_PIP_LINE}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / "unidet.lock"):
        if _holds_onednn(target):
            return target
        # Not named dnnl*: Jittor takes the first folder of that name.
        building = target.parent / f"building_{os.getpid()}"
        for folder, files in (("lib", libraries), ("include", headers)):
            (building / folder).mkdir(parents=True, exist_ok=True)
            for path in files:
                _copy(path, building / folder / path.name)
        # A dangling or half-made folder of an earlier run gives way.
        shutil.rmtree(target, ignore_errors=True)
        building.rename(target)
    return target


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on ``path``; the kernel frees it if the process dies."""
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _holds_onednn(folder: Path) -> bool:
    # What Jittor tests for, and the last header that its own sources reach.
    files = ("lib/libmkldnn.so", "include/mkldnn.hpp", "include/oneapi/dnnl/dnnl.hpp")
    return all((folder / name).is_file() for name in files)


def _copy(source: Path, target: Path) -> None:
    # Copies, not links to the wheel: the cache outlives the virtual environment.
    if source.is_symlink() and os.sep not in os.readlink(source):
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def _loads(name: str, candidates: list[str]) -> bool:
    for candidate in [*candidates, ctypes.util.find_library(name)]:
        if candidate:
            with contextlib.suppress(OSError):
                ctypes.CDLL(candidate)
                return True
    return False


def _check_build_tools() -> None:
    if importlib.util.find_spec("jittor") is None:
        raise BackendNotAvailableError(
            "Jittor is not installed. Install it: pip install 'unidet[jittor]'."
        )
    if not os.environ.get("cc_path") and shutil.which("g++") is None:  # noqa: SIM112
        raise BackendNotAvailableError(
            "Jittor needs a C++ compiler and g++ is not on the path. Install it: "
            "apt-get install g++ (or set the environment variable cc_path)."
        )
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        raise BackendNotAvailableError(
            f"Jittor needs Python's headers and {header} does not exist. Install them: "
            f"apt-get install python3.{sys.version_info.minor}-dev."
        )


@contextlib.contextmanager
def _globals_restored() -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), random.getstate()
    handlers = {number: signal.getsignal(number) for number in _taken_signals()}
    https_context = ssl._create_default_https_context
    recursion_limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        ssl._create_default_https_context = https_context
        sys.setrecursionlimit(recursion_limit)
        # Only the main thread may set handlers, and only those that Python knows can be put back.
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:
                    signal.signal(number, handler)


def _taken_signals() -> tuple[signal.Signals, ...]:
    """Signals whose handling Jittor replaces.

    With its handler for SIGCHLD, a killed child ends the whole process with status 1 and without a
    word; with the others, a crash looks like an ordinary exit.
    """
    crashes = (signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL)
    # faulthandler's own handlers cannot be read back; Jittor's tell at least as much as none.
    kept = () if faulthandler.is_enabled() else crashes
    return (signal.SIGCHLD, signal.SIGQUIT, *kept)


@contextlib.contextmanager
def _config_restored() -> Iterator[None]:
    # Jittor writes JITTOR_HOME into the user's config, where it would rule runs without it.
    folder = Path.home() / ".cache" / "jittor"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    with locked(folder / "unidet.lock"):
        before = config.read_bytes() if config.is_file() else None
        try:
            yield
        finally:
            after = config.read_bytes() if config.is_file() else None
            if before is None and after is not None:
                config.unlink()
            elif before is not None and before != after:
                config.write_bytes(before)


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    """Says on stderr why the import takes minutes, where it does."""
    cache = Path(sys.modules["jittor_utils"].cache_path)
    lock = cache.parent / "jittor.lock"
    with open(lock, "a", encoding="utf-8") as handle:
        # Another process that compiles one kernel holds the lock for a second or two.
        deadline = time.monotonic() + 5
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    _say(f"waiting for another process that compiles Jittor (lock {lock}).")
                    break
                time.sleep(0.1)
    if not list(cache.glob("jittor_core*.so")):
        _say(f"Jittor compiles its core once, which takes some minutes (cache {cache}).")
    yield


def _say(message: str) -> None:
    print(f"unidet: {message}", file=sys.stderr, flush=True)


def _import_jittor() -> ModuleType:
    try:
        return importlib.import_module("jittor")
    except (Exception, SystemExit) as error:
        for name in [n for n in sys.modules if n == "jittor" or n.startswith("jittor.")]:
            del sys.modules[name]
        cache = sys.modules["jittor_utils"].cache_path
        if isinstance(error, SystemExit):
            raise BackendNotAvailableError(
                "Jittor has rebuilt a part of itself that this process had loaded before, because "
                "its compiler flags changed. Run the same command again."
            ) from error
        reason = (str(error).strip().splitlines() or [""])[0]
        raise BackendNotAvailableError(
            f"Jittor could not be imported: {type(error).__name__}: {reason}. If its cache is "
            f"damaged, delete {cache} and run again; {VERBOSE_VARIABLE}=1 shows its log."
        ) from error
