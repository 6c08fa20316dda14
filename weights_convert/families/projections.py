"""Attention's query, key and value projections: three matrices in one, or split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..report import TensorReport
from .architecture import Shape

#: In the order of their rows in the joined matrix.
_PARTS = ("q_proj", "k_proj", "v_proj")
_JOINED = "in_proj_"


def split_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The same names and shapes with every joined projection as three."""
    pieces: dict[str, Shape] = {}
    for name, shape in shapes.items():
        parts = _parts(name)
        rows = (shape[0] // len(_PARTS), *shape[1:]) if parts else shape
        pieces.update(dict.fromkeys(parts or (name,), rows))
    return pieces


def join(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], report: TensorReport
) -> dict[str, np.ndarray]:
    """Puts parted projections together.

    Args:
        arrays: Tensors under native names, projections parted, each of the right shape.
        shapes: Native names and shapes, projections joined.
        report: Rows of the parts get the joined tensor as their target; where a part is missing
            or misshapen, the others are dropped.
    """
    joined = {}
    for name in shapes:
        parts = _parts(name)
        if not parts and name in arrays:
            joined[name] = arrays[name]
        elif parts and all(part in arrays for part in parts):
            joined[name] = np.concatenate([arrays[part] for part in parts])
    for i, row in enumerate(report.rows):
        whole, which = _whole(row.target)
        if row.status == "renamed" and whole in joined:
            report.rows[i] = replace(row, target=whole, note=which)
        elif row.status == "renamed" and whole:
            note = f"{whole} is not complete"
            report.rows[i] = replace(row, status="dropped", target=None, note=note)
    return joined


def part(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]
) -> tuple[dict[str, np.ndarray], dict[str, Shape]]:
    """Takes joined projections apart.

    Args:
        arrays: Tensors under native names, projections joined.
        shapes: Native names and shapes.

    Returns:
        Both with parts in the place of every projection that is there and has its shape.
    """
    pieces: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        parts = _parts(name) if array.shape == shapes.get(name) else ()
        pieces.update(zip(parts, np.split(array, len(parts))) if parts else {name: array}.items())
    wanted: dict[str, Shape] = {}
    for name, shape in shapes.items():
        one = split_shapes({name: shape})
        wanted.update(one if one.keys() <= pieces.keys() else {name: shape})
    return pieces, wanted


def name_wholes(report: TensorReport) -> None:
    """Gives rows of parts the joined tensor as their source."""
    for i, row in enumerate(report.rows):
        whole, which = _whole(row.source)
        if whole:
            report.rows[i] = replace(row, source=whole, note=row.note or which)


def _whole(name: str | None) -> tuple[str, str]:
    """Name of the joined projection that a part belongs to, and which part it is; else empty."""
    head, _, last = (name or "").rpartition(".")
    head, _, which = head.rpartition(".")
    return (f"{head}.{_JOINED}{last}", which) if which in _PARTS else ("", "")


def _parts(name: str) -> tuple[str, ...]:
    """Names of the three parts of a joined projection, or none."""
    head, _, last = name.rpartition(".")
    if not last.startswith(_JOINED):
        return ()
    return tuple(f"{head}.{part}.{last.removeprefix(_JOINED)}" for part in _PARTS)
