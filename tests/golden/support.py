"""Golden outputs of peers: weights, stored tensors and how to compare with them."""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from unidet.backends import nn, ops
from unidet.structures import Batch, Detections, Targets

IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
IMAGENET_STD = np.array((0.229, 0.224, 0.225), np.float32)


@lru_cache(maxsize=1)
def _weights(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Golden:
    """One folder of golden outputs."""

    def __init__(self, sample_data: Path, name: str) -> None:
        root = sample_data / "golden"
        folder = root / "given" / name
        self.meta = json.loads((folder / "meta.json").read_text())
        self.outputs = np.load(folder / "outputs.npz")
        self._manifest = json.loads((folder / "manifest.json").read_text())
        self._tools = _weights(root / "weights.py")

    def state(self, zero_background: bool = False) -> dict[str, np.ndarray]:
        """The peer's tensors under the peer's names.

        Args:
            zero_background: zero the last column of each vocabulary of UniDetector.
        """
        state = self._tools.golden_state(self._manifest, self.meta["seed"], self.meta.get("scale"))
        key = "weights_crc32"
        if zero_background:
            key = "weights_crc32_zero_background"
            for name in state:
                if "zs_weights" in name:
                    state[name][:, -1] = 0
        assert self._tools.checksum(state) == self.meta[key]
        return state

    def __getitem__(self, key: str) -> np.ndarray:
        return self.outputs[key]

    def image(self, index: int) -> np.ndarray:
        """uint8 RGB."""
        return self.outputs[f"image{index}"]

    def check(
        self, key: str, tensor: Any, *, rtol: float = 1e-3, atol: float | None = None
    ) -> None:
        """Compares a tensor with its stored sample, shape and statistics.

        The absolute tolerance is in standard deviations of the stored tensor unless given.
        """
        array = np.asarray(tensor if isinstance(tensor, np.ndarray) else ops.to_numpy(tensor))
        assert tuple(array.shape) == tuple(self[f"{key}/shape"]), key
        mean, std, norm = self[f"{key}/stats"]
        atol = 1e-3 * std if atol is None else atol
        sample = array.reshape(-1)[:: int(self[f"{key}/step"])]
        np.testing.assert_allclose(sample, self[f"{key}/sample"], rtol, atol, err_msg=key)
        assert abs(array.mean(dtype=np.float64) - mean) <= 1e-2 * std, key
        assert abs(np.linalg.norm(array.astype(np.float64)) - norm) <= 1e-3 * norm, key


def normalised(image: np.ndarray) -> np.ndarray:
    """``(3, h, w)`` float32 from uint8 RGB with ImageNet's statistics."""
    return ((image.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)


def padded_batch(
    images: list[np.ndarray], size: tuple[int, int], scales: list[tuple[float, float]] | None = None
) -> Batch:
    """A batch of ``(3, h, w)`` arrays, padded with zeros at the bottom and right."""
    out = np.zeros((len(images), 3, *size), np.float32)
    for slot, image in zip(out, images):
        slot[:, : image.shape[1], : image.shape[2]] = image
    sizes = [image.shape[1:] for image in images]
    scales = scales or [(1.0, 1.0)] * len(images)
    original = [(round(h / sy), round(w / sx)) for (h, w), (sy, sx) in zip(sizes, scales)]
    return Batch(out, sizes, original, scales)


def as_targets(boxes: np.ndarray, labels: np.ndarray) -> Targets:
    """Ground truth without crowds."""
    return Targets(boxes.astype(np.float32), labels.astype(np.int64))


def norm_of(gradient: np.ndarray) -> float:
    """Its l2 norm."""
    return float(np.linalg.norm(gradient.astype(np.float64)))


def losses_and_norms(model: Any, batch: Batch) -> tuple[dict[str, float], dict[str, float]]:
    """Losses of a training step, and the l2 norm of every gradient."""
    losses, gradients = losses_and_gradients(model, batch)
    return losses, {name: norm_of(value) for name, value in gradients.items()}


def losses_and_gradients(
    model: Any, batch: Batch
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Losses of a training step, and every gradient."""
    weights = nn.trainable(model)
    losses: dict[str, Any] = {}

    def total(*_: Any) -> Any:
        outputs = model.run(batch)
        losses.update(model.losses(outputs, batch.targets))
        first, *others = losses.values()
        for value in others:
            first = first + value
        return first

    model.train()
    _, gradients = ops.grad(total, list(weights.values()))
    model.eval()
    arrays = {name: ops.to_numpy(value) for name, value in zip(weights, gradients)}
    return {name: float(ops.item(value)) for name, value in losses.items()}, arrays


def matched_share(
    found: Detections,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    corner: float = 0.05,
    score: float = 2e-3,
) -> float:
    """Share of the stored rows that have a detection of their own.

    A pair has one label, a close score, and IoU above 0.99 or corners within ``corner`` pixels.
    """
    free = np.ones(len(found), bool)
    hits = 0
    for box, value, label in zip(boxes, scores, labels):
        fits = free & (found.labels == label) & (np.abs(found.scores - value) < score)
        near = np.abs(found.boxes_xyxy - box).max(axis=1, initial=0) < corner
        candidates = np.flatnonzero(fits & (near | (_iou(found.boxes_xyxy, box) > 0.99)))
        if len(candidates):
            distance = np.abs(found.boxes_xyxy[candidates] - box).max(axis=1)
            free[candidates[distance.argmin()]] = False
            hits += 1
    return hits / max(len(boxes), 1)


def _iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    union = areas + np.clip(box[2:] - box[:2], 0, None).prod() - shared
    return shared / np.maximum(union, 1e-9)
