"""Ways to compute a training step on PyTorch: half precision, compiled, channels innermost.

All sides train the same model on the same images in one process and by turns; a ratio is the
median of the ratios of single rounds to plain float32.

    python benchmarks/precision.py [--device cuda] [--rounds 15]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from sides import Step, measure, report, targets

import unidet
from unidet.backends import nn, optim
from unidet.engine.stepper import Stepper
from unidet.structures import Batch

#: Model, arguments, batch, height and width, on each device.
CASES: dict[str, list[tuple[str, dict[str, Any], int, int, int]]] = {
    "cpu": [
        ("retinanet_r18_fpn", {"fpn_channels": 96}, 4, 240, 320),
        ("faster_rcnn_r18_fpn", {"fpn_channels": 96}, 4, 240, 320),
    ],
    "cuda": [
        ("retinanet_r50_fpn", {}, 2, 800, 1216),
        ("faster_rcnn_r50_fpn", {}, 2, 800, 1216),
        ("detr_r50", {}, 2, 800, 1216),
    ],
}
#: Name of each side: options of the stepper, and how weights lie in memory (None: as unidet does).
SIDES: dict[str, tuple[dict[str, Any], torch.memory_format | None]] = {
    "unidet torch": ({}, None),
    "channels last": ({}, torch.channels_last),
    "compiled": ({"compiled": True}, None),
    "bf16": ({"amp": "bf16"}, None),
    "bf16, NCHW": ({"amp": "bf16"}, torch.contiguous_format),
    "bf16, compiled": ({"amp": "bf16", "compiled": True}, None),
    "fp16": ({"amp": "fp16"}, None),
}
#: CPUs have no fast arithmetic for it.
GPU_ONLY = ("fp16",)


def side(
    name: str, arguments: dict[str, Any], batch: Batch, device: str, options: Any, layout: Any
) -> Step:
    """A training step, from images on the host to new weights."""
    model = unidet.create_model(name, backend="torch", seed=0, num_classes=3, **arguments)
    model = nn.to_device(model, device)
    model.train()
    stepper = Stepper(model, optim.create("sgd", model, lr=1e-6), device=device, **options)
    if layout is not None:
        model.to(memory_format=layout)
    return lambda: stepper.step([batch], 1.0, lambda _: None)["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=list(SIDES), help="beside plain float32")
    args = parser.parse_args()
    for name, arguments, count, height, width in CASES[args.device]:
        rng = np.random.default_rng(0)
        images = rng.normal(size=(count, 3, height, width)).astype(np.float32)
        goals = targets(rng, count, height, width)
        for goal in goals:
            goal.boxes_xyxy = np.minimum(goal.boxes_xyxy, np.float32([width, height] * 2))
        full = [(height, width)] * count
        batch = Batch(images, full, full, [(1.0, 1.0)] * count, goals, list(range(count)))
        sides = {
            label: side(name, arguments, batch, args.device, *how)
            for label, how in SIDES.items()
            if (not args.only or label in ("unidet torch", *args.only))
            and (args.device == "cuda" or label not in GPU_ONLY)
        }
        title = f"{name}, {count} x 3 x {height} x {width}, training step, {args.device}"
        report(title, measure(sides, args.rounds), "unidet torch")


if __name__ == "__main__":
    main()
