"""Starting weights of detectors on CLIP's ResNet: the visual tower of whatever holds one."""

from __future__ import annotations

import numpy as np

from ..report import TensorReport
from .clip import BOX_HEAD, TO_C4
from .mapping import CLIP_STEM, Arrays
from .rename import Table, rename
from .unidetector import UNIDETECTOR


def _start(prefix: str) -> Table:
    """From a tower whose parts all have this prefix into a detector, whose head has the end."""
    return (
        (f"{prefix}layer4.", "head.layer4."),
        (f"{prefix}attnpool.", "head.attnpool."),
        *((f"{prefix}{part}", f"backbone.{part}") for part in TO_C4),
    )


#: Towers that start a detector: in words, the prefix of the pool, and the names in the detector.
STARTS: tuple[tuple[str, str, Table], ...] = (
    ("a CLIP of OpenAI's layout", "visual.attnpool.", _start("visual.")),
    ("RegionCLIP", "backbone.attnpool.", _start("backbone.")),
    ("a visual tower of CLIP", "attnpool.", _start("")),
    ("RegionCLIP in mmdetection's form", f"{BOX_HEAD}attnpool.", UNIDETECTOR),
)

#: What has a vocabulary or answers of its own is a detector, and no start.
_DETECTORS = ("roi_head.bbox_head.fc_reg.weight", "head.box_out.weight")


def detector_start(state: Arrays) -> tuple[dict[str, np.ndarray], TensorReport] | None:
    """A visual tower of CLIP under the names of a detector.

    Stem and the first three stages go into the backbone; the fourth and the attention pool, which
    see regions there, into the head.

    Args:
        state: OpenAI's archive, RegionCLIP in either form, a native CLIP or its visual tower.

    Returns:
        Tensors by native name and a row for each, everything else in the file being dropped; None
        where the file holds no such tower, or a whole detector.
    """
    if any(name in state for name in _DETECTORS):
        return None
    for title, pool, table in STARTS:
        if f"{pool}positional_embedding" not in state:
            continue
        report = TensorReport(title)
        arrays = {}
        for name, array in state.items():
            new = rename(name, table)
            if new is None:
                note = "not of the visual tower"
                report.add("dropped", name, None, array.shape, array.dtype, note)
            else:
                arrays[new] = array
                report.add("renamed", name, new, array.shape, array.dtype)
        stem = arrays.get("backbone.conv1.weight")
        return (arrays, report) if stem is not None and stem.shape == CLIP_STEM else None
    return None
