"""FCOS (Tian et al. 2019) as a plugin: one model, two presets, one checkpoint family."""

import unidet
from unidet.data.preprocess import PRESETS
from unidet_fcos.family import FAMILY
from unidet_fcos.model import FCOS, FCOSConfig

for depth in (18, 50, 101):
    unidet.register_model(f"fcos_r{depth}_fpn", FCOS, {"depth": depth})
    # What mmdetection trained: Detectron's ResNet, whose norms are constants, and its pixels.
    unidet.register_model(
        f"fcos_r{depth}_fpn_mmdet",
        FCOS,
        {
            "depth": depth,
            "norm": "frozen",
            "stride_in_1x1": True,
            "frozen_stages": 1,
            "preprocess": PRESETS["mmdet_caffe"],
        },
    )
unidet.register_checkpoint_family(FAMILY)

__all__ = ["FAMILY", "FCOS", "FCOSConfig"]
