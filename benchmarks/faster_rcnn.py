"""Faster R-CNN: torch, Jittor, and the same network in plain torch; and where the time goes.

All sides run in one process, taking turns, on the same weights and images. A ratio is the median
of the ratios of single rounds, so that a busy machine disturbs all sides alike.

    python benchmarks/faster_rcnn.py --size 800 1216 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_twin_two_stage
from heap import as_alone
from sides import Step, by_hand, load, measure, neutral, report, targets

import unidet
from unidet.backends import nn, ops, random
from unidet.backends.registry import backend_of
from unidet.structures import Targets

#: As published: norms and the first stage are held.
OPTIONS = {"norm_eval": True, "frozen_stages": 1, "roi_sampling_ratio": 2, "roi_batch": 512}


def twin(
    model: Any, depth: int, classes: int, images: np.ndarray, goals: list[Targets], train: bool
) -> Step:
    """The same step by hand; ``model`` lends its weights and the host's part."""
    net = torch_twin_two_stage.TwinFasterRCNN(depth, classes)
    load(net, model)

    def loss(x: torch.Tensor) -> torch.Tensor:
        outputs = net(x)
        with random.at(0, "step", 0):
            sampled = model.training_targets(outputs, goals)
        return net.losses(outputs, sampled)

    return by_hand(net, images, lambda x: net.detect(net(x))[0], loss, train)


def inference_parts(model: Any, images: np.ndarray) -> dict[str, float]:
    """Seconds of each part of one inference, brought to an end before the next begins."""
    model.train(False)
    times: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = work()
        tensors = found if isinstance(found, (list, tuple)) else [found]
        for value in tensors:
            if not isinstance(value, (list, np.ndarray)):
                ops.sync(value)
        times[name] = time.perf_counter() - started
        return found

    with ops.no_grad():
        x = ops.asarray(images, like=next(iter(nn.parameters(model).values())))
        features = timed("backbone", lambda: model.backbone(x))
        levels = timed("pyramid", lambda: model.neck(features))
        logits, deltas = timed("proposal network", lambda: model.rpn(levels))
        size = tuple(images.shape[2:])
        shapes = tuple(tuple(ops.shape(level)[2:]) for level in levels)
        outputs = {
            "rpn_logits": logits,
            "rpn_deltas": deltas,
            "layout": (size, shapes),
            "image_sizes": [size] * len(images),
        }
        boxes, _ = timed("proposals (host)", lambda: model.propose(outputs))
        which = np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
        rois = np.concatenate(boxes)
        cells = timed("RoIAlign", lambda: model.roi_features(levels[:4], rois, which))
        timed("box head", lambda: model.head(cells))
    return times


def report_parts(models: dict[str, Any], images: np.ndarray, rounds: int) -> None:
    print("\nparts of one inference: median ms and share")
    for backend, model in models.items():
        as_alone(backend_of(model))
        inference_parts(model, images)
        found = [inference_parts(model, images) for _ in range(rounds)]
        medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
        whole = sum(medians.values())
        cells = [f"{name} {t * 1e3:.0f} ({t / whole:.0%})" for name, t in medians.items()]
        print(f"  unidet {backend:7} " + ", ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=50, choices=(18, 50))
    parser.add_argument("--size", type=int, nargs=2, default=[800, 1216], metavar=("H", "W"))
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    height, width = args.size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 3, height, width)).astype(np.float32)
    goals = targets(rng, 1, height, width)
    name = f"faster_rcnn_r{args.depth}_fpn"
    models = {
        backend: unidet.create_model(
            name, backend=backend, num_classes=args.classes, seed=0, **OPTIONS
        )
        for backend in ("torch", "jittor")
    }
    assert [backend_of(model) for model in models.values()] == list(models)
    peer = "torchvision's" if torch_twin_two_stage.PEER is not None else "an embedding bag's"
    print(f"by hand: RoIAlign is {peer}")
    rows = []
    for train in (False, True):
        hand = twin(models["torch"], args.depth, args.classes, images, goals, train)
        sides = {"torch by hand": hand}
        for backend, model in models.items():
            sides[f"unidet {backend}"] = neutral(model, images, goals, train)
        answers = {side: step() for side, step in sides.items()}
        first = answers["torch by hand"]
        assert all(abs(a - first) < 1e-3 * max(abs(first), 0.1) for a in answers.values()), answers
        title = (
            f"Faster R-CNN-{args.depth}-FPN, 1 x 3 x {height} x {width}, "
            f"{'training step' if train else 'inference'}, {torch.get_num_threads()} threads"
        )
        rows += report(title, measure(sides, args.rounds))
    report_parts(models, images, max(args.rounds, 3))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
