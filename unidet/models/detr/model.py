"""DETR (Carion et al. 2020): ResNet, transformer, and object queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.models.arguments import built_from
from unidet.models.base import DetectionModel, require_one_each
from unidet.models.boxes.geometry import from_centres
from unidet.models.boxes.scores import softmax
from unidet.models.detr.config import DETRConfig
from unidet.models.detr.criterion import SetCriterion, SetTargets
from unidet.models.detr.positions import positions_of
from unidet.models.detr.transformer import Dropouts, Transformer
from unidet.models.layers.attention import padding_mask
from unidet.models.layers.resnet import ResNet
from unidet.structures import Batch, Detections, Targets


class _BoxMLP(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 4)]
        )

    def forward(self, x: Any) -> Any:
        first, second, last = self.layers
        return last(ops.relu(second(ops.relu(first(x)))))


class DETR(DetectionModel):
    """Detector without anchors and without NMS.

    Args:
        config: a :class:`unidet.models.detr.config.DETRConfig`, or its arguments.

    Labels run from 0 to ``num_classes - 1``; the published models use COCO's category ids.
    """

    config_class = DETRConfig
    named_arguments = ("depth", "dilation")
    takes_image_sizes = True
    exports_onnx = True
    settings: DETRConfig

    @built_from(DETRConfig)
    def __init__(self, config: DETRConfig) -> None:
        super().__init__(config)
        c = config
        self.model_name = f"detr_r{c.depth}{'_dc5' if c.dilation else ''}"
        self.criterion = SetCriterion(c)
        self.backbone = ResNet(
            c.depth,
            norm=c.norm,
            norm_eps=c.norm_eps,
            norm_eval=c.norm_eval,
            frozen_stages=c.frozen_stages,
            dilate_last=c.dilation,
        )
        self.input_proj = nn.Conv2d(self.backbone.channels[-1], c.width, 1)
        self.transformer = Transformer(
            c.width,
            c.heads,
            c.encoder_layers,
            c.decoder_layers,
            c.feedforward,
            Dropouts(c.dropout, c.attention_dropout, c.activation_dropout, c.input_dropout),
            c.renormalise,
        )
        self.query_embed = nn.Embedding(c.num_queries, c.width)
        self.class_embed = nn.Linear(c.width, c.num_classes + 1)
        self.bbox_embed = _BoxMLP(c.width)

    def forward(
        self, images: Any, image_sizes: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, Any]:
        """Raw outputs for normalised, padded images ``(N, 3, H, W)``.

        Args:
            images: the batch.
            image_sizes: ``(h, w)`` of each image without its padding; by default there is none.

        Returns:
            ``cls_logits`` ``(L, N, Q, K + 1)``, no object last, and ``boxes_cxcywh``
            ``(L, N, Q, 4)``, shares of the image without padding; one entry for each decoder
            layer with auxiliary losses, else of the last alone. ``image_sizes`` as given.

        Raises:
            ValueError: sizes of other images, or larger than the batch.
        """
        shape = ops.shape(images)
        sizes = _checked(image_sizes, shape)
        features = self.input_proj(self.backbone(images)[-1])  # (N, width, h, w)
        count, width, *grid = ops.shape(features)
        tokens = ops.transpose(ops.reshape(features, (count, width, -1)), (0, 2, 1))
        valid, pos = positions_of((shape[2], shape[3]), sizes, (grid[0], grid[1]), width)
        dtype = ops.dtype(features)
        mask = None if valid.all() else ops.asarray(padding_mask(valid), dtype, like=images)
        queries = self.settings.num_queries
        hidden_states = self.transformer(
            tokens,
            ops.asarray(pos, dtype, like=images),
            ops.broadcast_to(self.query_embed.weight, (count, queries, width)),
            mask,
            self.settings.auxiliary_losses,
        )
        decoded = ops.stack(hidden_states, axis=0)  # (L, N, Q, width)
        return {
            "cls_logits": self.class_embed(decoded),
            "boxes_cxcywh": ops.sigmoid(self.bbox_embed(decoded)),
            "image_sizes": sizes,
        }

    def training_targets(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> SetTargets:
        """Targets of the queries, as arrays: the part of :meth:`losses` on the host."""
        return self.criterion.assign(outputs, targets)

    def losses(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """Loss terms with their weights, to be added up.

        Args:
            outputs: of :meth:`forward`.
            targets: objects of each image, in pixels of the input.

        Returns:
            Scalar tensors ``loss_ce``, ``loss_bbox`` and ``loss_giou`` (or of another measure);
            of the earlier decoder layers with ``_0``, ``_1``, ... behind.

        Raises:
            ValueError: a label that the model cannot learn, or a wrong number of targets.
        """
        require_one_each(targets, len(outputs["image_sizes"]), "targets")
        return self.criterion.losses(outputs, self.training_targets(outputs, targets))

    def count(self, batch: Batch, *, like: Any = None) -> None:
        """Counts what :meth:`losses` divides by, see ``batch_split``; no network runs."""
        objects = self.criterion.objects(batch.targets, batch.image_sizes)
        counts = [len(labels) for labels, _ in objects]
        self.criterion.count(counts, self.settings.num_queries)

    def measures(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, float]:
        """What is watched and not trained on; see :meth:`SetCriterion.measures`."""
        return self.criterion.measures(outputs, targets)

    def predict(self, outputs: dict[str, Any], batch: Batch) -> list[Detections]:
        """Detections of each image in pixels of the original, by falling score.

        Each query gives its most likely class. Boxes are not clipped and nothing is suppressed.

        Args:
            outputs: of :meth:`forward` for ``batch.images``.
            batch: sizes of the images.
        """
        c = self.settings
        probabilities = softmax(ops.to_numpy(outputs["cls_logits"])[-1])[..., :-1]
        boxes = ops.to_numpy(outputs["boxes_cxcywh"])[-1]
        found = []
        for rows, places, (height, width) in zip(probabilities, boxes, batch.original_sizes):
            labels, scores = rows.argmax(axis=1), rows.max(axis=1)
            order = np.argsort(-scores, kind="stable")
            order = order[scores[order] > c.score_threshold][: c.max_detections]
            sides = np.array([width, height, width, height], np.float32)
            found.append(
                Detections(
                    from_centres(places[order]) * sides,
                    scores[order],
                    labels[order].astype(np.int64),
                    self.class_names,
                )
            )
        return found

    def onnx_graph(self, graph: Any, parts: Any, inputs: Any) -> tuple[Any, Any, Any]:
        """See :meth:`unidet.models.DetectionModel.onnx_graph`."""
        from unidet.models.detr.export import detr_graph

        return detr_graph(self, graph, parts, inputs)


def _checked(
    sizes: Sequence[tuple[int, int]] | None, shape: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    count, _, height, width = shape
    if sizes is None:
        return ((int(height), int(width)),) * count
    require_one_each(sizes, count, "image_sizes")
    plain = tuple((int(h), int(w)) for h, w in sizes)
    for h, w in plain:
        if not (1 <= h <= height and 1 <= w <= width):
            raise ValueError(
                f"Invalid value for `image_sizes`. Expected 1 to {height} by 1 to {width} pixels. "
                f"Received {h} by {w}."
            )
    return plain
