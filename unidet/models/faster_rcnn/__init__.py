"""Faster R-CNN and Fast R-CNN: models, config, presets, RPN, box heads, targets, losses.

The parts that read class names as text belong to ``unidetector``.
"""

from unidet.models.base import ModelSpec
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.faster_rcnn.fast_rcnn import FastRCNN
from unidet.models.faster_rcnn.faster_rcnn import FasterRCNN
from unidet.models.faster_rcnn.presets import PRESETS_BY_NAME
from unidet.models.layers.resnet import BLOCKS

#: Models of this folder by name; depth and style are part of the name. A head of basic blocks is
#: no published form of C4.
MODELS = {
    f"{model.family}_r{depth}_{style}" + ("" if preset == "default" else f"_{preset}"): ModelSpec(
        model, {**changes, "style": style, "depth": depth}
    )
    for model in (FasterRCNN, FastRCNN)
    for style, presets in PRESETS_BY_NAME.items()
    for preset, changes in presets.items()
    for depth in (BLOCKS if style == "fpn" else (50, 101))
}

__all__ = ["MODELS", "FastRCNN", "FasterRCNN", "FasterRCNNConfig"]
