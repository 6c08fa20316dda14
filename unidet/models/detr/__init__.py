"""DETR (Carion et al. 2020): model, config, transformer, matcher, criterion.

Attention itself is in ``layers``, for CLIP uses it as well.
"""

from unidet.models.base import ModelSpec
from unidet.models.detr.config import PRESETS_BY_NAME, DETRConfig
from unidet.models.detr.model import DETR

#: Models of this folder by name; depth and dilation are part of the name.
MODELS = {
    f"detr_r{depth}"
    + ("_dc5" if dilation else "")
    + ("" if preset == "default" else f"_{preset}"): ModelSpec(
        DETR, {**changes, "depth": depth, "dilation": dilation}
    )
    for preset, changes in PRESETS_BY_NAME.items()
    for depth in (18, 34, 50, 101)
    for dilation in (False, True)
}

__all__ = ["DETR", "MODELS", "DETRConfig"]
