"""The backend-neutral layer: one vocabulary of operations, modules and optimizers.

Tensors and modules are the frameworks' own; :mod:`unidet.backends.ops` dispatches on the type of
its arguments and :mod:`unidet.backends.nn` chooses the framework when a module is made. A
framework that is not used is never imported.
"""

from unidet.backends.registry import (
    BackendNotAvailableError,
    available,
    backend_of,
    resolve,
    use,
)

__all__ = [
    "BackendNotAvailableError",
    "available",
    "backend_of",
    "nn",
    "ops",
    "optim",
    "random",
    "resolve",
    "use",
]


def __getattr__(name: str):
    # Submodules on demand: `import unidet.backends` stays cheap.
    if name in ("nn", "ops", "optim", "random"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
