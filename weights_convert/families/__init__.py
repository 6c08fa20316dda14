"""The families of published checkpoints that can be imported and exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unidet.errors import suggestion

from ..errors import CheckpointError
from .architecture import infer_depth
from .clip_start import detector_start
from .family import Family, Form, Mapped
from .known import FAMILIES
from .mapping import CLIP_ADVICE, CLIP_STEM, backbone_state, refuse_clip, require_clip
from .networks import ModelNetwork
from .rename import Table
from .sidecar import weights_in
from .states import SIGHTS, read_state
from .styles import contradiction, with_style, written_config

__all__ = [
    "FAMILIES",
    "ModelNetwork",
    "Family",
    "Form",
    "Mapped",
    "backbone_state",
    "contradiction",
    "detect_family",
    "detector_start",
    "family_named",
    "infer_depth",
    "model_family",
    "is_published_detector",
    "looks_like",
    "read_state",
    "refuse_clip",
    "require_clip",
    "weights_in",
    "with_style",
    "written_config",
]


def detect_family(
    state: Mapping[str, np.ndarray],
    *,
    source: str = "the file",
    extras: Mapping[str, Any] | None = None,
) -> Family:
    """The family of a file, from the names and shapes of its tensors.

    Args:
        state: Tensors by name.
        source: Name of the file, for messages.
        extras: What the file holds beside them: mmdetection's config tells styles apart that
            names cannot.

    Raises:
        CheckpointError: it belongs to none; the message says what it looks like.
    """
    shapes = {name: array.shape for name, array in state.items()}
    for family in FAMILIES.values():
        if family.variant_of is None and family.matches(shapes):
            return with_style(family, FAMILIES, extras)[0] if extras else family
    raise CheckpointError(
        f"Invalid checkpoint {source}. Expected one of the families {', '.join(FAMILIES)}. "
        f"Received {looks_like(state)}."
    )


def is_published_detector(state: Mapping[str, np.ndarray]) -> bool:
    """Whether a state has the names of another library's detector; no native model has them.

    Args:
        state: Tensors by name.
    """
    shapes = {name: array.shape for name, array in state.items()}
    return any(f.preset is not None and f.matches(shapes) for f in FAMILIES.values())


def looks_like(state: Mapping[str, np.ndarray]) -> str:
    """What a state is, in words, for messages."""
    shapes = {name: array.shape for name, array in state.items()}
    for family in FAMILIES.values():
        if family.matches(shapes):
            return family.title
    for title, names in SIGHTS:
        if all(name in state for name in names):
            return f"what looks like {title}"
    if any(
        shape == CLIP_STEM and name.rpartition("conv1.weight")[0] in ("", "visual.")
        for name, shape in shapes.items()
        if name.endswith("conv1.weight")
    ):
        return f"a ResNet of CLIP: {CLIP_ADVICE}"
    first = ", ".join(list(state)[:3])
    return f"{len(state)} tensors of an unknown model ({first}, ...)"


def model_family(
    name: str,
    title: str,
    *,
    models: str,
    infer: Callable[[Mapping[str, tuple[int, ...]]], tuple[str, dict[str, Any]]],
    table: Table,
    signature: Sequence[str],
    stem: str,
    **options: Any,
) -> Family:
    """A family of one naming, whose shapes are those of the native model.

    Args:
        name: What ``--from`` and ``--to`` call it.
        title: In words, for messages.
        models: Pattern of the native models' names, without the ``preset`` among the options.
        infer: Gives name and arguments of the model, from the shapes of a state under native
            names; :func:`infer_depth` reads the depth of a ResNet.
        table: Pairs of prefixes: in the file and in the native names. The first that fits counts.
        signature: Names that only files of this family have.
        stem: Name of the first convolution of its ResNet in the file.
        options: Of :class:`Family`, such as ``preset``, ``ignored``, ``wrapper``.
    """
    form = Form("", tuple(table), tuple(signature), stem)
    return Family(name, title, ModelNetwork(models, infer), (form,), **options)


def family_named(name: str) -> Family:
    """The family called ``name``.

    Raises:
        CheckpointError: there is none.
    """
    if name not in FAMILIES:
        raise CheckpointError(
            f"Invalid family {name!r}. Expected one of {', '.join(FAMILIES)}."
            f"{suggestion(name, FAMILIES)}"
        )
    return FAMILIES[name]
