"""Parity: the same model with the same weights on two frameworks, compared number by number."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import unidet
from unidet.backends import nn
from unidet.backends.random import stream
from unidet.backends.registry import backend_of
from unidet.certificate.certificate import Certificate, Thresholds
from unidet.certificate.compare import Checker, compare_weights, hash_weights
from unidet.certificate.differences import sha256
from unidet.certificate.recording import Recording, write_recording
from unidet.certificate.run import run_side
from unidet.models import create_from
from unidet.models.base import DetectionModel, ReadsText, example_proposals
from unidet.structures import Batch, Targets

_PACKAGES = ("numpy", "torch", "jittor")


def certify(
    model_config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    batch: Batch | None = None,
    backends: Sequence[str] = ("torch", "jittor"),
    thresholds: Thresholds | None = None,
    gradients: bool = True,
    seed: int = 0,
) -> Certificate:
    """Compares a model on two backends.

    The first side runs to its end and is kept in a temporary file; the second is compared layer
    by layer as it runs, so that memory holds one model and one layer's answer at a time.

    Args:
        model_config: ``{"name", "arguments"}`` of :func:`unidet.create_model`.
        arrays: weights of both sides; fresh ones of ``seed`` by default.
        batch: images, with targets for losses and gradients; :func:`fixed_batch` by default.
        backends: the reference and the candidate; ``"torch:cuda"`` is PyTorch on the GPU.
        thresholds: limits of the verdict.
        gradients: whether losses and gradients are compared.
        seed: of fresh weights and of the fixed batch.

    Raises:
        ValueError: not two backends, or a device that is not there.
        BackendNotAvailableError: a framework is not installed.
    """
    if len(backends) != 2:
        raise ValueError(
            f"Invalid value for `backends`. Expected two names. Received {list(backends)}."
        )
    reference = build(model_config, arrays, backends[0], seed=seed)
    if batch is None:
        batch = fixed_batch(reference, seed=seed)
    weights = nn.state_arrays(reference)
    with tempfile.TemporaryDirectory(prefix="unidet-parity-") as folder:
        path = Path(folder) / "reference.npz"
        record(reference, batch, path, config=model_config, gradients=gradients)
        del reference
        candidate = build(model_config, weights, backends[1], seed=seed)
        return check(candidate, path, batch=batch, thresholds=thresholds)


def build(
    model_config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None,
    side: str | None,
    *,
    seed: int = 0,
) -> Any:
    """A model by its config, with the arrays as weights or fresh ones of the seed.

    The side is a backend, with ``:cuda`` behind it where it is to compute on the GPU.
    A fresh model that compares with text gets random text embeddings, since it has none of its
    own and would answer 0 for every class.
    """
    name, arguments = model_config["name"], dict(model_config.get("arguments", {}))
    fresh = seed if arrays is None else None
    backend, device = (None, "cpu") if side is None else _backend_and_device(side)
    model = create_from(name, arguments, backend=backend, seed=fresh)
    if arrays is not None:
        nn.load_arrays(model, arrays)
    elif isinstance(model, ReadsText):
        length = model.settings.embedding_dim
        draw = stream(seed, "vocabulary")
        model.set_training_vocabularies([draw.standard_normal((n, length)) for n in model.sizes])
    return nn.to_device(model, device)


def _backend_and_device(side: str) -> tuple[str, str]:
    backend, _, device = side.partition(":")
    if device not in ("", "cpu", "cuda"):
        raise ValueError(
            "Invalid value for `backends`. Expected a backend with ':cpu', ':cuda' or nothing "
            f"behind it. Received {side!r}."
        )
    return backend, device or "cpu"


def _side(model: Any) -> str:
    device = nn.device_of(model)
    return backend_of(model) if device == "cpu" else f"{backend_of(model)}:{device}"


def record(
    model: Any,
    batch: Batch,
    path: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    gradients: bool = True,
) -> None:
    """Runs the first side and writes all that it computes, its images and targets included.

    Args:
        model: a model of either backend.
        batch: images, with targets for losses and gradients.
        path: an ``.npz`` file; another process can check against it with another framework.
        config: ``{"name", "arguments"}``, to build the second side.
        gradients: whether losses and gradients are recorded.
    """
    norms: dict[str, float] = {}
    meta = {
        "backend": _side(model),
        "model": None if config is None else dict(config),
        "weights": hash_weights(nn.state_arrays(model)),
        "versions": versions(),
        "gradients": gradients,
        "gradient_norms": norms,
        "batch": _batch_meta(batch),
    }
    with write_recording(path, meta) as sink:
        for name, array in _batch_arrays(batch).items():
            sink("batch", name, array)

        def note(kind: str, name: str, array: np.ndarray) -> None:
            if kind == "gradient":
                norms[name] = float(np.linalg.norm(array.astype(np.float64)))
            sink(kind, name, array)

        run_side(model, batch, note, gradients=gradients)


def check(
    model: Any,
    path: str | Path,
    *,
    batch: Batch | None = None,
    thresholds: Thresholds | None = None,
) -> Certificate:
    """Runs the second side against a recording.

    Args:
        model: the same model with the same weights, of any backend.
        path: a file of :func:`record`.
        batch: the recorded one by default.
        thresholds: limits of the verdict.

    Raises:
        UserError: the file is no recording.
    """
    with Recording(path) as recording:
        meta = recording.meta
        batch = _recorded_batch(recording) if batch is None else batch
        certificate = Certificate(
            model=meta["model"],
            reference=meta["backend"],
            candidate=_side(model),
            versions={**meta["versions"], **versions()},
            inputs={
                "shape": list(batch.images.shape),
                "sha256": sha256(batch.images),
                "image_sizes": [list(size) for size in batch.image_sizes],
                "objects": [len(t) for t in batch.targets],
            },
            thresholds=thresholds or Thresholds(),
        )
        certificate.weights = compare_weights(meta["weights"], hash_weights(nn.state_arrays(model)))
        checker = Checker(recording, certificate)
        run_side(model, batch, checker, gradients=meta["gradients"], recorded=recording.get)
        checker.finish()
    return certificate


def fixed_batch(
    model: Any, *, images: int = 2, size: tuple[int, int] = (128, 160), seed: int = 0
) -> Batch:
    """Seeded images of soft blobs with a box around some, the same on every machine.

    Args:
        model: whose number of classes bounds the labels.
        images: how many; the second is smaller, so that padding takes part.
        size: ``(h, w)`` of the first, in pixels, unless the model takes one size only.
        seed: of everything.
    """
    rng = stream(seed, "parity")
    side = model.image_resolution
    height, width = size if side is None else (side, side)
    pixels = np.zeros((images, 3, height, width), np.float32)
    sizes, targets = [], []
    dataset_ids = _dataset_ids(model, images)
    for index in range(images):
        h, w = (height, width) if index == 0 else (height * 3 // 4, width * 4 // 5)
        rows, columns = np.mgrid[0:h, 0:w].astype(np.float32)
        boxes = []
        for blob in range(6):
            cy, cx = rng.uniform(0.2, 0.8, 2) * (h, w)
            ry, rx = rng.uniform(0.08, 0.2, 2) * (h, w)
            colour = rng.normal(0, 2, (3, 1, 1))
            shape = np.exp(-(((rows - cy) / ry) ** 2) - ((columns - cx) / rx) ** 2)
            pixels[index, :, :h, :w] += (colour * shape).astype(np.float32)
            if blob < 3:
                boxes.append([cx - rx, cy - ry, cx + rx, cy + ry])
        pixels[index, :, :h, :w] += rng.normal(0, 0.1, (3, h, w)).astype(np.float32)
        corners = np.clip(np.array(boxes), 0, [w, h, w, h]).astype(np.float32)
        sizes.append((h, w))
        labels = rng.integers(*label_range(model, dataset_ids[index]), len(boxes))
        targets.append(Targets(corners, labels.astype(np.int64)))
    scales = [(1.0, 1.0)] * images
    ids = list(range(1, images + 1))
    given = example_proposals(model, sizes)
    return Batch(pixels, sizes, sizes, scales, targets, ids, dataset_ids, given)


def _dataset_ids(model: Any, images: int) -> list[int]:
    """Images of every data set in turn, for a model with a vocabulary for each."""
    count = len(model.sizes) if isinstance(model, ReadsText) else 1
    return [index % count for index in range(images)]


def label_range(model: Any, dataset: int = 0) -> tuple[int, int]:
    """Lowest label that the model learns and one past the highest.

    Args:
        model: of either backend.
        dataset: which vocabulary, where the model has several.
    """
    return model.label_range(dataset) if isinstance(model, DetectionModel) else (0, 1)


def versions() -> dict[str, str]:
    """Versions of unidet, Python, the machine and the installed frameworks, none imported."""
    found = {
        "unidet": unidet.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _batch_meta(batch: Batch) -> dict[str, Any]:
    return {
        "image_sizes": [list(map(int, size)) for size in batch.image_sizes],
        "original_sizes": [list(map(int, size)) for size in batch.original_sizes],
        "scales": [list(map(float, scale)) for scale in batch.scales],
        "image_ids": [int(i) for i in batch.image_ids],
        "dataset_ids": [int(i) for i in batch.dataset_ids],
        "targets": len(batch.targets),
    }


def _batch_arrays(batch: Batch) -> dict[str, np.ndarray]:
    arrays = {"images": batch.images}
    for index, target in enumerate(batch.targets):
        for name in ("boxes_xyxy", "labels", "crowd", "ignore"):
            arrays[f"{name}/{index}"] = getattr(target, name)
    return arrays


def _recorded_batch(recording: Recording) -> Batch:
    meta = recording.meta["batch"]

    def array(name: str) -> Any:
        return recording.get("batch", name)

    targets = [
        Targets(*(array(f"{name}/{i}") for name in ("boxes_xyxy", "labels", "crowd", "ignore")))
        for i in range(meta["targets"])
    ]
    return Batch(
        array("images"),
        [tuple(size) for size in meta["image_sizes"]],
        [tuple(size) for size in meta["original_sizes"]],
        [tuple(scale) for scale in meta["scales"]],
        targets,
        meta["image_ids"],
        meta["dataset_ids"],
    )
