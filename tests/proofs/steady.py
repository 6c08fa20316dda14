"""Training on pictures of random size in a process of its own: its memory and its kernels.

``steady.py BACKEND MODEL STEPS`` prints one line of JSON; with ``predict`` after it, the process
only predicts, a photo in each step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Models that learn a step in a tenth of a second, by the name that tests use.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "retinanet": ("retinanet_r18_fpn", {"fpn_channels": 64, "head_depth": 1}),
    "faster_rcnn": (
        "faster_rcnn_r18_fpn",
        {
            "fpn_channels": 32,
            "head_channels": 64,
            "rpn_pre_nms_train": 200,
            "rpn_pre_nms_test": 200,
            "rpn_post_nms_train": 100,
            "rpn_post_nms_test": 50,
            "roi_batch": 64,
            "roi_sampling_ratio": 2,
        },
    ),
}
CLASSES = 3
#: Shortest and longest side; the last levels of a pyramid are one cell wide below 129.
SIDES = (40, 180)
#: Pictures and most objects in each of the first batches, so that every kind has come by soon.
FIRST = ((3, 7), (1, 7), (1, 0), (2, 0), (2, 7), (2, 1))
#: Steps between two predictions, after the first ones.
PREDICT_EVERY = 10


def measure(backend: str, model: str, steps: int, *, predict: bool = False) -> dict[str, Any]:
    """What a fresh process sees of itself.

    Args:
        backend: of the model.
        model: one of :data:`MODELS`.
        steps: how many.
        predict: a :class:`unidet.Detector` predicts a photo of random size in each step, and
            nothing is learnt.

    Returns:
        After each step: ``rss`` in MiB; Jittor's ``kernels`` loaded so far and ``nodes`` alive in
        its graph, 0 on torch; ``losses``.
    """
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), backend, model, str(steps)] + ["predict"] * predict,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"status {done.returncode}:\n{done.stderr[-3000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return found


def batches(model: Any, steps: int) -> Iterator[Any]:
    """Random pictures, each of its own size and with 0 to 7 objects; one to three in a batch.

    About every seventh batch holds no object at all.
    """
    import dataclasses

    from unidet.structures import Targets

    draw = np.random.default_rng(3)
    for step in range(steps):
        count, most = int(draw.choice([1, 2, 2, 2, 3])), 0 if draw.random() < 1 / 7 else 7
        if step < len(FIRST):
            count, most = FIRST[step]
        sizes = draw.integers(*SIDES, (count, 2), endpoint=True)
        if step == 0:
            # The largest first, so that what the allocators keep is there from the start.
            sizes = np.full((count, 2), SIDES[1])
        pictures = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        targets = []
        for height, width in sizes:
            objects = int(draw.integers(0, most, endpoint=True))
            corner = draw.uniform(0, 0.7, (objects, 2)) * (width, height)
            sides = draw.uniform(0.1, 0.3, (objects, 2)) * (width, height)
            boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
            targets.append(Targets(boxes, draw.integers(0, CLASSES, objects)))
        yield dataclasses.replace(model.preprocess.batch(pictures), targets=targets)


def main() -> None:
    """Trains and reports."""
    import unidet
    from unidet.backends import optim, random
    from unidet.doctor.jittor import loaded_kernels
    from unidet.engine.ema import Ema
    from unidet.engine.stepper import Stepper
    from unidet.evaluation.run import predictions

    backend, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    model_name, arguments = MODELS[name]
    arguments = {**arguments, "num_classes": CLASSES, "preprocess": {"resize": "none"}}
    model = unidet.create_model(model_name, backend=backend, **arguments)
    optimizer = optim.create("adamw", model, lr=1e-5, weight_decay=0.01)
    stepper = Stepper(model, optimizer, clip_grad_norm=1.0)
    average = Ema(model, 0.99)
    found: dict[str, list[Any]] = {"rss": [], "kernels": [], "nodes": [], "losses": []}
    if sys.argv[4:] == ["predict"]:
        detector, draw = unidet.Detector.from_model(model), np.random.default_rng(5)
        for _ in range(steps):
            size = draw.integers(40, 500, 2)
            detector(draw.integers(0, 256, (*size, 3), dtype=np.uint8))
            found["rss"].append(_resident())
        print("RESULT", json.dumps(found), flush=True)
        return
    for step, batch in enumerate(batches(model, steps)):
        model.train()
        with random.at(0, "step", step):
            values = stepper.step([batch], 1.0, lambda values: None)
        average.update(step + 1)
        if step < len(FIRST) or step % PREDICT_EVERY == 0:
            for _ in predictions(model, [batch]):
                pass
        found["rss"].append(_resident())
        found["kernels"].append(len(loaded_kernels()))
        found["nodes"].append(_nodes(backend))
        found["losses"].append(values["loss"])
    print("RESULT", json.dumps(found), flush=True)


def _resident() -> float:
    """Resident MiB of this process."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        pages = int(file.read().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _nodes(backend: str) -> int:
    if backend != "jittor":
        return 0
    from unidet.backends.jittor import jt

    return int(jt.number_of_lived_vars() + jt.number_of_lived_ops())


if __name__ == "__main__":
    main()
