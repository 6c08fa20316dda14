"""What a process keeps in memory once a framework is loaded: large blocks, prepared shapes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.frameworks import needs_jittor, needs_torch

#: glibc marks a block that is mapped by itself in the size before it. By itself it would take the
#: second block from its heap, because the first, larger one was freed.
BLOCK = """
import ctypes
from unidet.backends.jittor import jt
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(20 << 20))
block = libc.malloc(6 << 20)
print(bool(ctypes.c_size_t.from_address(block - 8).value & 2))
"""
#: oneDNN and PyTorch read them themselves.
SHAPES = """
import os
import unidet.backends.torch
print(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], os.environ["LRU_CACHE_CAPACITY"])
"""


def last_line(code: str, wishes: dict[str, str]) -> str:
    """What a fresh process prints last where the user has set ``wishes`` alone."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and not name.endswith("_CACHE_CAPACITY")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **wishes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@needs_jittor
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
@pytest.mark.parametrize(
    ("wishes", "mapped"), [({}, True), ({"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}, False)]
)
def test_large_blocks_are_mapped_unless_the_user_wants_otherwise(
    wishes: dict[str, str], mapped: bool
) -> None:
    assert last_line(BLOCK, wishes) == str(mapped)


@needs_torch
@pytest.mark.parametrize(
    ("wishes", "kept"), [({}, "320 64"), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7 64")]
)
def test_few_shapes_are_kept_unless_the_user_wants_otherwise(
    wishes: dict[str, str], kept: str
) -> None:
    assert last_line(SHAPES, wishes) == kept
