"""UniDetector: what the size of the vocabulary costs, soft-NMS included, and a training step.

The second stage classifies 100 proposals in the setting of LVIS (gaussian soft-NMS, 300
detections). "by class" is soft-NMS with one call for each class, the usual form, on the same
scores. Sides take turns in one process.

    python benchmarks/open_vocabulary.py --size 800 1216 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
from heap import as_alone

import unidet
from unidet.backends import kernels, ops, optim, random
from unidet.models.unidetector.calibration import open_scores
from unidet.models.unidetector.open_vocabulary import OpenVocabulary
from unidet.structures import Batch, Targets

CLASSES = (80, 1203, 13000)
PROPOSALS = 100
#: Proposals of an image that enter the loss; the official 512 take eight times as long on a CPU.
SAMPLED = 64


def make_batch(rng: np.random.Generator, size: tuple[int, int]) -> Batch:
    height, width = size
    corner = rng.uniform(0, 0.6, (PROPOSALS, 2)) * (width, height)
    sides = rng.uniform(0.05, 0.4, (PROPOSALS, 2)) * (width, height)
    rows = [corner, corner + sides, rng.uniform(0.1, 1, (PROPOSALS, 1))]
    proposals = np.concatenate(rows, axis=1).astype(np.float32)
    targets = Targets(proposals[:12, :4].copy(), rng.integers(0, 80, 12))
    images = rng.normal(size=(1, 3, height, width)).astype(np.float32)
    return Batch(images, [size], [size], [(1.0, 1.0)], [targets], proposals=[proposals])


def detect(model: Any, batch: Batch, backend: str) -> dict[str, float]:
    """Seconds of the network up to logits on the host, and of all that follows."""
    started = time.perf_counter()
    with ops.no_grad():
        outputs = model.run(batch)
    outputs = {**outputs, **{k: ops.to_numpy(outputs[k]) for k in ("cls_logits", "box_deltas")}}
    network = time.perf_counter() - started
    outputs = {**outputs, "cls_logits": ops.asarray(outputs["cls_logits"], backend=backend)}
    outputs["box_deltas"] = ops.asarray(outputs["box_deltas"], backend=backend)
    started = time.perf_counter()
    model.predict(outputs, batch)
    after = time.perf_counter() - started
    logits = ops.to_numpy(outputs["cls_logits"])
    started = time.perf_counter()
    scores = open_scores(logits, outputs["proposal_scores"][0], beta=model.settings.beta)
    return {
        "network": network,
        "after it": after,
        "of that scores": time.perf_counter() - started,
        "by class": by_class(scores[:, :-1], outputs["proposals"][0]),
    }


def by_class(scores: np.ndarray, boxes: np.ndarray) -> float:
    started = time.perf_counter()
    for label in range(scores.shape[1]):
        own = np.flatnonzero(scores[:, label] > 1e-4)
        kernels.soft_nms(boxes[own], scores[own, label], 0.5, 0.5, 1e-3, "gaussian")
    return time.perf_counter() - started


def train_step(model: Any, batch: Batch) -> float:
    optimizer = optim.create("sgd", model, lr=1e-6, momentum=0.9)
    model.train()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        with random.at(0, "step", 0):
            total, *others = model.losses(model.run(batch), batch.targets).values()
        for value in others:
            total = total + value
        optimizer.zero_grad()
        optimizer.backward(total)
        optimizer.step()
        ops.item(total)
        times.append(time.perf_counter() - started)
    model.eval()
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=[800, 1216], metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    batch = make_batch(rng, tuple(args.size))
    models: dict[str, OpenVocabulary] = {
        backend: unidet.create_model(
            "unidetector_stage2_r50_c4",
            backend=backend,
            max_detections=300,
            beta=0.3,
            roi_batch=SAMPLED,
        )
        for backend in ("torch", "jittor")
    }
    print(f"second stage, 1 x 3 x {args.size[0]} x {args.size[1]}, {PROPOSALS} proposals: ms")
    for count in CLASSES:
        vectors = rng.normal(size=(count, 1024)).astype(np.float32)
        times: dict[str, list[dict[str, float]]] = {backend: [] for backend in models}
        for backend, model in models.items():
            model.set_vocabulary([str(i) for i in range(count)], vectors)
            detect(model, batch, backend)
        for _ in range(args.rounds):
            for backend, model in models.items():
                as_alone(backend)
                times[backend].append(detect(model, batch, backend))
        for backend, rows in times.items():
            median = {name: statistics.median(row[name] for row in rows) * 1e3 for name in rows[0]}
            nms = median["after it"] - median["of that scores"]
            whole = median["network"] + median["after it"]
            print(
                f"  {count:6} classes  unidet {backend:7} network {median['network']:7.0f}   "
                f"scores {median['of that scores']:6.1f}   soft-NMS and boxes {nms:6.1f} "
                f"({nms / whole:.1%} of the image; by class {median['by class']:7.1f})"
            )
    print(f"training step, the same image, {SAMPLED} proposals, 80 and 13000 classes: ms")
    for backend, model in models.items():
        as_alone(backend)
        cells = []
        for count in (CLASSES[0], CLASSES[-1]):
            vectors = rng.normal(size=(count, 1024)).astype(np.float32)
            model.set_vocabulary([str(i) for i in range(count)], vectors)
            cells.append(f"{train_step(model, batch) * 1e3:.0f}")
        print(f"  unidet {backend:7} {' and '.join(cells)}")


if __name__ == "__main__":
    main()
