"""ResNet as a classifier, whose weights detectors start from.

The extractor itself is in ``layers``.
"""

from unidet.models.base import ModelSpec
from unidet.models.classifier.model import ClassifierConfig, ResNetClassifier
from unidet.models.layers.resnet import BLOCKS

#: Models of this folder by name.
MODELS = {f"resnet{depth}": ModelSpec(ResNetClassifier, {"depth": depth}) for depth in BLOCKS}

__all__ = ["MODELS", "ClassifierConfig", "ResNetClassifier"]
