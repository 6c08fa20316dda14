"""Kernels that compile in a fifth of the time.

Jittor parses some 60,000 lines of headers for every kernel, and compiles to assembly inside a
Python process of its own, with debug information, to edit the few kernels that are marked. Here the
headers are compiled once, and a kernel without a mark goes to the compiler at once.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

#: "0" compiles as Jittor does by itself.
VARIABLE = "UNIDET_JITTOR_PRECOMPILED"

_HEADER = """\
#define JIT 1
#define JIT_cpu 1
#include <algorithm>
#include <cmath>
#include "var.h"
#include "op.h"
#include "fused_op.h"
#include "ops/op_register.h"
"""

#: Takes what Jittor gives to Python: its tuner, --cc_path=COMPILER, SOURCE and flags.
_COMPILE = """\
#!/bin/sh
# Edits the assembly of a kernel that is marked, as Jittor does; compiles the others at once.
tuner=$1
compiler=${2#--cc_path=}
if grep -q '@begin' "$3"; then
    exec PYTHON "$@"
fi
shift 2
exec "$compiler" "$@"
"""


def prepare(jittor: ModuleType) -> None:
    """Points a loaded Jittor at the compiled headers and past its Python process.

    Leaves everything as it is where the compiler is not GCC and where kernels go to CUDA. Headers
    that do not compile are not asked for.
    """
    # Not above: that module imports Jittor through this one.
    from unidet.backends.jittor.environment import locked

    flags = jittor.flags
    if os.environ.get(VARIABLE) == "0" or flags.cc_type != "g++" or jittor.has_cuda:
        return
    folder = Path(flags.cache_path) / "precompiled"
    folder.mkdir(parents=True, exist_ok=True)
    script, header = folder / "compile.sh", folder / "kernel.h"
    with locked(folder / "lock"):
        _write(script, _COMPILE.replace("PYTHON", shlex.quote(flags.python_path)))
        ready = _precompiled(header, flags.cc_path, flags.cc_flags)
    flags.python_path = f'sh "{script}"'
    if ready:
        flags.cc_flags = f'{flags.cc_flags} -include "{header}" '


def _precompiled(header: Path, compiler: str, flags: str) -> bool:
    """Compiles the header unless it is there for the same flags."""
    words = [w for w in shlex.split(flags) if not w.startswith(("-l", "-L")) and w != "-shared"]
    record, made = header.with_suffix(".flags"), header.with_suffix(".h.gch")
    command = shlex.join([compiler, *words])
    if made.is_file() and header.is_file() and record.is_file() and record.read_text() == command:
        return True
    record.unlink(missing_ok=True)
    _write(header, _HEADER)
    building = header.with_suffix(f".{os.getpid()}.gch")
    line = [compiler, "-x", "c++-header", *words, str(header), "-o", str(building)]
    done = subprocess.run(line, capture_output=True, check=False)
    if done.returncode or not building.is_file():
        building.unlink(missing_ok=True)
        return False
    building.replace(made)
    _write(record, command)
    return True


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    building = path.with_name(f"{path.name}.{os.getpid()}")
    building.write_text(text, encoding="utf-8")
    building.replace(path)
