"""What the two detectors that classify by text have in common."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.backends import ops
from unidet.models.base import ReadsText
from unidet.models.boxes.targets import check_labels
from unidet.models.clip.resnet import CLIPResNet
from unidet.models.faster_rcnn.losses import weighted_box_loss
from unidet.models.unidetector.box_head import CLIPBoxHead, cosine_logits, text_columns
from unidet.models.unidetector.calibration import open_scores
from unidet.models.unidetector.config import UniDetectorConfig
from unidet.models.unidetector.federated import class_targets
from unidet.structures import Targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unidet.models.faster_rcnn.fast_rcnn import FastRCNN

    _Base = FastRCNN
else:
    _Base = object


class OpenVocabulary(ReadsText, _Base):
    """Backbone and head of CLIP, class losses over sampled classes, replaceable vocabularies.

    Stands before ``FastRCNN`` or ``FasterRCNN`` among the bases of a detector.
    """

    config_class = UniDetectorConfig
    takes_dataset_ids = True
    mixes_classes = True
    settings: UniDetectorConfig

    def _build_network(self, c: Any) -> None:
        norm = {"norm": c.norm, "norm_eps": c.norm_eps}
        self.backbone = CLIPResNet(
            c.stages[:3],
            c.clip_width,
            norm_eval=c.norm_eval,
            frozen_stages=c.frozen_stages,
            **norm,
        )
        self.neck = None
        self.feature_channels = self.backbone.channels[-1]
        self.head = CLIPBoxHead(
            c.stages[3],
            c.clip_width,
            c.roi_size,
            c.embedding_dim,
            c.vocabulary_sizes or (c.num_classes,),
            several=bool(c.vocabulary_sizes),
            **norm,
        )
        #: Images of each class of each vocabulary, where known: see :meth:`set_image_counts`.
        self.image_counts: tuple[np.ndarray | None, ...] = (None,) * len(self.sizes)
        # Loading a checkpoint leaves a vocabulary alone that the user has given.
        self.kept_tensors = ()
        self._guest: tuple[tuple[str, ...] | None, Any] | None = None

    def initial_values(self, draw: Any) -> dict[str, np.ndarray]:
        """Those of the parts, whose classes have their own schemes."""
        return {}

    @property
    def proposal_limit(self) -> int | None:
        """Given proposals that are used in inference, the best first; None: all."""
        return self.settings.max_proposals_test

    @property
    def sizes(self) -> tuple[int, ...]:
        """Classes of each vocabulary."""
        return self.settings.vocabulary_sizes or (self.settings.num_classes,)

    def label_range(self, dataset: int = 0) -> tuple[int, int]:
        """Labels of the vocabulary of a data set."""
        return 0, self.sizes[dataset if self.settings.vocabulary_sizes else 0]

    def has_vocabulary(self) -> bool:
        """Whether any embedding differs from zero, as none does after the import of a backbone."""
        return bool(ops.to_numpy(self.head.text()).any())

    # -- vocabularies --------------------------------------------------------------------------

    def set_vocabulary(self, class_names: Sequence[str], embeddings: np.ndarray) -> None:
        """Replaces all vocabularies by one; weights stay.

        Args:
            class_names: one for each row.
            embeddings: ``(C, embedding_dim)``, of any norm.

        Raises:
            ValueError: another shape, values that are not finite, or a name that occurs twice.
        """
        names = tuple(class_names)
        rows = self.checked_embeddings(names, embeddings)
        self.head.set_text([rows])
        self._configure(
            replace(
                self.settings,
                num_classes=len(names),
                class_names=names,
                vocabulary_sizes=(),
                gamma=None,
                class_prior=None,
            )
        )
        self.image_counts = (None,)
        self.kept_tensors = tuple(f"head.{name}" for name in self.head.text_names)

    def set_training_vocabularies(self, embeddings: Sequence[np.ndarray]) -> None:
        """Gives the embeddings of all vocabularies that the model was made with.

        Args:
            embeddings: ``(C_i, embedding_dim)`` of each data set.

        Raises:
            ValueError: another number of them, or another shape.
        """
        if len(embeddings) != len(self.sizes):
            raise ValueError(
                f"Invalid value for `embeddings`. Expected {len(self.sizes)} arrays, one for each "
                f"vocabulary. Received {len(embeddings)}."
            )
        rows = [self._checked_rows(size, one) for size, one in zip(self.sizes, embeddings)]
        self.head.set_text(rows, bool(self.settings.vocabulary_sizes))
        self.kept_tensors = tuple(f"head.{name}" for name in self.head.text_names)

    def checked_embeddings(self, names: Sequence[str], embeddings: np.ndarray) -> np.ndarray:
        """Embeddings that fit names and model, float32.

        Raises:
            ValueError: they do not.
        """
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ValueError(
                    "Invalid value for `class_names`. Expected each name once. "
                    f"Received {name!r} twice."
                )
            seen.add(name)
        return self._checked_rows(len(names), embeddings)

    def _checked_rows(self, count: int, embeddings: np.ndarray) -> np.ndarray:
        rows = np.asarray(embeddings)
        expected = (count, self.settings.embedding_dim)
        if rows.shape != expected or not count:
            raise ValueError(
                f"Invalid value for `embeddings`. Expected shape {expected}: one row for each "
                f"class name, as long as the model's embeddings. Received shape {rows.shape}."
            )
        rows = rows.astype(np.float32)
        if not np.isfinite(rows).all():
            raise ValueError(
                "Invalid value for `embeddings`. Expected finite numbers. Received NaN or infinity."
            )
        return rows

    def using_vocabulary(self, class_names: Sequence[str], embeddings: np.ndarray) -> Any:
        """A context in which the model detects other classes; nothing of it is trained or saved.

        Where they are the model's own, its class prior holds; :meth:`scoring` inside gives another.

        Args:
            class_names: one for each row.
            embeddings: ``(C, embedding_dim)``.

        Raises:
            ValueError: see :meth:`set_vocabulary`.
        """
        names = tuple(class_names)
        return self._guesting(names, self._checked_rows(len(names), embeddings))

    @contextmanager
    def _guesting(self, names: tuple[str, ...], rows: np.ndarray) -> Iterator[None]:
        earlier = (self.settings, self._guest)
        guest = replace(
            self.settings,
            num_classes=len(names),
            class_names=names,
            vocabulary_sizes=(),
            # Counts of other classes say nothing about these.
            **({} if self.class_names == names else {"gamma": None, "class_prior": None}),
        )
        self._guest = ops.asarray(text_columns(rows), like=self.head.text())
        self._configure(guest)
        try:
            yield
        finally:
            self._guest = earlier[1]
            self._configure(earlier[0])

    def set_scoring(self, **changes: Any) -> None:
        """Changes ``beta``, ``gamma``, ``class_prior`` or limits such as ``max_detections``.

        Raises:
            ValueError: a value that makes no sense.
        """
        self._configure(replace(self.settings, **changes))

    @contextmanager
    def scoring(self, **changes: Any) -> Iterator[None]:
        """A context in which :meth:`set_scoring` holds.

        Raises:
            ValueError: a value that makes no sense.
        """
        earlier = self.settings
        self.set_scoring(**changes)
        try:
            yield
        finally:
            self._configure(earlier)

    def set_image_counts(self, counts: Sequence[np.ndarray | None]) -> None:
        """Tells in how many images of its data set each class occurs; those in none are not drawn.

        Args:
            counts: ``(C_i,)`` for each vocabulary, or None.

        Raises:
            ValueError: another length.
        """
        found = tuple(None if one is None else np.asarray(one) for one in counts)
        shapes = [None if one is None else one.shape for one in found]
        expected = [(size,) for size in self.sizes]
        if len(found) != len(expected) or any(
            s is not None and s != e for s, e in zip(shapes, expected)
        ):
            raise ValueError(
                f"Invalid value for `counts`. Expected shapes {expected} or None. "
                f"Received {shapes}."
            )
        self.image_counts = found

    # -- network -------------------------------------------------------------------------------

    def forward(
        self,
        images: Any,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        proposals: Sequence[np.ndarray] | None = None,
        dataset_ids: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """As the other base of the model, for images of several data sets.

        Args:
            images, image_sizes, proposals: see there.
            dataset_ids: data set of each image; the first by default.
        """
        outputs: dict[str, Any] = super().forward(images, image_sizes, proposals)
        count = len(outputs["image_sizes"])
        ids = [0] * count if not dataset_ids else [int(i) for i in dataset_ids]
        if len(ids) != count or (
            self.settings.vocabulary_sizes and not all(0 <= i < len(self.sizes) for i in ids)
        ):
            raise ValueError(
                f"Invalid value for `dataset_ids`. Expected {count} numbers from 0 to "
                f"{len(self.sizes) - 1}. Received {ids}."
            )
        outputs["dataset_ids"] = ids
        return outputs

    def check_proposals(self, proposals: Sequence[np.ndarray], count: int) -> dict[str, Any]:
        """As ``FastRCNN``, but for each image only the first of them."""
        c = self.settings
        limit = c.max_proposals_train if self.training else c.max_proposals_test
        found: dict[str, Any] = super().check_proposals(proposals, count)
        return {name: [one[:limit] for one in rows] for name, rows in found.items()}

    @property
    def head_outputs(self) -> dict[str, int]:
        """Outputs of the head for each proposal, and how many numbers each has."""
        return {"cls_logits": self.settings.label_count() + 1, "box_deltas": 4}

    def run_head(self, regions: Any) -> tuple[Any, ...]:
        """Logits of the vocabulary in use, and deltas."""
        return self.head(regions, self._guest)

    # -- training ------------------------------------------------------------------------------

    def check_targets(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> None:
        """Refuses labels that the vocabulary of an image's data set does not have."""
        several = bool(self.settings.vocabulary_sizes)
        for target, dataset in zip(targets, outputs["dataset_ids"]):
            check_labels(target, self.sizes[dataset if several else 0], None)

    def assign(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """Targets of the proposals, with the sampled classes: the part on the host."""
        goals: dict[str, Any] = super().assign(outputs, targets)
        c = self.settings
        goals["roi"] = class_targets(
            goals["roi"],
            self.sizes,
            outputs["dataset_ids"],
            background=self.rows.background,
            wanted=c.federated_classes,
            counts=self.image_counts,
            by_image=bool(c.vocabulary_sizes),
            weight=1.0 if c.vocabulary_sizes else c.class_weight,
        )
        return goals

    def head_losses(self, features: Sequence[Any], goal: Any) -> dict[str, Any]:
        """``loss_cls`` over the sampled classes and ``loss_box``."""
        c = self.settings
        vectors = self.head.features(self.roi_features(features, goal.rois, goal.images))
        total = None
        for group in goal.groups:
            own = vectors
            if len(goal.groups) > 1:
                own = ops.take(vectors, np.arange(group.start, group.stop), axis=0)
            text = ops.take(self.head.text(group.vocabulary), group.columns, axis=1)
            logits = cosine_logits(own, text)
            wanted = ops.asarray(group.wanted, like=logits)
            each = ops.binary_cross_entropy_with_logits(logits, wanted)
            part = ops.sum(each * ops.asarray(group.weights, like=logits))
            total = part if total is None else total + part
        deltas = self.head.box_out(vectors)
        loss_box = weighted_box_loss(deltas, goal.boxes, c.box_loss, c.box_beta, self.coder)
        return {
            "loss_cls": total,
            "loss_box": loss_box if c.box_weight == 1 else loss_box * c.box_weight,
        }

    # -- inference -----------------------------------------------------------------------------

    def scores(self, outputs: dict[str, Any]) -> np.ndarray:
        """Scores ``(R, C + 1)`` of the vocabulary in use.

        Raises:
            ValueError: ``beta`` is set and the proposals have no scores.
        """
        c = self.settings
        quality = outputs.get("proposal_scores")
        if c.beta is not None and quality is None:
            raise ValueError(
                "Invalid value for `proposals`. Expected shape (n, 5) with scores, because `beta` "
                f"is {c.beta}. Received shape (n, 4)."
            )
        return open_scores(
            ops.to_numpy(outputs["cls_logits"]),
            None if quality is None else np.concatenate(quality),
            beta=c.beta,
            gamma=c.gamma,
            class_prior=None if c.class_prior is None else np.asarray(c.class_prior),
        )

    def onnx_scores(self, graph: Any, outputs: Sequence[Any], quality: Any) -> Any:
        """:meth:`scores` in an ONNX graph."""
        from unidet.models.unidetector.export import text_scores

        return text_scores(self, graph, outputs, quality)
