"""ResNet as an ImageNet classifier (He et al. 2016): where detectors start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unidet.backends import nn, ops
from unidet.models.arguments import TRAINING, VISIBLE, Arguments, argument, built_from
from unidet.models.base import Model
from unidet.models.layers.resnet import BLOCKS, ResNet


@dataclass(frozen=True)
class ClassifierConfig(Arguments):
    """Arguments of :class:`ResNetClassifier`."""

    depth: int = argument(50, "layers of the ResNet", kind=VISIBLE, choices=tuple(BLOCKS))
    num_classes: int = argument(1000, "outputs of the last layer", kind=VISIBLE, least=1)
    norm: str = argument(
        "batch",
        "norm of the network: 'batch' or 'frozen' (four constant vectors)",
        kind=TRAINING,
        choices=("batch", "frozen"),
    )
    norm_eps: float = argument(1e-5, "eps of the norm layers")
    norm_eval: bool = argument(
        False, "batch norm uses its running statistics in training, too", kind=TRAINING
    )
    stride_in_1x1: bool = argument(
        False, "bottlenecks have their stride in the first convolution (MSRA) and not in the 3x3"
    )
    frozen_stages: int = argument(
        -1,
        "stages that do not train: -1 none, 0 the stem, 1 the stem and layer1, and so on",
        kind=TRAINING,
    )


class ResNetClassifier(ResNet, Model):
    """ImageNet classifier in torchvision's layout: the extractor and ``fc``.

    Args:
        config: a :class:`ClassifierConfig`, or its arguments.
    """

    config_class = ClassifierConfig
    named_arguments = ("depth",)

    @built_from(ClassifierConfig)
    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(
            config.depth,
            norm=config.norm,
            norm_eps=config.norm_eps,
            norm_eval=config.norm_eval,
            stride_in_1x1=config.stride_in_1x1,
            frozen_stages=config.frozen_stages,
        )
        self.settings = config
        self.model_name = f"resnet{config.depth}"
        self.fc = nn.Linear(self.channels[-1], config.num_classes)

    def forward(self, images: Any) -> dict[str, Any]:
        """``pooled`` ``(N, C5)`` and ``logits`` ``(N, num_classes)``."""
        pooled = ops.mean(super().forward(images)[-1], axis=(2, 3))
        return {"pooled": pooled, "logits": self.fc(pooled)}
