"""Training step and inference of RetinaNet: torch, Jittor, and the same network in plain torch.

All sides run in one process, taking turns, on the same weights and images. A ratio is the median
of the ratios of single rounds, so that a busy machine disturbs both sides alike.

    python benchmarks/retinanet.py --depth 18 --size 240 320 --batch 4 --width 96 --rounds 15
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path

import numpy as np
import torch
import torch_twin
from sides import by_hand, load, measure, neutral, report, targets

import unidet
from unidet.backends import ops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, nargs="+", default=[18, 50])
    parser.add_argument("--size", type=int, nargs=2, default=[240, 320], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    height, width = args.size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(args.batch, 3, height, width)).astype(np.float32)
    goals = targets(rng, args.batch, height, width)
    rows = []
    for depth in args.depth:
        options = {"num_classes": 3, "fpn_channels": args.width, "seed": 0}
        models = {
            backend: unidet.create_model(f"retinanet_r{depth}_fpn", backend=backend, **options)
            for backend in ("torch", "jittor")
        }
        net = torch_twin.TwinRetinaNet(depth, 3, args.width)
        load(net, models["torch"])
        layout = models["torch"](ops.asarray(images, backend="torch"))["layout"]
        # By hand the targets are worked out as well: the host's part is the same code.
        goal = functools.partial(models["torch"].assign, layout, goals)
        for train in (False, True):
            hand = by_hand(
                net,
                images,
                lambda x, net=net: net(x)[0],
                lambda x, net=net, goal=goal: torch_twin.loss(*net(x), goal()),
                train,
            )
            sides = {"torch by hand": hand}
            for backend, model in models.items():
                sides[f"unidet {backend}"] = neutral(model, images, goals, train)
            title = (
                f"RetinaNet-{depth}, {args.batch} x 3 x {height} x {width}, width {args.width}, "
                f"{'training step' if train else 'inference'}, {torch.get_num_threads()} threads"
            )
            rows += report(title, measure(sides, args.rounds))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
