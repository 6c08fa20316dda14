"""Speed of matching anchors with objects: the compiled kernel beside its NumPy form.

Run as ``python benchmarks/match.py [--rounds N]``. Anchors are those of an image of 800 x 1216 in
RetinaNet (nine a cell) and Faster R-CNN (three a cell, one level more); the forms take turns.
"""

from __future__ import annotations

import argparse

import numpy as np
from nms import interleaved, report, without_library

#: Anchors in a cell and stride of each level.
LEVELS = {"RetinaNet": (9, (8, 16, 32, 64, 128)), "Faster R-CNN": (3, (4, 8, 16, 32, 64))}
HEIGHT, WIDTH = 800, 1216
OBJECTS = (1, 8, 30)


def anchors(count: int, strides: tuple[int, ...]) -> np.ndarray:
    """``count`` boxes of several sizes and shapes around each cell of each level."""
    levels = []
    for stride in strides:
        rows, columns = -(-HEIGHT // stride), -(-WIDTH // stride)
        y, x = np.meshgrid(np.arange(rows) * stride, np.arange(columns) * stride, indexing="ij")
        centres = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
        areas = (stride * 4 * 2.0 ** (np.arange(count) // 3 / 3)) ** 2
        ratio = np.array([0.5, 1, 2])[np.arange(count) % 3]
        half = np.stack([np.sqrt(areas / ratio), np.sqrt(areas * ratio)], axis=1) / 2
        boxes = np.concatenate([centres - half, centres + half], axis=2)
        levels.append(boxes.reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    from unidet.backends import kernels

    if not kernels.available():
        parser.error("the compiled kernel library is not installed; see `unidet doctor`")
    rng = np.random.default_rng(0)
    print(f"medians of {arguments.rounds} rounds, ratio to the kernel")
    for name, (count, strides) in LEVELS.items():
        boxes = anchors(count, strides)
        for number in OBJECTS:
            corner = rng.uniform(0, 0.6, (number, 2)) * (WIDTH, HEIGHT)
            sides = rng.uniform(0.05, 0.4, (number, 2)) * (WIDTH, HEIGHT)
            objects = np.concatenate([corner, corner + sides], 1).astype(np.float32)

            def call(boxes: np.ndarray = boxes, objects: np.ndarray = objects) -> object:
                return kernels.match(boxes, objects)

            methods = {"kernel": call, "numpy": without_library(call)}
            title = f"{name} {len(boxes)} x {number}"
            report(title, interleaved(methods, arguments.rounds))


if __name__ == "__main__":
    main()
