"""A checkpoint that detects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.registry import backend_of
from unidet.checkpoint import load_checkpoint
from unidet.data.preprocess import Preprocess
from unidet.errors import UserError
from unidet.models import create_model, model_spec
from unidet.models.calling import outputs_of
from unidet.structures import Detections
from unidet.visualization.draw import read_image

DEVICES = ("cpu", "cuda")


def check_detects(name: str, source: str) -> None:
    """Refuses the checkpoint of a model that finds no boxes, such as a classifier.

    Args:
        name: of the model.
        source: the checkpoint, for the message.

    Raises:
        UserError: unknown model, or no detector.
    """
    if not hasattr(model_spec(name).constructor, "predict"):
        raise UserError(
            f"Invalid checkpoint {source}. Expected a detector. Received {name}, which finds no "
            f"boxes; it can be the start of one: train.weights={source}."
        )


class Detector:
    """Finds objects in photos with the model of a native checkpoint.

    Attributes:
        model: the model, native to its framework, in evaluation mode.
        class_names: name of each label.
        preprocess: how a photo becomes an input.
        backend: name of the framework.

    Args:
        checkpoint: a file that unidet wrote.
        backend: ``"torch"`` or ``"jittor"``; see :func:`unidet.backends.resolve`.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        UserError: no checkpoint of unidet, of a model that finds no boxes, or weights that do not
            fit their own config.
        BackendNotAvailableError: the framework is not installed.
    """

    def __init__(
        self, checkpoint: str | Path, backend: str | None = None, device: str = "cpu"
    ) -> None:
        if device not in DEVICES:
            raise ValueError(
                f"Invalid value for `device`. Expected one of {', '.join(DEVICES)}. "
                f"Received {device!r}."
            )
        content = load_checkpoint(checkpoint)
        check_detects(content.model["name"], str(checkpoint))
        arguments = dict(content.model.get("arguments", {}))
        model = create_model(content.model["name"], backend=backend, seed=None, **arguments)
        nn.load_arrays(model, content.arrays)
        self._attach(
            nn.to_device(model, device),
            Preprocess.from_dict(content.preprocess) if content.preprocess else None,
            content.class_names or None,
        )

    @classmethod
    def from_model(
        cls,
        model: Any,
        *,
        preprocess: Preprocess | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Detector:
        """A detector around a model that is already in memory; the model stays shared.

        Args:
            model: a model of either backend.
            preprocess: the model's own by default.
            class_names: the model's own by default.
        """
        detector = cls.__new__(cls)
        detector._attach(model, preprocess, class_names)
        return detector

    def _attach(
        self, model: Any, preprocess: Preprocess | None, class_names: Sequence[str] | None
    ) -> None:
        self.model = model
        self.backend = backend_of(model)
        self.preprocess = preprocess if preprocess is not None else model.preprocess
        names = class_names or getattr(model, "class_names", None)
        self.class_names: tuple[str, ...] | None = tuple(names) if names else None
        model.eval()

    def __call__(
        self,
        image: np.ndarray | str | Path | Sequence[np.ndarray | str | Path],
        score_threshold: float = 0.3,
    ) -> Any:
        """Detects objects.

        Args:
            image: a file, ``(h, w, 3)`` uint8 RGB, or a list of such.
            score_threshold: detections of lower score are left out. The model's own threshold,
                part of its config, holds as well.

        Returns:
            :class:`unidet.Detections` by falling score, in pixels of the original image; a list
            of them for a list of images.

        Raises:
            UserError: an image that cannot be read.
            ValueError: a threshold outside [0, 1].
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(
                "Invalid value for `score_threshold`. Expected a number in [0, 1]. "
                f"Received {score_threshold!r}."
            )
        if not isinstance(image, (list, tuple)):
            return self._detect(read_image(image), score_threshold)  # type: ignore[arg-type]
        return list(self.stream(image, score_threshold))

    def stream(
        self, images: Sequence[np.ndarray | str | Path], score_threshold: float = 0.3
    ) -> Iterator[Detections]:
        """Detections of one image after the other, each read when its turn comes."""
        for image in images:
            yield self._detect(read_image(image), score_threshold)

    def _detect(self, pixels: np.ndarray, score_threshold: float) -> Detections:
        batch = self.preprocess.batch([pixels])
        with ops.no_grad():
            outputs = outputs_of(self.model, batch)
            found = self.model.predict(outputs, batch)[0]
        if self.class_names is not None:
            found = Detections(found.boxes_xyxy, found.scores, found.labels, self.class_names)
        order = np.argsort(-found.scores, kind="stable")
        return found[order].above(score_threshold)
