"""Fast R-CNN (Girshick 2015): classifies and refines proposals that are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from unidet.backends import ops
from unidet.backends.nn import initial
from unidet.models.arguments import Arguments, built_from
from unidet.models.base import DetectionModel, require_one_each
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.boxes.scores import softmax
from unidet.models.boxes.targets import check_labels
from unidet.models.faster_rcnn.box_head import BoxHead
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.faster_rcnn.losses import weighted_box_loss
from unidet.models.faster_rcnn.postprocess import RoIPostProcess
from unidet.models.faster_rcnn.roi_levels import roi_levels
from unidet.models.faster_rcnn.targets import RoITargets, class_rows, roi_targets
from unidet.models.layers.fpn import FPN
from unidet.models.layers.initialization import convolution_shapes
from unidet.models.layers.resnet import ResNet, hold_norms
from unidet.structures import Batch, Detections, Targets

#: Strides of the maps that proposals are cut out of.
STRIDES = {"fpn": (4, 8, 16, 32), "c4": (16,)}
#: Numbers cut out at a time when no gradient is needed: 256 MiB in float32.
CHUNK = 2**26


class FastRCNN(DetectionModel):
    """Two-stage detector without a first stage: proposals come with the images.

    Args:
        config: a :class:`unidet.models.faster_rcnn.config.FasterRCNNConfig`, or its arguments.

    Labels run from 0 to ``num_classes - 1``. In torchvision's presets they are slots: 91 of them,
    slot 0 is the background and slot ``i`` the COCO category with id ``i``.
    """

    #: How names of the model begin.
    family: ClassVar[str] = "fast_rcnn"
    config_class: ClassVar[type[Arguments]] = FasterRCNNConfig
    named_arguments = ("depth", "style")
    takes_image_sizes = takes_proposals = True
    needs_proposals = True
    exports_onnx = True
    #: Given proposals that are used in inference, the best first; None: all.
    proposal_limit: int | None = None
    settings: Any

    @built_from(FasterRCNNConfig)
    def __init__(self, config: FasterRCNNConfig) -> None:
        super().__init__(config)
        c = config
        self.model_name = f"{self.family}_r{c.depth}_{c.style}"
        self.coder = BoxCoder(
            c.box_std, log_limit=c.box_log_limit, log_limit_both=c.box_log_limit_both
        )
        self.matcher = Matcher(
            c.roi_positive_iou,
            c.roi_negative_iou,
            low_quality=c.roi_low_quality,
            ignore_overlap=c.ignore_overlap,
        )
        self.sampler = RandomSampler(c.roi_batch, c.roi_positive_fraction)
        self._configure(c)
        self._build_network(c)

    def _configure(self, c: FasterRCNNConfig) -> None:
        """Takes over the arguments that decide about classes and about what is kept."""
        self.settings = c
        self.class_names = c.class_names
        self.rows = class_rows(c)
        self.postprocess = RoIPostProcess(
            self.coder,
            self.rows,
            c.label_count(),
            score_threshold=c.score_threshold,
            nms_iou=c.nms_iou,
            soft_nms=c.soft_nms,
            soft_sigma=c.soft_sigma,
            soft_min_score=c.soft_min_score,
            max_detections=c.max_detections,
            min_side=c.min_side,
            drop_empty=c.drop_empty,
            rescale=c.rescale,
        )

    def _build_network(self, c: FasterRCNNConfig) -> None:
        norm = {"norm": c.norm, "norm_eps": c.norm_eps, "stride_in_1x1": c.stride_in_1x1}
        self.backbone = ResNet(
            c.depth,
            norm_eval=c.norm_eval,
            frozen_stages=c.frozen_stages,
            stages=4 if c.style == "fpn" else 3,
            **norm,
        )
        self.feature_channels = self.backbone.channels[-1]
        self.neck = None
        if c.style == "fpn":
            self.feature_channels = c.fpn_channels
            self.neck = FPN(
                self.backbone.channels,
                c.fpn_channels,
                extra="pool",
                upsample=c.upsample,
                norm=c.fpn_norm,
                norm_eps=c.norm_eps,
            )
        self.head = BoxHead(
            c.head,
            self.feature_channels,
            c.roi_size,
            channels=c.head_channels,
            class_rows=c.class_rows,
            box_rows=c.box_rows,
            conv_norm=c.head_norm,
            depth=c.depth,
            **norm,
        )

    def initial_values(self, draw: Callable[[str], np.random.Generator]) -> dict[str, np.ndarray]:
        """Weights of pyramid and head by the scheme of ``init``; the backbone has its own."""
        scheme = self.settings.init
        shapes = {name: tuple(ops.shape(value)) for name, value in self.named_parameters()}
        convolutions = convolution_shapes(self)
        values = {}
        for name, shape in shapes.items():
            part, _, kind = name.rpartition(".")
            zeros = np.zeros(shape, np.float32)
            if name.startswith("neck.") and name in convolutions:
                uniform = initial.xavier_uniform if scheme == "mmdet" else initial.kaiming_uniform
                values[name] = uniform(draw(name), shape) if kind == "weight" else zeros
            elif name in convolutions and name.startswith(("head.convs.", "head.res5.")):
                draws = initial.kaiming_normal(draw(name), shape) if kind == "weight" else None
                values[name] = zeros if draws is None else draws
            elif part.startswith(("head.fcs.", "head.cls_out", "head.box_out")):
                if scheme == "torchvision":
                    continue  # torch's default for linear layers
                if kind == "bias":
                    values[name] = zeros
                elif part.startswith("head.fcs."):
                    uniform = (
                        initial.xavier_uniform if scheme == "mmdet" else initial.kaiming_uniform
                    )
                    values[name] = uniform(draw(name), shape)
                else:
                    std = 0.01 if part == "head.cls_out" else 0.001
                    values[name] = initial.normal(draw(name), shape, std)
        return values

    def train(self, mode: bool = True) -> Any:
        """As usual, except that norms which must not learn statistics stay as they are."""
        super().train(mode)
        if mode and self.settings.norm_eval:
            hold_norms(self)
        return self

    @classmethod
    def accepted(cls) -> tuple[str, ...]:
        """Names of the arguments that ``create_model`` takes: none of a proposal network."""
        names: tuple[str, ...] = super().accepted()
        if cls.makes_proposals:
            return names
        return tuple(name for name in names if not name.startswith(("rpn_", "anchor_")))

    def feature_maps(
        self, images: Any, image_sizes: Sequence[tuple[int, int]] | None
    ) -> dict[str, Any]:
        """``levels``, ``features`` (those that the head reads), ``layout`` and ``image_sizes``."""
        features = self.backbone(images)
        levels = features[-1:] if self.neck is None else self.neck(features)
        count, _, *padded = ops.shape(images)
        size = tuple(int(side) for side in padded)
        sizes = [size] * count if image_sizes is None else [tuple(s) for s in image_sizes]
        require_one_each(sizes, count, "image_sizes")
        shapes = tuple(tuple(int(side) for side in ops.shape(x)[2:]) for x in levels)
        return {
            "levels": levels,
            "features": list(levels[: len(STRIDES[self.settings.style])]),
            "layout": (size, shapes),
            "image_sizes": sizes,
        }

    def forward(
        self,
        images: Any,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        proposals: Sequence[np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Raw outputs for normalised, padded images ``(N, 3, H, W)`` and their proposals.

        Args:
            images: the batch.
            image_sizes: ``(height, width)`` of each image before padding; the padded size by
                default.
            proposals: ``(n, 4)`` of each image, in pixels of the input; a fifth column holds
                their scores.

        Returns:
            ``features``, ``layout``, ``image_sizes`` and ``proposals`` (float32; with scores also
            ``proposal_scores``); in evaluation mode also ``cls_logits`` ``(R, rows)`` and
            ``box_deltas`` ``(R, 4 * groups)`` of the proposals of all images, one image after the
            other, and ``roi_counts``.

        Raises:
            ValueError: no proposals, or of a wrong shape.
        """
        outputs: dict[str, Any] = self.feature_maps(images, image_sizes)
        del outputs["levels"]
        if proposals is None:
            raise ValueError(
                "Missing argument `proposals`. Expected the proposals of each image, which "
                "Fast R-CNN does not make itself. Received none."
            )
        outputs.update(self.check_proposals(proposals, len(outputs["image_sizes"])))
        if not self.training:
            outputs.update(self.classify(outputs["features"], outputs["proposals"]))
        return outputs

    def check_proposals(self, proposals: Sequence[np.ndarray], count: int) -> dict[str, Any]:
        """``proposals`` as float32 corners and, where they have them, ``proposal_scores``.

        Raises:
            ValueError: not one ``(n, 4)`` or ``(n, 5)`` array of finite numbers for each image.
        """
        found = [np.asarray(boxes, np.float32) for boxes in proposals]
        shapes = [boxes.shape for boxes in found]
        columns = {s[1] if len(s) == 2 else 0 for s in shapes}
        if len(found) != count or columns not in ({4}, {5}):
            raise ValueError(
                f"Invalid value for `proposals`. Expected an array of shape (n, 4), or (n, 5) with "
                f"scores, for each of {count} images. Received {shapes}."
            )
        if not all(np.isfinite(boxes).all() for boxes in found):
            raise ValueError(
                "Invalid value for `proposals`. Expected finite numbers. Received NaN or infinity."
            )
        corners = {"proposals": [np.ascontiguousarray(boxes[:, :4]) for boxes in found]}
        if columns == {4}:
            return corners
        return {**corners, "proposal_scores": [boxes[:, 4] for boxes in found]}

    def classify(self, features: Sequence[Any], proposals: Sequence[np.ndarray]) -> dict[str, Any]:
        """Outputs of the head for the proposals of all images, and ``roi_counts``."""
        counts = [len(boxes) for boxes in proposals]
        rois = np.concatenate(proposals)
        images = np.repeat(np.arange(len(counts)), counts)
        c = self.settings
        step = max(CHUNK // (self.feature_channels * c.roi_size**2), 1)
        answers = [
            self.run_head(self.roi_features(features, rois[i : i + step], images[i : i + step]))
            for i in range(0, len(rois), step)
        ]
        if not answers:
            widths = self.head_outputs.values()
            answers = [tuple(ops.zeros((0, width), like=features[0]) for width in widths)]
        joined = (
            part[0] if len(part) == 1 else ops.concat(list(part), axis=0) for part in zip(*answers)
        )
        return {**dict(zip(self.head_outputs, joined)), "roi_counts": counts}

    def run_head(self, regions: Any) -> tuple[Any, ...]:
        """The tensors of :attr:`head_outputs` for ``regions`` ``(R, C, roi_size, roi_size)``."""
        return self.head(regions)

    @property
    def head_outputs(self) -> dict[str, int]:
        """Outputs of the head for each proposal, in their order, and how many numbers each has."""
        c = self.settings
        return {"cls_logits": c.class_rows, "box_deltas": 4 * c.box_rows}

    def roi_features(self, features: Sequence[Any], rois: np.ndarray, images: np.ndarray) -> Any:
        """``(R, C, roi_size, roi_size)``: what the maps hold where the proposals lie.

        Args:
            features: maps, finest first.
            rois: ``(R, 4)`` float32 pixels of the input.
            images: ``(R,)`` image of each.
        """
        c = self.settings
        strides = STRIDES[c.style]
        return ops.roi_align_levels(
            features,
            rois,
            images,
            roi_levels(rois, c.roi_level_rule, len(strides)),
            c.roi_size,
            scales=[1 / stride for stride in strides],
            sampling_ratio=c.roi_sampling_ratio,
            aligned=c.roi_aligned,
        )

    def assign(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """Targets of the proposals: the part of :meth:`losses` on the host.

        Returns:
            ``roi`` (``RoITargets``), arrays alone, so that they may be handed to a model on the
            other framework.
        """
        goal = roi_targets(
            outputs["proposals"],
            targets,
            matcher=self.matcher,
            sampler=self.sampler,
            coder=self.coder,
            rows=self.rows,
            add_ground_truth=self.settings.add_ground_truth,
        )
        return {"roi": goal}

    def training_targets(
        self, outputs: dict[str, Any], targets: Sequence[Targets]
    ) -> dict[str, Any]:
        """:meth:`assign` after a look at the targets.

        Raises:
            ValueError: a label that the model cannot learn, or a wrong number of targets.
        """
        require_one_each(targets, len(outputs["image_sizes"]), "targets")
        self.check_targets(outputs, targets)
        return self.assign(outputs, targets)

    def check_targets(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> None:
        """Refuses labels that the model does not have."""
        for target in targets:
            check_labels(target, self.settings.num_classes, self.settings.background_slot)

    def losses(
        self,
        outputs: dict[str, Any],
        targets: Sequence[Targets],
        sampled: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Loss terms ``loss_cls`` and ``loss_box``, to be added up.

        Args:
            outputs: of :meth:`forward`.
            targets: objects of each image, in pixels of the input.
            sampled: of :meth:`assign`, in place of drawing samples now.

        Raises:
            ValueError: a label that the model cannot learn, or a wrong number of targets.
        """
        goals = self.training_targets(outputs, targets) if sampled is None else sampled
        return self.head_losses(outputs["features"], goals["roi"])

    def head_losses(self, features: Sequence[Any], goal: RoITargets) -> dict[str, Any]:
        """Losses of the head on sampled proposals."""
        logits, deltas = self.head(self.roi_features(features, goal.rois, goal.images))
        return self.roi_losses(logits, deltas, goal)

    def roi_losses(self, logits: Any, deltas: Any, goal: RoITargets) -> dict[str, Any]:
        """``loss_cls`` and ``loss_box`` of the head's outputs for sampled proposals."""
        c = self.settings
        each = ops.cross_entropy(logits, goal.classes)
        loss_box = weighted_box_loss(deltas, goal.boxes, c.box_loss, c.box_beta, self.coder)
        return {
            "loss_cls": ops.sum(each * ops.asarray(goal.weights, like=logits)),
            "loss_box": loss_box if c.box_weight == 1 else loss_box * c.box_weight,
        }

    def predict(self, outputs: dict[str, Any], batch: Batch) -> list[Detections]:
        """Detections of each image in pixels of the original, by falling score.

        Args:
            outputs: of :meth:`forward` in evaluation mode for ``batch.images``.
            batch: sizes and scales of the images.
        """
        deltas = ops.to_numpy(outputs["box_deltas"])
        scores = self.scores(outputs)
        borders = np.cumsum([0, *outputs["roi_counts"]])
        return [
            self.postprocess(
                scores[start:stop],
                deltas[start:stop],
                outputs["proposals"][i],
                image_size=batch.image_sizes[i],
                scale=batch.scales[i],
                class_names=self.class_names,
            )
            for i, (start, stop) in enumerate(pairwise(borders))
        ]

    def scores(self, outputs: dict[str, Any]) -> np.ndarray:
        """Scores ``(R, rows)`` float32 of the proposals of all images."""
        return softmax(ops.to_numpy(outputs["cls_logits"]))

    def onnx_graph(self, graph: Any, parts: Any, inputs: Any) -> tuple[Any, Any, Any]:
        """See :meth:`unidet.models.DetectionModel.onnx_graph`."""
        from unidet.models.faster_rcnn.export import two_stage_graph

        return two_stage_graph(self, graph, parts, inputs)

    def onnx_scores(self, graph: Any, outputs: Sequence[Any], quality: Any) -> Any:
        """:meth:`scores` in an ONNX graph, of the head's outputs and the proposals' scores."""
        return graph.op("Softmax", outputs[0], axis=1)
