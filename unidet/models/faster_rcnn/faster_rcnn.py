"""Faster R-CNN (Ren et al. 2015), with a pyramid (Lin et al. 2017) or on C4 (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.backends.nn import initial
from unidet.models.arguments import built_from
from unidet.models.boxes.anchors import AnchorGenerator
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.boxes.scores import sigmoid
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.faster_rcnn.fast_rcnn import FastRCNN
from unidet.models.faster_rcnn.losses import weighted_box_loss
from unidet.models.faster_rcnn.proposals import ProposalSelector
from unidet.models.faster_rcnn.rpn import RPNHead
from unidet.models.faster_rcnn.targets import RPNTargets, rpn_targets
from unidet.models.layers.initialization import convolution_shapes
from unidet.structures import Targets


class FasterRCNN(FastRCNN):
    """Two-stage detector: a region proposal network and a head that looks at its proposals.

    Proposals, matching and sampling are the host's work, so both frameworks see the same boxes.

    Args:
        config: a :class:`unidet.models.faster_rcnn.config.FasterRCNNConfig`, or its arguments.
    """

    family = "faster_rcnn"
    needs_proposals = False
    makes_proposals = True

    @built_from(FasterRCNNConfig)
    def __init__(self, config: FasterRCNNConfig) -> None:
        super().__init__(config)
        c = config
        self.anchors = AnchorGenerator(
            c.anchor_sizes,
            c.anchor_ratios,
            c.anchor_strides,
            rounding=c.anchor_rounding,
            offset=c.anchor_offset,
            stride_rule=c.anchor_stride_rule,
            order=c.anchor_order,
        )
        self.rpn_coder = BoxCoder(log_limit=c.box_log_limit, log_limit_both=c.box_log_limit_both)
        self.rpn_matcher = Matcher(
            c.rpn_positive_iou,
            c.rpn_negative_iou,
            low_quality=c.rpn_low_quality,
            low_quality_iou=c.rpn_low_quality_iou,
            ignore_overlap=c.ignore_overlap,
        )
        self.rpn_sampler = RandomSampler(c.rpn_batch, c.rpn_positive_fraction)
        self.select_proposals = ProposalSelector(
            self.rpn_coder,
            nms_iou=c.rpn_nms_iou,
            min_side=c.rpn_min_side,
            score_threshold=c.rpn_score_threshold,
        )
        self.rpn = self._build_rpn()

    def _build_rpn(self) -> Any:
        return RPNHead(self.feature_channels, self.anchors.per_cell, self.settings.rpn_convs)

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """As ``FastRCNN``; the proposal network starts from a narrow normal distribution."""
        values: dict[str, np.ndarray] = super().initial_values(draw)
        for name, shape in convolution_shapes(self).items():
            if name.startswith("rpn."):
                bias = name.endswith(".bias")
                values[name] = (
                    np.zeros(shape, np.float32) if bias else initial.normal(draw(name), shape, 0.01)
                )
        return values

    def forward(
        self,
        images: Any,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        proposals: Sequence[np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Raw outputs for normalised, padded images ``(N, 3, H, W)``.

        Args:
            images: the batch.
            image_sizes: ``(height, width)`` of each image before padding, which proposals must
                not leave; the padded size by default.
            proposals: ``(n, 4)`` of each image in pixels of the input, in place of the network's
                own.

        Returns:
            ``rpn_logits`` ``(N, A)``, ``rpn_deltas`` ``(N, A, 4)``, levels one after the other;
            ``features``, the maps that the head reads; ``layout`` and ``image_sizes``, plain
            numbers. In evaluation mode also what ``FastRCNN.forward`` returns, and
            ``proposal_scores``, probabilities ``(n,)`` of each image.
        """
        maps = self.feature_maps(images, image_sizes)
        outputs = {**self.first_stage(maps.pop("levels")), **maps}
        if proposals is not None:
            outputs.update(self.check_proposals(proposals, len(outputs["image_sizes"])))
        if not self.training:
            if proposals is None:
                outputs["proposals"], outputs["proposal_scores"] = self.propose(outputs)
            outputs.update(self.classify(outputs["features"], outputs["proposals"]))
        return outputs

    def first_stage(self, levels: Sequence[Any]) -> dict[str, Any]:
        """Raw outputs of the region proposal network."""
        logits, deltas = self.rpn(levels)
        return {"rpn_logits": logits, "rpn_deltas": deltas}

    def propose(
        self, outputs: dict[str, Any], train: bool = False
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Proposals ``(n, 4)`` float32 of each image by falling score, and their probabilities.

        Args:
            outputs: of :meth:`forward`; no gradient flows from the proposals.
            train: keep as many as in training.
        """
        c = self.settings
        logits = ops.to_numpy(outputs["rpn_logits"])
        deltas = ops.to_numpy(outputs["rpn_deltas"])
        levels = self.anchors(*outputs["layout"])
        boxes, scores = [], []
        for own_logits, own_deltas, size in zip(logits, deltas, outputs["image_sizes"]):
            found, values = self.select_proposals(
                own_logits,
                own_deltas,
                levels,
                image_size=size,
                pre_nms=c.rpn_pre_nms_train if train else c.rpn_pre_nms_test,
                post_nms=c.rpn_post_nms_train if train else c.rpn_post_nms_test,
            )
            boxes.append(found)
            scores.append(sigmoid(values))
        return boxes, scores

    def assign_anchors(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> RPNTargets:
        """Targets of the anchors, as arrays."""
        c = self.settings
        return rpn_targets(
            self.anchors.all_levels(*outputs["layout"]),
            targets,
            outputs["image_sizes"],
            matcher=self.rpn_matcher,
            sampler=self.rpn_sampler,
            coder=self.rpn_coder,
            border=c.rpn_border,
            normalizer=c.rpn_normalizer,
        )

    def assign(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """Targets of anchors and proposals: the part of :meth:`losses` on the host.

        Returns:
            ``rpn`` (``RPNTargets``) and ``roi`` (``RoITargets``), arrays alone, so that they may
            be handed to a model on the other framework.
        """
        # The targets of anchors need no outputs, so a GPU works on meanwhile.
        anchors = self.assign_anchors(outputs, targets)
        if "proposals" not in outputs:
            outputs = {**outputs, "proposals": self.propose(outputs, train=True)[0]}
        return {"rpn": anchors, **super().assign(outputs, targets)}

    def losses(
        self,
        outputs: dict[str, Any],
        targets: Sequence[Targets],
        sampled: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Loss terms, to be added up.

        Args:
            outputs: of :meth:`forward`. Proposals are those in it, or made with the limits of
                training where there are none.
            targets: objects of each image, in pixels of the input.
            sampled: of :meth:`assign`, in place of drawing samples now.

        Returns:
            Scalar tensors ``loss_rpn_cls``, ``loss_rpn_box``, ``loss_cls`` and ``loss_box``.

        Raises:
            ValueError: a label that the model cannot learn, or a wrong number of targets.
        """
        goals = self.training_targets(outputs, targets) if sampled is None else sampled
        return {
            **self.first_stage_losses(outputs, goals["rpn"]),
            **self.head_losses(outputs["features"], goals["roi"]),
        }

    def first_stage_losses(self, outputs: dict[str, Any], goal: RPNTargets) -> dict[str, Any]:
        """Losses of the region proposal network on sampled anchors."""
        logits = ops.take(ops.reshape(outputs["rpn_logits"], (-1,)), goal.index, axis=0)
        labels = ops.asarray(goal.labels, like=logits)
        each = ops.binary_cross_entropy_with_logits(logits, labels)
        c = self.settings
        loss_box = weighted_box_loss(
            outputs["rpn_deltas"], goal.boxes, c.rpn_loss, c.rpn_beta, self.rpn_coder
        )
        return {
            "loss_rpn_cls": ops.sum(each * ops.asarray(goal.weights, like=logits)),
            "loss_rpn_box": loss_box,
        }
