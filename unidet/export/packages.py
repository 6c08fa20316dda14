"""The packages of the extra ``export``, imported when they are needed."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

from unidet.errors import UserError


@functools.cache
def onnx_package() -> ModuleType:
    """The package ``onnx``, which writes files.

    Raises:
        UserError: it is not installed.
    """
    package = _import("onnx")
    for part in ("checker", "helper", "numpy_helper"):
        importlib.import_module(f"onnx.{part}")
    return package


def runtime_package() -> ModuleType:
    """The package ``onnxruntime``, which runs files.

    Raises:
        UserError: it is not installed.
    """
    return _import("onnxruntime")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"Missing package {name}. Install it: pip install 'unidet[export]'."
        ) from error
