"""The CUDA source of RoIAlign for Jittor, run thread by thread on the host against the judge.

GCC compiles the very text that Jittor would give to nvcc, with a launch that is a loop.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.frameworks import needs_jittor
from tests.kernels.test_roi_align import HEIGHT, SCALE, SETTINGS, WIDTH, regions, weights

pytestmark = [
    needs_jittor,
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++"),
]

_HOST = """\
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#define __device__
#define __global__
struct Dim { int64_t x; };
static Dim blockIdx, blockDim, gridDim, threadIdx;
template <class T> void atomicAdd(T* place, T value) { *place += value; }
inline void cudaMemsetAsync(void* place, int value, size_t size) { memset(place, value, size); }
template <class F> void launch(int64_t blocks, int64_t threads, F run) {
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) run();
}
struct Var { size_t size; };
"""
#: A launch of CUDA: kernel, blocks, threads, arguments.
_LAUNCH = re.compile(r"([\w:]+<[^;<>]*>)<<<(\w+), (\w+)>>>\((.*?)\);", re.DOTALL)
_KINDS = {"float32": "float", "float64": "double"}


def compiled(
    folder: Path, name: str, given: Sequence[np.ndarray], made: Sequence[np.ndarray]
) -> ctypes.CDLL:
    """A library whose ``run`` takes pointers to the inputs, outputs and settings."""
    from unidet.backends.jittor import roi_align_cuda

    body = roi_align_cuda.SOURCES[name](len(given) - 3 if name == "roi_align" else len(made))
    body, launches = _LAUNCH.subn(r"launch(\2, \3, [&] { \1(\4); });", body)
    assert launches == max(len(given) - 3, len(made))
    lines = []
    for kind, arrays in (("in", given), ("out", made)):
        for k, array in enumerate(arrays):
            element = _KINDS.get(str(array.dtype), "int64_t")
            lines.append(f"{element}* {kind}{k}_p = ({element}*){kind}[{k}];")
            lines.append(f"Var {kind}{k}_var{{{array.nbytes}}}, *{kind}{k} = &{kind}{k}_var;")
            lines += [f"const int64_t {kind}{k}_shape{d} = {n};" for d, n in enumerate(array.shape)]
    text = "\n".join(
        [
            *(_HOST, roi_align_cuda.HEADER, f"typedef {_KINDS[str(made[0].dtype)]} in0_type;"),
            'extern "C" void run(void** in, void** out, const char** names, double* values, int n)',
            "{ std::map<std::string, double> data;",
            "for (int k = 0; k < n; k++) data[names[k]] = values[k];",
            *lines,
            *(body, "}"),
        ]
    )
    source, library = folder / f"{name}.cc", folder / f"{name}.so"
    source.write_text(text)
    line = ["g++", "-std=c++14", "-O1", "-shared", "-fPIC", str(source), "-o", str(library)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def run(
    folder: Path,
    name: str,
    given: Sequence[np.ndarray],
    made: Sequence[np.ndarray],
    settings: dict[str, float],
) -> None:
    library = compiled(folder, name, given, made)
    pointers = [(ctypes.c_void_p * len(a))(*(x.ctypes.data for x in a)) for a in (given, made)]
    names = (ctypes.c_char_p * len(settings))(*(key.encode() for key in settings))
    values = (ctypes.c_double * len(settings))(*map(float, settings.values()))
    library.run(*pointers, names, values, len(settings))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("sampling", "aligned"), SETTINGS)
def test_source_equals_the_judge(tmp_path: Path, dtype: str, sampling: int, aligned: bool) -> None:
    size, rng, levels = (3, 4), np.random.default_rng(1), 2
    matrix = weights(size, sampling, aligned)
    boxes, images = regions(dtype=dtype)
    level = np.arange(len(boxes)) % levels
    maps = rng.normal(size=(levels, 2, 5, HEIGHT, WIDTH))
    settings = {
        **{"rows": size[0], "columns": size[1], "sampling": sampling, "aligned": aligned},
        **{f"scale{k}": SCALE for k in range(levels)},
    }
    where = [boxes, images.astype(np.int64), level.astype(np.int64)]
    cells = np.full((len(boxes), 5, *size), np.nan, dtype)
    run(tmp_path, "roi_align", [*where, *maps.astype(dtype)], [cells], settings)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    want = np.einsum("rpij,rcp->rcij", matrix, maps.reshape(levels, 2, 5, -1)[level, images])
    np.testing.assert_allclose(cells, want, rtol=tolerance, atol=tolerance)

    factor = rng.normal(size=cells.shape)
    slopes = [np.full(maps.shape[1:], np.nan, dtype) for _ in range(levels)]
    run(tmp_path, "roi_align_backward", [*where, factor.astype(dtype)], slopes, settings)
    slope = np.zeros((levels, 2, 5, HEIGHT * WIDTH))
    np.add.at(slope, (level, images), np.einsum("rpij,rcij->rcp", matrix, factor))
    np.testing.assert_allclose(
        np.stack(slopes), slope.reshape(maps.shape), rtol=10 * tolerance, atol=10 * tolerance
    )
