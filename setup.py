"""What pyproject.toml cannot say: the mapped folders' sub-packages and the kernel library."""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

#: Import name of each top-level folder.
FOLDERS = {
    "unidet": "unidet",
    "unidet.backends": "backends",
    "unidet.weights_convert": "weights_convert",
    "unidet.configs": "configs",
}

#: Contraction to FMA is off, so that results equal those of separate multiplications and additions.
FLAGS = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-g0",
]


class BuildKernels(build_ext):
    """Builds with OpenMP where the compiler has it, without where it has not."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception:
            if "-fopenmp" not in ext.extra_compile_args:
                raise
            self.warn("no OpenMP here: the kernels run on one thread")
            ext.extra_compile_args.remove("-fopenmp")
            ext.extra_link_args.remove("-fopenmp")
            super().build_extension(ext)


def packages() -> list[str]:
    """The mapped folders and everything below them."""
    found = []
    for name, folder in FOLDERS.items():
        found += [name, *(f"{name}.{child}" for child in find_packages(folder))]
    return found


sources = sorted(str(path) for path in Path("backends/kernels/csrc").glob("*.cpp"))
headers = sorted(str(path) for path in Path("backends/kernels/csrc").glob("*.h"))

setup(
    packages=packages(),
    package_dir=FOLDERS,
    ext_modules=[
        Extension(
            "unidet.backends.kernels._kernels",
            sources=sources,
            depends=headers,
            extra_compile_args=[*FLAGS, "-fopenmp"],
            extra_link_args=["-fopenmp"],
            # Without a compiler the NumPy forms take over; `unidet doctor` says so.
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
