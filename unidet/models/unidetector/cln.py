"""CLN: UniDetector's class-agnostic first stage, which finds objects of classes never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.backends.nn import initial
from unidet.losses import iou_loss
from unidet.models.arguments import built_from
from unidet.models.boxes.matcher import Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.boxes.scores import sigmoid, softmax
from unidet.models.boxes.tblr_coder import TBLRCoder
from unidet.models.faster_rcnn.faster_rcnn import FasterRCNN
from unidet.models.unidetector.cln_config import CLNConfig
from unidet.models.unidetector.cln_head import CLNBoxHead, CLNProposalHead
from unidet.models.unidetector.cln_targets import (
    QualityTargets,
    quality_targets,
    roi_quality,
    without_border_targets,
)
from unidet.structures import Targets


class CLN(FasterRCNN):
    """Finds objects by how well a box frames something, hardly by what it looks like.

    Labels of ground truth are ignored: whatever is annotated is an object. Detections have the
    label 0 and a score that weighs the class probability against the predicted centerness of the
    anchor and the predicted IoU of the proposal.

    Args:
        config: a :class:`unidet.models.unidetector.cln_config.CLNConfig`, or its arguments.
    """

    family = "unidetector_cln"
    mixes_classes = True
    config_class = CLNConfig
    settings: CLNConfig

    @built_from(CLNConfig)
    def __init__(self, config: CLNConfig) -> None:
        super().__init__(config)
        c = config
        self.rpn_coder = TBLRCoder()
        self.select_proposals = replace(self.select_proposals, coder=self.rpn_coder)
        if not c.rpn_suppress:
            self.select_proposals = replace(self.select_proposals, nms_iou=None)
        self.quality_matcher = Matcher(
            c.quality_positive_iou,
            c.quality_negative_iou,
            low_quality=c.rpn_low_quality,
            low_quality_iou=c.rpn_low_quality_iou,
            ignore_overlap=c.ignore_overlap,
        )
        self.quality_sampler = RandomSampler(c.rpn_batch, 1.0)

    def _build_network(self, c: Any) -> None:
        super()._build_network(c)
        self.head = CLNBoxHead(self.feature_channels, c.roi_size, c.head_channels)

    def _build_rpn(self) -> Any:
        return CLNProposalHead(self.feature_channels)

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """As ``FasterRCNN``; hidden layers by Xavier's normal distribution, quality from 0.01."""
        values: dict[str, np.ndarray] = super().initial_values(draw)
        for name, value in self.named_parameters():
            shape = tuple(ops.shape(value))
            if name == "head.quality_out.weight":
                values[name] = initial.normal(draw(name), shape, 0.01)
            elif name == "head.quality_out.bias":
                values[name] = np.zeros(shape, np.float32)
            elif name.startswith("head.fcs.") and len(shape) == 2:
                values[name] = initial.normal(draw(name), shape, float(np.sqrt(2 / sum(shape))))
        return values

    @property
    def head_outputs(self) -> dict[str, int]:
        """Outputs of the head for each proposal, and how many numbers each has."""
        return {"cls_logits": 2, "box_deltas": 4, "quality_logits": 1}

    # -- training ------------------------------------------------------------------------------

    def training_targets(
        self, outputs: dict[str, Any], targets: Sequence[Targets]
    ) -> dict[str, Any]:
        """:meth:`assign` for objects without names."""
        nameless = [replace(target, labels=np.zeros_like(target.labels)) for target in targets]
        return super().training_targets(outputs, nameless)

    def assign(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """Targets of anchors and proposals: the part of :meth:`losses` on the host.

        Returns:
            ``rpn``, ``rpn_quality``, ``roi`` and ``roi_quality``, arrays alone.
        """
        goals: dict[str, Any] = super().assign(outputs, targets)
        c = self.settings
        share = float(goals["rpn"].weights.max(initial=0))
        if c.skip_border_targets:
            goals["rpn"] = without_border_targets(goals["rpn"])
        goals["rpn_quality"] = quality_targets(
            self.anchors.all_levels(*outputs["layout"]),
            targets,
            outputs["image_sizes"],
            matcher=self.quality_matcher,
            sampler=self.quality_sampler,
            border=c.rpn_border,
            share=share,
        )
        goals["roi_quality"] = roi_quality(goals["roi"])
        return goals

    def losses(
        self,
        outputs: dict[str, Any],
        targets: Sequence[Targets],
        sampled: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Loss terms, to be added up.

        Args:
            outputs: of :meth:`forward`.
            targets: objects of each image, in pixels of the input; labels do not matter.
            sampled: of :meth:`assign`, in place of drawing samples now.

        Returns:
            Scalar tensors ``loss_rpn_box``, ``loss_rpn_quality``, ``loss_cls``, ``loss_box`` and
            ``loss_quality``.
        """
        goals = self.training_targets(outputs, targets) if sampled is None else sampled
        goal = goals["rpn"].boxes
        chosen = ops.take(ops.reshape(outputs["rpn_deltas"], (-1, 4)), goal.index, axis=0)
        boxes = self.rpn_coder.decode(chosen, goal.anchors)
        each = iou_loss(boxes, ops.asarray(goal.boxes, like=boxes))
        weights = ops.asarray(goal.weights[:, None] * self.settings.rpn_box_weight, like=boxes)
        regions = self.roi_features(outputs["features"], goals["roi"].rois, goals["roi"].images)
        logits, deltas, quality = self.head(regions)
        return {
            "loss_rpn_box": ops.sum(each * weights),
            "loss_rpn_quality": _quality_loss(outputs["rpn_logits"], goals["rpn_quality"]),
            **self.roi_losses(logits, deltas, goals["roi"]),
            "loss_quality": _quality_loss(quality, goals["roi_quality"]),
        }

    # -- inference -----------------------------------------------------------------------------

    def scores(self, outputs: dict[str, Any]) -> np.ndarray:
        """Scores ``(R, 2)``: ``p ** alpha * (centerness * IoU) ** (1 - alpha)``, and zeros.

        Proposals that came without scores count as certain.
        """
        alpha = np.float32(self.settings.alpha)
        known = softmax(ops.to_numpy(outputs["cls_logits"]))[:, 0]
        framed = sigmoid(ops.to_numpy(outputs["quality_logits"])[:, 0])
        if outputs.get("proposal_scores") is not None:
            framed = framed * np.concatenate(outputs["proposal_scores"])
        scores = known**alpha * framed ** (1 - alpha)
        return np.stack([scores, np.zeros_like(scores)], axis=1).astype(np.float32)

    def onnx_scores(self, graph: Any, outputs: Sequence[Any], quality: Any) -> Any:
        """:meth:`scores` in an ONNX graph."""
        from unidet.models.unidetector.export import cln_scores

        return cln_scores(self, graph, outputs, quality)


def _quality_loss(logits: Any, goal: QualityTargets) -> Any:
    chosen = ops.sigmoid(ops.take(ops.reshape(logits, (-1,)), goal.index, axis=0))
    each = ops.abs(chosen - ops.asarray(goal.wanted, like=chosen))
    return ops.sum(each * ops.asarray(goal.weights, like=chosen))
