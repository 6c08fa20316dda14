"""Tensors from one set of names to another, with a row in the report for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..errors import CheckpointError
from ..report import TensorReport
from .architecture import Shape, infer_depth, is_counter
from .native import native_shapes
from .rename import RESNET, Table, rename

Arrays = Mapping[str, np.ndarray]
#: What precedes the first convolution's name in the files of all families.
_STEMS = (
    *("", "visual.", "backbone.", "backbone.body."),
    *("backbone.stem.", "backbone.bottom_up.stem."),
)
#: First convolution of CLIP's ResNets, which borrow the layer names of torchvision's.
CLIP_STEM = (32, 3, 3, 3)
CLIP_ADVICE = (
    "CLIP's ResNet has three stem convolutions, pools before it strides and ends in attention: "
    "its layers are named like torchvision's and are not the same network"
)


def take_all(
    state: Arrays,
    named: Mapping[str, str | None],
    expected: Mapping[str, Shape],
    report: TensorReport,
    ignores: Callable[[str], bool] = is_counter,
    may_lack: Arrays | None = None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Native tensors of a published state.

    Args:
        state: Tensors under the file's names.
        named: Native name of each, or None.
        expected: Native names and shapes.
        report: Gets a row for each tensor.
        ignores: Whether a name without a place may be dropped.
        may_lack: Native tensors that a file need not have, and what stands for them.

    Returns:
        Tensors under native names, and the names of those that were filled in.
    """
    arrays: dict[str, np.ndarray] = {}
    for old, array in state.items():
        new = named[old]
        shape = array.shape
        if new is None or new not in expected:
            if ignores(old):
                report.add("dropped", old, None, shape, array.dtype, "not used")
            else:
                report.add("unexpected", old, None, shape, array.dtype)
            continue
        if is_counter(old) and array.size == 1:
            array = array.reshape(())  # Jittor has no 0-d tensors
        if array.shape != expected[new]:
            note = f"expected {expected[new]}, received {shape}"
            report.add("mismatched", old, new, shape, array.dtype, note)
            continue
        arrays[new] = array
        report.add("matched" if new == old else "renamed", old, new, array.shape, array.dtype)
    filled = []
    misshapen = {row.target for row in report.with_status("mismatched")}
    for name, shape in expected.items():
        if name in arrays or name in misshapen:
            continue
        if is_counter(name):
            arrays[name] = np.zeros(shape, np.int64)
            filled.append(name)
            report.add("reinitialised", None, name, shape, "int64", "starts at 0")
        elif may_lack and name in may_lack:
            arrays[name] = may_lack[name]
            filled.append(name)
            note = "zeros: to be set"
            report.add("reinitialised", None, name, shape, arrays[name].dtype, note)
        else:
            report.add("missing", None, name, shape, "-")
    return arrays, tuple(filled)


def place_all(
    arrays: Arrays,
    table: Table,
    expected: Mapping[str, Shape],
    report: TensorReport,
    without: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Published tensors of a native state.

    Args:
        arrays: Tensors under native names.
        table: Native prefixes and those of the file.
        expected: Native names and shapes.
        report: Gets a row for each tensor.
        without: Native names to leave out where they hold 0.
    """
    state = {}
    for name, array in arrays.items():
        new = rename(name, table) if name in expected else None
        if name in without and not np.any(array):
            report.add("dropped", name, None, array.shape, array.dtype, "not in the origin")
        elif new is None:
            report.add("unexpected", name, None, array.shape, array.dtype)
        elif expected[name] != array.shape:
            note = f"expected {expected[name]}, received {array.shape}"
            report.add("mismatched", name, new, array.shape, array.dtype, note)
        else:
            state[new] = array
            kind = "matched" if new == name else "renamed"
            report.add(kind, name, new, array.shape, array.dtype)
    for name, shape in expected.items():
        if name not in arrays:
            report.add("missing", None, name, shape, "-")
    return state


def refuse_clip(state: Arrays, target: Arrays | None = None, *, source: str = "the file") -> None:
    """Keeps a ResNet of CLIP out of one of torchvision's, most of whose names and shapes it has.

    Args:
        state: Tensors of the file.
        target: Tensors of the model; None: a ResNet of torchvision's.
        source: Name of the file, for messages.

    Raises:
        CheckpointError: the file's first convolution is CLIP's and the model's is not.
    """
    if _is_clip(state) and (target is None or _is_clip(target) is False):
        raise CheckpointError(
            f"Invalid checkpoint {source}. Expected a ResNet in torchvision's layout. Received "
            f"one of CLIP. {CLIP_ADVICE}."
        )


def require_clip(state: Arrays, *, source: str = "the file") -> None:
    """Keeps a ResNet of torchvision's layout out of a model with one of CLIP.

    Args:
        state: Tensors of the file.
        source: Name of the file, for messages.

    Raises:
        CheckpointError: the file's first convolution is not CLIP's.
    """
    if _is_clip(state) is False:
        raise CheckpointError(
            f"Invalid checkpoint {source}. Expected a ResNet of CLIP. Received one in "
            f"torchvision's layout. {CLIP_ADVICE}."
        )


def _is_clip(state: Arrays) -> bool | None:
    """Whether the first convolution of a ResNet is CLIP's, of any width; None: there is none."""
    for prefix in _STEMS:
        name = f"{prefix}conv1.weight"
        if name in state:
            return state[name].shape[1:] == CLIP_STEM[1:]
    return None


def backbone_state(
    state: Arrays, *, prefix: str = "backbone.", source: str = "the file"
) -> tuple[dict[str, np.ndarray], TensorReport]:
    """Weights that start a detector's backbone, from an ImageNet classifier.

    Args:
        state: A ResNet classifier in torchvision's layout, with or without ``fc``.
        prefix: Put before every name.
        source: Name of the file, for messages.

    Returns:
        Tensors under the detector's names, ``fc`` left out, and the report.

    Raises:
        CheckpointError: it is a ResNet of CLIP.
        StateMismatchError: it is no ResNet of this layout.
    """
    shapes = {name: array.shape for name, array in state.items()}
    refuse_clip(state, source=source)
    depth = infer_depth(shapes)
    whole = native_shapes(f"resnet{depth}", {}, counters=True)
    expected = {prefix + n: shape for n, shape in whole.items() if not n.startswith("fc.")}
    report = TensorReport(f"ResNet-{depth} backbone")
    body = {}
    for name, array in state.items():
        if name.startswith("fc."):
            report.add("dropped", name, None, array.shape, array.dtype, "classifier")
        else:
            body[name] = array
    known = {name for name, _ in RESNET}
    named = {
        name: prefix + name if any(name.startswith(part) for part in known) else None
        for name in body
    }
    arrays, _ = take_all(body, named, expected, report)
    report.require(source)
    return arrays, report
