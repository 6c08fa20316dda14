"""Jittor's kernels compile from precompiled headers and past its Python process."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.frameworks import needs_jittor

pytestmark = needs_jittor


@pytest.fixture
def jt() -> Any:
    from unidet.backends.jittor import jt

    return jt


def fake(folder: Path, **changes: Any) -> Any:
    flags = {
        "cc_type": "g++",
        "cc_path": "g++",
        "cc_flags": "-O1 -shared -lm",
        "cache_path": str(folder),
        "python_path": "python3",
    }
    has_cuda = changes.pop("has_cuda", False)
    return SimpleNamespace(flags=SimpleNamespace(**{**flags, **changes}), has_cuda=has_cuda)


def test_gcc_takes_the_headers(jt: Any, tmp_path: Path) -> None:
    """A kernel like Jittor's own; GCC warns where it cannot use what was compiled ahead."""
    flags = jt.flags
    if flags.cc_type != "g++" or jt.has_cuda:
        pytest.skip("kernels are not compiled by GCC")
    header = Path(flags.cache_path) / "precompiled" / "kernel.h"
    assert f'-include "{header}"' in flags.cc_flags and header.with_suffix(".h.gch").is_file()
    source = tmp_path / "one_op.cc"
    source.write_text('#define JIT 1\n#define JIT_cpu 1\n#include "var.h"\nint one() {return 1;}\n')
    words = [w for w in shlex.split(flags.cc_flags) if not w.startswith("-l")]
    line = [flags.cc_path, str(source), *words, "-Winvalid-pch", "-H", "-o", str(tmp_path / "x.so")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert f"! {header}.gch" in done.stderr
    assert "Winvalid-pch" not in done.stderr


def test_a_new_kernel_goes_through_the_script(jt: Any) -> None:
    """Of a constant that no other test has: compiled now."""
    x = jt.array(np.arange(5, dtype=np.float32))
    code = f"for (int i = 0; i < 5; i++) @out(i) = @in0(i) + {np.random.default_rng().random()};"
    y = jt.code(x.shape, x.dtype, [x], cpu_src=code.replace("@out", "@out0"))
    assert 0 <= float(y.numpy()[0]) < 1
    assert jt.flags.python_path.startswith("sh ") or jt.has_cuda


def test_marked_kernels_keep_jittors_tuner(tmp_path: Path) -> None:
    from unidet.backends.jittor import compiling

    jittor = fake(tmp_path, python_path="echo")
    compiling.prepare(jittor)
    marked, plain = tmp_path / "a_op.cc", tmp_path / "b_op.cc"
    marked.write_text('//@begin replace "a" "b"\n')
    plain.write_text("")
    found = [
        subprocess.run(
            f'{jittor.flags.python_path} tuner.py --cc_path="echo" "{source}" "-DA=\\"b c\\""',
            **{"shell": True, "capture_output": True, "text": True, "check": True},
        ).stdout
        for source in (marked, plain)
    ]
    assert found[0] == f'tuner.py --cc_path=echo {marked} -DA="b c"\n'
    assert found[1] == f'{plain} -DA="b c"\n'


@pytest.mark.parametrize("change", [{"cc_type": "clang"}, {"has_cuda": True}, {}])
def test_other_compilers_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    from unidet.backends.jittor import compiling

    if not change:
        monkeypatch.setenv(compiling.VARIABLE, "0")
    jittor = fake(tmp_path, **change)
    compiling.prepare(jittor)
    assert vars(jittor.flags) == vars(fake(tmp_path, **change).flags)
    assert not list(tmp_path.iterdir())


def test_headers_that_do_not_compile_are_not_asked_for(tmp_path: Path) -> None:
    """Here they are not on the path of the compiler."""
    from unidet.backends.jittor import compiling

    jittor = fake(tmp_path)
    compiling.prepare(jittor)
    assert jittor.flags.cc_flags == "-O1 -shared -lm"
    assert jittor.flags.python_path.startswith("sh ")
    assert not list(tmp_path.rglob("*.gch"))


def test_other_flags_compile_the_headers_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unidet.backends.jittor import compiling

    monkeypatch.setattr(compiling, "_HEADER", "#include <cmath>\n")
    made = tmp_path / "precompiled" / "kernel.h.gch"
    times = []
    for flags in ("-O1", "-O1", "-O2"):
        jittor = fake(tmp_path, cc_flags=flags)
        compiling.prepare(jittor)
        assert jittor.flags.cc_flags.startswith(f"{flags} -include")
        times.append(made.stat().st_mtime_ns)
    assert times[0] == times[1] < times[2]
