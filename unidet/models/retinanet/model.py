"""RetinaNet (Lin et al. 2017): ResNet, feature pyramid, two towers, focal loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.nn import initial
from unidet.backends.parallel import batch_split
from unidet.losses import sigmoid_focal_loss
from unidet.models.arguments import built_from
from unidet.models.base import DetectionModel, require_one_each
from unidet.models.boxes.anchors import AnchorGenerator
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import Matcher
from unidet.models.boxes.regression import regression_loss
from unidet.models.layers.fpn import FPN
from unidet.models.layers.initialization import convolution_shapes
from unidet.models.layers.resnet import ResNet
from unidet.models.retinanet.config import RetinaNetConfig
from unidet.models.retinanet.head import RetinaNetHead
from unidet.models.retinanet.postprocess import PostProcess, worth_copying
from unidet.models.retinanet.targets import RetinaNetTargets, build_targets
from unidet.structures import Batch, Detections, Targets

#: The moving divisor of detectron2: where it starts and what it keeps in a step.
DIVISOR_START, DIVISOR_KEPT = 100.0, 0.9


class RetinaNet(DetectionModel):
    """One-stage detector with a sigmoid for each class.

    Args:
        config: a :class:`unidet.models.retinanet.config.RetinaNetConfig`, or its arguments.

    Labels run from 0 to ``num_classes - 1``. In torchvision's presets they are slots: 91 of them,
    slot 0 is the background and slot ``i`` the COCO category with id ``i``.
    """

    config_class = RetinaNetConfig
    named_arguments = ("depth",)
    exports_onnx = True
    settings: RetinaNetConfig

    @built_from(RetinaNetConfig)
    def __init__(self, config: RetinaNetConfig) -> None:
        super().__init__(config)
        c = config
        self.model_name = f"retinanet_r{c.depth}_fpn"
        self.anchors = AnchorGenerator(
            c.anchor_sizes,
            c.anchor_ratios,
            c.anchor_strides,
            rounding=c.anchor_rounding,
            offset=c.anchor_offset,
            stride_rule=c.anchor_stride_rule,
            order=c.anchor_order,
        )
        self.coder = BoxCoder(
            c.box_std,
            log_limit=c.box_log_limit,
            log_limit_both=c.box_log_limit_both,
            min_side=c.box_min_side,
        )
        self.matcher = Matcher(
            c.positive_iou,
            c.negative_iou,
            low_quality=c.low_quality,
            ignore_overlap=c.ignore_overlap,
        )
        self.postprocess = PostProcess(
            self.coder,
            score_threshold=c.score_threshold,
            pre_nms=c.pre_nms,
            nms_iou=c.nms_iou,
            max_detections=c.max_detections,
            clip=c.clip,
        )
        self.backbone = ResNet(
            c.depth,
            norm=c.norm,
            norm_eps=c.norm_eps,
            norm_eval=c.norm_eval,
            stride_in_1x1=c.stride_in_1x1,
            frozen_stages=c.frozen_stages,
        )
        self.neck = FPN(
            self.backbone.channels[1:],
            c.fpn_channels,
            extra_source=c.extra_source,
            extra_relu=c.extra_relu,
            upsample=c.upsample,
        )
        self.head = RetinaNetHead(
            c.fpn_channels,
            self.anchors.per_cell,
            c.num_classes,
            channels=c.head_channels,
            depth=c.head_depth,
            norm=c.head_norm,
            groups=c.head_groups,
        )
        if c.normalizer == "moving":
            # A buffer, so that a resumed run goes on from it; detectron2 starts anew.
            self.register_buffer("loss_divisor", np.full(1, DIVISOR_START, np.float32))

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """Weights of pyramid and head by the scheme of ``init``; the backbone has its own."""
        scheme, prior = self.settings.init, self.settings.prior
        shapes = convolution_shapes(self)
        values = {}
        for name, shape in shapes.items():
            if name == "head.cls_out.bias":
                values[name] = np.full(shape, -math.log((1 - prior) / prior), np.float32)
            elif scheme == "yhenon" and name.startswith(("head.cls_out.", "head.box_out.")):
                values[name] = np.zeros(shape, np.float32)
            elif name.endswith(".bias"):
                if scheme != "yhenon":  # which leaves torch's own: the layer's default
                    values[name] = np.zeros(shape, np.float32)
            elif scheme == "yhenon":
                values[name] = initial.kaiming_normal(draw(name), shape)
            elif name.startswith("head."):
                values[name] = initial.normal(draw(name), shape, 0.01)
            elif name.startswith("neck."):
                uniform = initial.xavier_uniform if scheme == "mmdet" else initial.kaiming_uniform
                values[name] = uniform(draw(name), shape)
        return values

    def forward(self, images: Any) -> dict[str, Any]:
        """Raw outputs for normalised, padded images ``(N, 3, H, W)``.

        Returns:
            ``cls_logits`` ``(N, A, K)`` and ``box_deltas`` ``(N, A, 4)``, levels one after the
            other, and ``layout``, plain numbers: the size of the input and of each level.
        """
        levels = self.neck(self.backbone(images)[1:])
        logits, deltas = self.head(levels)
        layout = (
            tuple(int(side) for side in ops.shape(images)[2:]),
            tuple(tuple(int(side) for side in ops.shape(level)[2:]) for level in levels),
        )
        return {"cls_logits": logits, "box_deltas": deltas, "layout": layout}

    def assign(self, layout: tuple, targets: Sequence[Targets]) -> RetinaNetTargets:
        """Targets of the anchors, as arrays: the part of :meth:`losses` on the host."""
        c = self.settings
        return build_targets(
            self.anchors.all_levels(*layout),
            targets,
            matcher=self.matcher,
            coder=self.coder,
            num_classes=c.num_classes,
            background_slot=c.background_slot,
            normalizer=self._divisor if c.normalizer == "moving" else c.normalizer,
        )

    def count(self, batch: Batch, *, like: Any = None) -> None:
        """Counts what :meth:`losses` divides by, see ``batch_split``; no network runs."""
        height, width = ops.shape(batch.images)[2:]
        halves = [2**level for level in range(3, 8)]
        levels = tuple((-(-height // half), -(-width // half)) for half in halves)
        self.assign(((height, width), levels), batch.targets)

    def _divisor(self, positives: int) -> float:
        """The moving average of the positives of a batch, which only training moves."""
        held = float(ops.to_numpy(self.loss_divisor)[0])
        count = batch_split.parts() * batch_split.mean_count("positives", positives, least=1)
        if not self.training:
            return held
        return batch_split.once("divisor", lambda: DIVISOR_KEPT * held + (1 - DIVISOR_KEPT) * count)

    def losses(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """Loss terms, to be added up.

        Args:
            outputs: of :meth:`forward`.
            targets: objects of each image, in pixels of the input.

        Returns:
            Scalar tensors ``loss_cls`` and ``loss_box``.

        Raises:
            ValueError: a label that the model cannot learn, or a wrong number of targets.
        """
        logits, deltas = outputs["cls_logits"], outputs["box_deltas"]
        require_one_each(targets, ops.shape(logits)[0], "targets")
        goal = self.assign(outputs["layout"], targets)
        if goal.divisor is not None and self.training:
            moved = np.full(1, goal.divisor, np.float32)
            self.register_buffer("loss_divisor", ops.asarray(moved, like=logits))
        focal = sigmoid_focal_loss(
            logits,
            ops.asarray(goal.classes, like=logits),
            alpha=self.settings.focal_alpha,
            gamma=self.settings.focal_gamma,
            probability_clamp=self.settings.focal_clamp,
        )
        weights = ops.asarray(goal.class_weights[..., None], like=logits)
        return {"loss_cls": ops.sum(focal * weights), "loss_box": self._box_loss(deltas, goal)}

    def _box_loss(self, deltas: Any, goal: RetinaNetTargets) -> Any:
        c = self.settings
        chosen = ops.take(ops.reshape(deltas, (-1, 4)), goal.positives, axis=0)
        loss = regression_loss(chosen, goal, c.box_loss, c.box_beta, self.coder)
        weights = goal.box_weights * np.float32(c.box_weight)
        if c.box_reduction == "mean":
            weights = weights / np.float32(ops.shape(loss)[1])
        return ops.sum(loss * ops.asarray(weights[:, None], like=deltas))

    def predict(self, outputs: dict[str, Any], batch: Batch) -> list[Detections]:
        """Detections of each image in pixels of the original, by falling score.

        Args:
            outputs: of :meth:`forward` for ``batch.images``.
            batch: sizes and scales of the images.
        """
        padded_size, level_shapes = outputs["layout"]
        anchors = self.anchors(padded_size, level_shapes)
        logits, deltas = outputs["cls_logits"], outputs["box_deltas"]
        if nn.device_of(self) == "cuda":
            threshold = self.postprocess.score_threshold
            answers = [
                worth_copying(logits[i], deltas[i], anchors, threshold) for i in range(len(batch))
            ]
        else:
            answers = [(*one, anchors) for one in zip(ops.to_numpy(logits), ops.to_numpy(deltas))]
        return [
            self.postprocess(
                *answer,
                image_size=batch.image_sizes[i],
                padded_size=padded_size,
                scale=batch.scales[i],
                class_names=self.class_names,
            )
            for i, answer in enumerate(answers)
        ]

    def onnx_graph(self, graph: Any, parts: Any, inputs: Any) -> tuple[Any, Any, Any]:
        """See :meth:`unidet.models.DetectionModel.onnx_graph`."""
        from unidet.models.retinanet.export import retinanet_graph

        return retinanet_graph(self, graph, parts, inputs)
