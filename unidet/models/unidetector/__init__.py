"""UniDetector (Wang et al. 2023): the CLN of the first stage, the second stage, its calibration.

What an ordinary Faster R-CNN needs belongs to ``faster_rcnn``.
"""

from unidet.models.base import ModelSpec
from unidet.models.clip.resnet import LAYERS
from unidet.models.layers.resnet import BLOCKS
from unidet.models.unidetector.cln import CLN
from unidet.models.unidetector.cln_config import CLNConfig
from unidet.models.unidetector.config import UniDetectorConfig
from unidet.models.unidetector.model import UniDetector, UniDetectorStage2

#: Models of this folder by name; the depth is part of the name.
MODELS = {
    f"{model.family}_r{depth}_c4": ModelSpec(model, {"depth": depth})
    for model in (UniDetector, UniDetectorStage2)
    for depth in LAYERS
} | {f"{CLN.family}_r{depth}_fpn": ModelSpec(CLN, {"depth": depth}) for depth in BLOCKS}

__all__ = ["CLN", "MODELS", "CLNConfig", "UniDetector", "UniDetectorConfig", "UniDetectorStage2"]
