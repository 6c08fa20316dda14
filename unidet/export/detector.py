"""Detecting with an exported file: onnxruntime and NumPy, no framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.data.preprocess import Preprocess
from unidet.data.proposals import placed
from unidet.errors import UserError
from unidet.export.packages import runtime_package
from unidet.files.reading import parse_json
from unidet.structures import Detections

if TYPE_CHECKING:
    from unidet.detector import Detector

SUFFIX = ".onnx"


class OnnxDetector:
    """Finds objects in photos with a file of :func:`unidet.export.export_onnx`.

    Attributes:
        config: name and arguments of the model.
        class_names: name of each label, where known.
        preprocess: how a photo becomes an input.
        session: the ``onnxruntime.InferenceSession``.
        first_stage: what finds the boxes that the model classifies, or None.

    Args:
        source: the file, or its content.
        providers: of onnxruntime, the preferred one first; the CPU by default.
        threads: of an operator; onnxruntime's choice by default.
        first_stage: for a model that classifies given boxes: a detector of one class.

    Raises:
        UserError: no such file, no ONNX file of unidet, or onnxruntime is missing.
    """

    def __init__(
        self,
        source: str | Path | bytes,
        *,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int | None = None,
        first_stage: OnnxDetector | Detector | None = None,
    ) -> None:
        runtime = runtime_package()
        place = "in memory" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise UserError(f"Invalid model {place}. Expected an ONNX file. Found none.")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = runtime.InferenceSession(
                source if isinstance(source, bytes) else str(source),
                options,
                providers=list(providers),
            )
        except Exception as error:  # onnxruntime has classes of its own for each failure
            raise UserError(
                f"Invalid model {place}. Expected an ONNX file. onnxruntime says: {error}"
            ) from error
        metadata = _metadata(self.session.get_modelmeta().custom_metadata_map, place)
        self.config: dict[str, Any] = metadata["model"]
        self.class_names: tuple[str, ...] | None = tuple(metadata["class_names"]) or None
        self.preprocess = Preprocess.from_dict(metadata["preprocess"])
        self._inputs = {one.name for one in self.session.get_inputs()}
        self.first_stage: OnnxDetector | Detector | None = None
        if first_stage is not None:
            self.set_first_stage(first_stage)

    @property
    def needs_proposals(self) -> bool:
        """Whether the model classifies boxes that something else finds."""
        return "proposals" in self._inputs

    def set_first_stage(self, first_stage: OnnxDetector | Detector) -> None:
        """Makes the model classify what a detector of one class finds.

        Raises:
            UserError: the model finds its boxes itself, or the other one has several classes.
        """
        if not self.needs_proposals:
            raise UserError(
                "Invalid value for `first_stage`. Expected none, because "
                f"{self.config['name']} finds its boxes itself. Received one."
            )
        count = len(first_stage.class_names or ())
        if count != 1:
            raise UserError(
                "Invalid value for `first_stage`. Expected a detector of one class. "
                f"Received one of {count or 'unnamed'} classes."
            )
        self.first_stage = first_stage

    def __call__(
        self,
        image: np.ndarray | str | Path,
        score_threshold: float = 0.3,
        proposals: np.ndarray | None = None,
    ) -> Detections:
        """Detects objects.

        Args:
            image: a file, or ``(h, w, 3)`` uint8 RGB.
            score_threshold: detections of lower score are left out. The model's own threshold
                holds as well.
            proposals: for a model that takes them, ``(n, 4)`` or, with scores, ``(n, 5)`` boxes
                in pixels of the original; those of the first stage by default.

        Returns:
            Detections by falling score, in pixels of the original.

        Raises:
            UserError: an image that cannot be read, or proposals missing.
            ValueError: a threshold outside [0, 1], or proposals of another shape.
        """
        from unidet.data.images import read_image

        if not 0 <= score_threshold <= 1:
            raise ValueError(
                "Invalid value for `score_threshold`. Expected a number in [0, 1]. "
                f"Received {score_threshold!r}."
            )
        pixels = read_image(image)
        batch = self.preprocess.batch([pixels])
        rows = self._proposals(pixels, proposals)
        if rows is not None:
            rows = placed(rows, batch.original_sizes[0], batch.image_sizes[0], batch.scales[0])
        return self.run(batch.images, batch.image_sizes[0], batch.scales[0], rows).above(
            score_threshold
        )

    def stream(
        self, images: Sequence[np.ndarray | str | Path], score_threshold: float = 0.3
    ) -> Iterator[Detections]:
        """Detections of one image after the other, each read when its turn comes."""
        for image in images:
            yield self(image, score_threshold)

    def run(
        self,
        image: np.ndarray,
        image_size: tuple[int, int],
        scale: tuple[float, float],
        proposals: np.ndarray | None = None,
    ) -> Detections:
        """Detections of an input that is made already; no score is left out.

        Args:
            image: ``(1, 3, H, W)`` float32, normalised and padded.
            image_size: ``(height, width)`` before padding.
            scale: ``(sy, sx)``, size of the input over size of the original.
            proposals: ``(n, 4)`` or ``(n, 5)`` float32 in pixels of the input.

        Raises:
            ValueError: proposals are missing or of another shape.
        """
        feed = {
            "image": np.asarray(image, np.float32),
            "image_size": np.array(image_size, np.int64),
            "scale": np.array(scale, np.float32),
        }
        if self.needs_proposals:
            scored = "proposal_scores" in self._inputs
            rows = np.asarray(proposals if proposals is not None else (), np.float32)
            if rows.ndim != 2 or rows.shape[1] not in ((5,) if scored else (4, 5)):
                raise ValueError(
                    "Invalid value for `proposals`. Expected shape "
                    f"{'(n, 5), with scores' if scored else '(n, 4) or (n, 5)'}. "
                    f"Received {'none' if proposals is None else f'shape {rows.shape}'}."
                )
            feed["proposals"] = np.ascontiguousarray(rows[:, :4])
            if scored:
                feed["proposal_scores"] = np.ascontiguousarray(rows[:, 4])
        boxes, scores, labels = self.session.run(["boxes_xyxy", "scores", "labels"], feed)
        return Detections(boxes, scores, labels, self.class_names)

    def _proposals(self, pixels: np.ndarray, given: np.ndarray | None) -> np.ndarray | None:
        """In pixels of the original, or None where the model takes none."""
        if not self.needs_proposals:
            if given is not None:
                raise ValueError(
                    "Invalid value for `proposals`. Expected none, because "
                    f"{self.config['name']} finds its boxes itself. Received some."
                )
            return None
        if given is not None:
            rows = np.asarray(given, np.float32)
            if rows.ndim != 2 or rows.shape[1] not in (4, 5):
                raise ValueError(
                    "Invalid value for `proposals`. Expected shape (n, 4) or (n, 5). "
                    f"Received shape {rows.shape}."
                )
            return rows
        if self.first_stage is None:
            raise UserError(
                "Missing first stage. Expected `first_stage` or --proposals-from, because "
                f"{self.config['name']} classifies boxes that another model finds."
            )
        found = self.first_stage(pixels, score_threshold=0.0)
        return np.column_stack([found.boxes_xyxy, found.scores])


def _metadata(entries: dict[str, str], place: str) -> dict[str, Any]:
    from unidet.export.write import FORMAT_VERSION

    if "unidet" not in entries:
        raise UserError(
            f"Invalid model {place}. Expected an ONNX file that `unidet export` wrote. "
            "Received one without unidet's metadata."
        )
    try:
        metadata = parse_json(entries["unidet"], place, "Metadata")
    except UserError as error:
        raise UserError(f"Invalid model {place}. {error}.") from None
    kinds = {"format_version": int, "model": dict, "class_names": list, "preprocess": dict}
    if not isinstance(metadata, dict) or any(
        not isinstance(metadata.get(key), kind) for key, kind in kinds.items()
    ):
        raise UserError(f"Invalid model {place}. Its metadata is damaged.")
    version = metadata["format_version"]
    if version > FORMAT_VERSION:
        raise UserError(
            f"Invalid model {place}. Expected format {FORMAT_VERSION} or older. "
            f"Received format {version}: a newer unidet wrote it."
        )
    found: dict[str, Any] = metadata
    return found
