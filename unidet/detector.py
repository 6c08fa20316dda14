"""A checkpoint that detects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from unidet.backends import nn, ops
from unidet.backends.memory import Releases
from unidet.backends.registry import FRAMEWORKS, backend_of, check_name
from unidet.checkpoints.native import Checkpoint, check_finite, load_checkpoint, write_checkpoint
from unidet.data.images import read_image
from unidet.data.preprocess import Preprocess
from unidet.data.proposals import placed
from unidet.errors import UserError
from unidet.models import DetectionModel, ReadsText, create_from, model_spec
from unidet.structures import Batch, Detections

if TYPE_CHECKING:
    from unidet.text.embedding import Progress

DEVICES = ("cpu", "cuda")


def check_detects(name: str, source: str) -> None:
    """Refuses the checkpoint of a model that finds no boxes, such as a classifier.

    Args:
        name: of the model.
        source: the checkpoint, for the message.

    Raises:
        UserError: unknown model, or no detector.
    """
    if not issubclass(model_spec(name).constructor, DetectionModel):
        raise UserError(
            f"Invalid checkpoint {source}. Expected a detector. Received {name}, which finds no "
            f"boxes; it can be the start of one: train.weights={source}."
        )


def check_vocabulary(model: Any, source: str = "of the detector") -> None:
    """Refuses a model that classifies by text and has no text vectors yet.

    Args:
        model: a model of either backend.
        source: the checkpoint, for the message.

    Raises:
        UserError: all its vectors are zero, as after the import of a backbone.
    """
    if isinstance(model, ReadsText) and not model.has_vocabulary():
        raise UserError(
            f"Invalid vocabulary {source}. Expected text vectors of the classes to find. Received "
            "zeros alone; set_vocabulary, --classes or --embeddings gives others."
        )


class Detector:
    """Finds objects in photos with the model of a native checkpoint.

    Attributes:
        model: the model, native to its framework, in evaluation mode.
        class_names: name of each label.
        preprocess: how a photo becomes an input.
        backend: name of the framework.
        device: where it computes.
        first_stage: the detector whose boxes the model classifies, or None.

    Args:
        checkpoint: a file that unidet wrote.
        backend: ``"torch"`` or ``"jittor"``; see :func:`unidet.backends.resolve`.
        device: ``"cpu"`` or ``"cuda"``.
        first_stage: for a model that classifies given boxes: a checkpoint, or a detector, that
            finds them; its detections if it has one class, else its network's proposals.
        allow_non_finite: takes weights that hold NaN or infinity, too.

    Raises:
        UserError: no checkpoint of unidet, of a model that finds no boxes, weights that are not
            finite or do not fit their own config, or a first stage for a model that takes none.
        BackendNotAvailableError: the framework is not installed.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        backend: str | None = None,
        device: str = "cpu",
        *,
        first_stage: str | Path | Detector | None = None,
        allow_non_finite: bool = False,
    ) -> None:
        if device not in DEVICES:
            raise ValueError(
                f"Invalid value for `device`. Expected one of {', '.join(DEVICES)}. "
                f"Received {device!r}."
            )
        if backend is not None:
            check_name(backend, FRAMEWORKS)
        content = load_checkpoint(checkpoint)
        check_detects(content.model["name"], str(checkpoint))
        if not allow_non_finite:
            check_finite(content.arrays, checkpoint)
        arguments = dict(content.model.get("arguments", {}))
        model = create_from(content.model["name"], arguments, backend=backend, seed=None)
        nn.load_arrays(model, content.arrays)
        self._attach(
            nn.to_device(model, device),
            Preprocess.from_dict(content.preprocess) if content.preprocess else None,
            content.class_names or None,
            device,
        )
        if first_stage is not None:
            self.set_first_stage(first_stage)

    @classmethod
    def from_model(
        cls,
        model: Any,
        *,
        preprocess: Preprocess | None = None,
        class_names: Sequence[str] | None = None,
        first_stage: str | Path | Detector | None = None,
    ) -> Detector:
        """A detector around a model that is already in memory; the model stays shared.

        Args:
            model: a model of either backend.
            preprocess: the model's own by default.
            class_names: the model's own by default.
            first_stage: see :class:`Detector`.
        """
        detector = cls.__new__(cls)
        detector._attach(model, preprocess, class_names, "cpu")
        if first_stage is not None:
            detector.set_first_stage(first_stage)
        return detector

    def _attach(
        self,
        model: Any,
        preprocess: Preprocess | None,
        class_names: Sequence[str] | None,
        device: str,
    ) -> None:
        self.model = model
        self.device = device
        self.first_stage: Detector | None = None
        self._has_vocabulary = False
        self._releases = Releases()
        self.backend = backend_of(model)
        self.preprocess = preprocess if preprocess is not None else model.preprocess
        names = class_names or model.class_names
        self.class_names: tuple[str, ...] | None = tuple(names) if names else None
        model.eval()

    def set_first_stage(self, first_stage: str | Path | Detector) -> None:
        """Makes the model classify what another detector finds.

        Args:
            first_stage: a checkpoint, or a detector.

        Raises:
            UserError: the model finds its boxes itself, or the other one offers none.
        """
        if not self.model.needs_proposals:
            raise UserError(
                "Invalid value for `first_stage`. Expected none, because "
                f"{self.model.config['name']} finds its boxes itself. Received one."
            )
        from unidet.evaluation.propose import choose_stage

        origin = "" if isinstance(first_stage, Detector) else f" {first_stage}"
        if not isinstance(first_stage, Detector):
            first_stage = Detector(first_stage, backend=self.backend, device=self.device)
        try:
            choose_stage(first_stage.model)
        except UserError:
            raise UserError(
                f"Invalid first stage{origin}. Expected a model of one class or with a region "
                f"proposal network. Received {first_stage.model.config['name']} with "
                f"{len(first_stage.class_names or ()) or 'several'} classes."
            ) from None
        self.first_stage = first_stage

    def set_vocabulary(
        self,
        class_names: Sequence[str],
        embeddings: np.ndarray | str | Path | Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        clip: str | Path | None = None,
        templates: str | Path = "unidetector",
        clean: str = "official",
        bpe: str | Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Makes the model find other classes; its weights stay.

        Vectors that CLIP computes are kept in the folder of ``UNIDET_CACHE`` (by default the
        user's cache folder), so that a name costs its time once.

        Args:
            class_names: what to find, each name once.
            embeddings: ``(C, D)`` numbers in the order of the names, a table from name to vector,
                or a ``.npy`` of ``unidet embed``, of which the named rows are picked.
            clip: checkpoint of the CLIP whose image tower the model has, which makes the vectors
                in place of ``embeddings``; that of ``UNIDET_CLIP`` by default.
            templates: sentences that CLIP reads: a named set or a file.
            clean: how names become text: a key of :data:`unidet.text.names.CLEANING`.
            bpe: CLIP's file of merges, where it is neither installed nor named by ``UNIDET_BPE``.
            progress: told how many sentences of how many are done.

        Raises:
            UserError: the model's classes are fixed, neither or both sources, names that occur
                twice or have no vector, or a file that does not fit.
            ValueError: vectors of another number or length than names and model have.
        """
        from unidet.text.lookup import checked_names, find_vectors

        if not isinstance(self.model, ReadsText):
            raise UserError(
                "Invalid model. Expected one that classifies by text, such as "
                f"unidetector_e2e_r50_c4. Received {self.model.config['name']}, whose classes are "
                "fixed."
            )
        names = checked_names(class_names)
        vectors = find_vectors(
            names,
            embeddings,
            length=self.model.settings.embedding_dim,
            clip=clip,
            templates=templates,
            clean=clean,
            vocabulary=bpe,
            backend=self.backend,
            device=self.device,
            progress=progress,
        )
        self.model.set_vocabulary(names, vectors)
        self.class_names = names

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes a checkpoint of the model as it is, with the classes that it finds now.

        Args:
            path: destination.
            overwrite: replace an existing file.

        Raises:
            UserError: the file exists, or its folder does not.
            RunFailedError: the disk refused the write.
        """
        content = Checkpoint(
            nn.state_arrays(self.model),
            self.model.config,
            self.class_names or (),
            self.preprocess.to_dict(),
        )
        write_checkpoint(path, content, overwrite=overwrite)

    @overload
    def __call__(
        self, image: np.ndarray | str | Path, score_threshold: float = 0.3
    ) -> Detections: ...
    @overload
    def __call__(
        self,
        image: list[np.ndarray] | list[str] | list[Path] | list[np.ndarray | str | Path],
        score_threshold: float = 0.3,
    ) -> list[Detections]: ...
    def __call__(
        self,
        image: np.ndarray | str | Path | Sequence[np.ndarray | str | Path],
        score_threshold: float = 0.3,
    ) -> Detections | list[Detections]:
        """Detects objects.

        Args:
            image: a file, ``(h, w, 3)`` uint8 RGB, or a list of such.
            score_threshold: detections of lower score are left out. The model's own threshold,
                part of its config, holds as well.

        Returns:
            :class:`unidet.Detections` by falling score, in pixels of the original image; a list
            of them for a list of images.

        Raises:
            UserError: an image that cannot be read, a model that classifies given boxes without a
                first stage, or one that classifies by text without a vocabulary.
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

    def _propose(self, pixels: np.ndarray, batch: Batch) -> list[np.ndarray]:
        """What the first stage finds, in pixels of the input: as if it came from a file."""
        from unidet.evaluation.propose import choose_stage, propose

        first = self.first_stage
        if first is None:
            raise UserError(
                f"Missing first stage. Expected `first_stage` or --proposals-from, because "
                f"{self.model.config['name']} classifies boxes that another model finds."
            )
        own = first.preprocess.batch([pixels])
        rows = propose(first.model, [own], stage=choose_stage(first.model))[0]
        return [placed(rows, batch.original_sizes[0], batch.image_sizes[0], batch.scales[0])]

    def _detect(self, pixels: np.ndarray, score_threshold: float) -> Detections:
        if not self._has_vocabulary:  # looked at once: it may be large
            check_vocabulary(self.model)
            self._has_vocabulary = True
        batch = self.preprocess.batch([pixels])
        if self.model.needs_proposals:
            batch.proposals = self._propose(pixels, batch)
        with ops.no_grad():
            outputs = self.model.run(batch)
            found = self.model.predict(outputs, batch)[0]
        self._releases.used()
        if self.class_names is not None:
            found = Detections(found.boxes_xyxy, found.scores, found.labels, self.class_names)
        order = np.argsort(-found.scores, kind="stable")
        return found[order].above(score_threshold)
