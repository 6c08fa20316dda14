"""Where the C library keeps large blocks once Jittor is loaded."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.frameworks import needs_jittor

#: glibc marks a block that is mapped by itself in the size before it. By itself it would take the
#: second block from its heap, because the first, larger one was freed.
CODE = """
import ctypes
from unidet.backends.jittor import jt
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(20 << 20))
block = libc.malloc(6 << 20)
print(bool(ctypes.c_size_t.from_address(block - 8).value & 2))
"""


@needs_jittor
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
@pytest.mark.parametrize(("wish", "mapped"), [(None, True), (str(32 << 20), False)])
def test_large_blocks_are_mapped_unless_the_user_wants_otherwise(
    wish: str | None, mapped: bool
) -> None:
    wishes = {} if wish is None else {"MALLOC_MMAP_THRESHOLD_": wish}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environment, **wishes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split()[-1] == str(mapped), done.stderr
