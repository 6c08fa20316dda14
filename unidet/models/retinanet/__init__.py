"""RetinaNet (Lin et al. 2017): model, config, presets, head, targets, post-processing.

What Faster R-CNN or DETR use, too, belongs to ``layers`` or ``boxes``.
"""

from unidet.models.base import ModelSpec
from unidet.models.layers.resnet import BLOCKS
from unidet.models.retinanet.config import RetinaNetConfig
from unidet.models.retinanet.model import RetinaNet
from unidet.models.retinanet.presets import PRESETS_BY_NAME

#: Models of this folder by name; the depth is part of the name.
MODELS = {
    f"retinanet_r{depth}_fpn" + ("" if preset == "default" else f"_{preset}"): ModelSpec(
        RetinaNet, {**changes, "depth": depth}
    )
    for preset, changes in PRESETS_BY_NAME.items()
    for depth in BLOCKS
}

__all__ = ["MODELS", "RetinaNet", "RetinaNetConfig"]
