"""DETR: torch, Jittor, and the same model in Hugging Face's transformers.

All sides run in one process, taking turns, on the same images and objects. A ratio is the median
of the ratios of single rounds, so that a busy machine disturbs all sides alike. `make bench`
installs transformers; by hand: pip install 'transformers>=5'.

    python benchmarks/detr.py --size 512 672 --rounds 7
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sides import Step, by_hand, measure, neutral, report, targets
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

import unidet
from unidet.models.boxes.geometry import to_centres
from unidet.structures import Targets

PEER = "transformers"


def make_peer(classes: int) -> torch.nn.Module:
    """DETR-50 with fresh weights; stem and first stage are held, as in unidet."""
    backbone = ResNetConfig(out_features=["stage4"])
    config = DetrConfig(use_timm_backbone=False, backbone_config=backbone, num_labels=classes)
    config.use_pretrained_backbone = False
    net = DetrForObjectDetection(config)
    for name, weight in net.named_parameters():
        if "backbone" in name:
            weight.requires_grad_(".embedder." not in name and ".stages.0." not in name)
    return net


def peer(net: torch.nn.Module, images: np.ndarray, goals: list[Targets], train: bool) -> Step:
    """One step of the peer, from images on the host to logits or new weights."""
    height, width = images.shape[2:]
    sides = np.array([width, height, width, height], np.float32)
    labels = [
        {
            "class_labels": torch.from_numpy(goal.labels),
            "boxes": torch.from_numpy(to_centres(goal.boxes_xyxy) / sides),
        }
        for goal in goals
    ]
    return by_hand(
        net, images, lambda x: net(x).logits, lambda x: net(x, labels=labels).loss, train
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=[512, 672], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--classes", type=int, default=91)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    height, width = args.size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(args.batch, 3, height, width)).astype(np.float32)
    goals = targets(rng, args.batch, height, width)
    options: dict[str, Any] = {"num_classes": args.classes, "frozen_stages": 1}
    models = {
        backend: unidet.create_model("detr_r50_huggingface", backend=backend, **options)
        for backend in ("torch", "jittor")
    }
    net = make_peer(args.classes)
    sizes = [
        sum(p.numel() for p in side.parameters() if p.requires_grad)
        for side in (net, models["torch"])
    ]
    assert sizes[0] == sizes[1], sizes
    rows = []
    for train in (False, True):
        sides = {PEER: peer(net, images, goals, train)}
        for backend, model in models.items():
            sides[f"unidet {backend}"] = neutral(model, images, goals, train)
        title = (
            f"DETR-50, {args.batch} x 3 x {height} x {width}, "
            f"{'training step' if train else 'inference'}, {torch.get_num_threads()} threads"
        )
        rows += report(title, measure(sides, args.rounds), PEER)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
