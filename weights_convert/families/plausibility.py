"""Values that look made for other conventions than the file's names say: remarks, not errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .family import Family, Form

#: Networks that read 0..255 without a divisor have first kernels about 58 times weaker.
_WEAK, _STRONG = 0.008, 0.06
#: By how much another row's bias must exceed the background's.
_MARGIN = 0.5
#: Presets whose inputs are not divided by a standard deviation.
UNDIVIDED = ("mmdet_caffe", "detectron2")


def implausible_values(arrays: Mapping[str, np.ndarray], family: Family, form: Form) -> list[str]:
    """Remarks on a state in native names.

    Args:
        arrays: Tensors under native names.
        family: Whose conventions are assumed.
        form: Of the file.
    """
    if family.preset is None:
        return []
    found = [_stem(arrays.get("backbone.conv1.weight"), family)]
    first = getattr(form.network or family.network, "background_first", None)
    if first is not None:
        found.append(_background(arrays.get("head.cls_out.bias"), first))
    found.append(_vocabulary(arrays))
    return [remark for remark in found if remark]


def _stem(kernel: np.ndarray | None, family: Family) -> str:
    """An input of the wrong scale lowers scores and breaks nothing, so it is worth a remark."""
    if kernel is None or kernel.shape[-1] != 7 or not np.any(kernel):
        return ""
    size = float(np.sqrt(np.mean(np.square(kernel, dtype=np.float64))))
    if family.preset in UNDIVIDED and size > _STRONG:
        other = "inputs divided by a standard deviation (pytorch style)"
    elif family.preset not in UNDIVIDED and size < _WEAK:
        other = "inputs of 0 to 255 without a divisor (caffe style, BGR)"
    else:
        return ""
    return (
        f"suspicious: the first convolution (root mean square {size:.2g}) looks made for {other}, "
        f"which is not {family.name}'s"
    )


def _background(bias: np.ndarray | None, first: bool) -> str:
    """The background is the commonest class by far, so its bias is usually the largest."""
    if bias is None or len(bias) < 2:
        return ""
    own, other = (bias[0], bias[-1]) if first else (bias[-1], bias[0])
    if other < bias.max() or not other > own + _MARGIN:
        return ""
    here, there = ("first", "last") if first else ("last", "first")
    return (
        f"suspicious: the background is taken to be the {here} row of the class scores, but the "
        f"{there} one has the largest bias"
    )


def _vocabulary(arrays: Mapping[str, np.ndarray]) -> str:
    """UniDetector's background is a vector of zeros."""
    wrong = [
        name
        for name, array in arrays.items()
        if name.startswith("head.text_embeddings") and array.ndim == 2 and np.any(array[:, -1])
    ]
    if not wrong:
        return ""
    return (
        f"suspicious: the last column of {wrong[0]}, the background's, is not zero: it may be a "
        "class, and the vocabulary one class longer"
    )
