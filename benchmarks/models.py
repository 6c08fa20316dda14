"""All models, both backends: inference, training and the exported file, side by side.

The sides of a model run in one process and take turns on the same image and objects, from the
image on the host to detections, or to new weights (SGD). Weights are fresh. A ratio is the median
of the ratios of single rounds to PyTorch in float32.

    python benchmarks/models.py [--only NAME ...] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from sides import Step, measure, targets

import unidet
from unidet.backends import ops, optim
from unidet.engine.stepper import Stepper
from unidet.export import OnnxDetector
from unidet.export.write import onnx_bytes
from unidet.structures import Batch, Targets

HEIGHT, WIDTH = 320, 416
CLASSES = 80
PROPOSALS = 100
#: A C4 head keeps much of the network for each region; 64 of them fit a benchmark.
FEW = {"roi_batch": 64}
#: Arguments of each model beside the number of classes.
MODELS: dict[str, dict[str, Any]] = {
    **{f"retinanet_r{depth}_fpn": {} for depth in (18, 34, 50, 101, 152)},
    "faster_rcnn_r50_fpn": {},
    "faster_rcnn_r50_c4": FEW,
    "fast_rcnn_r50_fpn": {},
    "detr_r50": {},
    "detr_r50_dc5": {},
    "unidetector_cln_r50_fpn": {},
    "unidetector_stage2_r50_c4": FEW,
    "unidetector_e2e_r50_c4": FEW,
}
#: Those that classify boxes which something else has found.
GIVEN = ("fast_rcnn_r50_fpn", "unidetector_stage2_r50_c4")
BACKENDS = ("torch", "jittor")


def make_batch(name: str) -> Batch:
    """One image with twelve objects, and boxes for a model that is given some."""
    rng = np.random.default_rng(0)
    goal = targets(rng, 1, HEIGHT, WIDTH)[0]
    boxes = np.minimum(goal.boxes_xyxy, np.float32([WIDTH, HEIGHT] * 2))
    corner = rng.uniform(0, 0.6, (PROPOSALS - len(boxes), 2)) * (WIDTH, HEIGHT)
    sides = rng.uniform(0.1, 0.4, corner.shape) * (WIDTH, HEIGHT)
    rows = np.concatenate([boxes, np.concatenate([corner, corner + sides], axis=1)])
    proposals = np.concatenate([rows, rng.uniform(0.1, 1, (len(rows), 1))], axis=1)
    images = rng.normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
    full = [(HEIGHT, WIDTH)]
    return Batch(
        images,
        full,
        full,
        [(1.0, 1.0)],
        [Targets(boxes, goal.labels % (1 if "cln" in name else CLASSES))],
        proposals=[proposals.astype(np.float32)] if name in GIVEN else [],
    )


def make_model(name: str, backend: str) -> Any:
    """A fresh model, with a vocabulary where it classifies by text."""
    classes = {} if "cln" in name else {"num_classes": CLASSES}
    model = unidet.create_model(name, backend=backend, **classes, **MODELS[name])
    if hasattr(model, "set_vocabulary"):
        vectors = np.random.default_rng(0).normal(size=(CLASSES, model.head.embedding_dim))
        model.set_vocabulary([str(i) for i in range(CLASSES)], vectors.astype(np.float32))
    return model


def detecting(model: Any, batch: Batch) -> Step:
    """From an image to detections."""

    def step() -> float:
        model.eval()
        with ops.no_grad():
            return float(len(model.predict(model.run(batch), batch)[0]))

    return step


def training(model: Any, batch: Batch, **options: Any) -> Step:
    """From an image to new weights."""
    stepper = Stepper(model, optim.create("sgd", model, lr=1e-6, momentum=0.9), **options)

    def step() -> float:
        model.train()
        return float(stepper.step([batch], 1.0, lambda _: None)["loss"])

    return step


def in_onnxruntime(model: Any, batch: Batch) -> Step:
    """From an image to detections, without either framework."""
    model.eval()
    detector = OnnxDetector(onnx_bytes(model))
    given = batch.proposals[0] if batch.proposals else None
    return lambda: float(len(detector.run(batch.images, (HEIGHT, WIDTH), (1.0, 1.0), given)))


def cells(times: dict[str, list[float]]) -> str:
    """Milliseconds of PyTorch, and how the others compare."""
    base = times["torch"]
    found = [f"{statistics.median(base) * 1e3:8.0f} ms"]
    for name, values in times.items():
        if name != "torch":
            found.append(f"{statistics.median(a / b for a, b in zip(values, base)):8.2f}")
    return " ".join(found)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(
        f"1 x 3 x {HEIGHT} x {WIDTH}, {torch.get_num_threads()} threads, medians of "
        f"{args.rounds} rounds\n\n{'':26}inference                      training step\n"
        f"{'':26}      torch   jittor     onnx        torch   jittor     bf16"
    )
    for name in args.only:
        batch = make_batch(name)
        models = {backend: make_model(name, backend) for backend in BACKENDS}
        sides = {backend: detecting(model, batch) for backend, model in models.items()}
        sides["onnx"] = in_onnxruntime(models["torch"], batch)
        inference = cells(measure(sides, args.rounds))
        sides = {backend: training(model, batch) for backend, model in models.items()}
        sides["bf16"] = training(make_model(name, "torch"), batch, amp="bf16")
        print(f"{name:26}{inference}  {cells(measure(sides, args.rounds))}", flush=True)


if __name__ == "__main__":
    main()
