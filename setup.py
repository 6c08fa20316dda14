"""What pyproject.toml cannot say: the kernel library.

``unidet/backends``, ``unidet/weights_convert`` and ``unidet/configs`` are links to the folders of
the root, so that editors and type checkers find them where Python does.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

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


sources = sorted(str(path) for path in Path("backends/kernels/csrc").glob("*.cpp"))
headers = sorted(str(path) for path in Path("backends/kernels/csrc").glob("*.h"))

setup(
    packages=find_packages(include=["unidet", "unidet.*"]),
    # A path file in place of an import hook, which type checkers do not follow.
    package_dir={"": "."},
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
