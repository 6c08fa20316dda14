"""Models on a GPU: unidet on PyTorch beside torchvision and Hugging Face's transformers.

Both sides get the same images and objects, those of torchvision the same weights, too, in one
process and by turns; a ratio is the median of the ratios of single rounds. Inference goes from
images on the host to detections (to logits in transformers), training to new weights. Needs a GPU,
torchvision and transformers.

    python benchmarks/gpu.py --size 800 1216 --batch 2 --rounds 15
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sides import Step, measure, report, targets, torch_step, unidet_step

import unidet
from unidet.backends import nn
from unidet.models.boxes.geometry import to_centres
from unidet.structures import Batch
from unidet.weights_convert import detect_family


def spread(net: torch.nn.Module) -> torch.nn.Module:
    """Larger class layers, so that fresh weights keep some boxes."""
    for name, value in net.named_parameters():
        if name.endswith(
            ("cls_logits.weight", "cls_score.weight", "class_labels_classifier.weight")
        ):
            value.data.mul_(30)
    return net


def twin(net: torch.nn.Module, **changes: Any) -> Any:
    """The peer's model in unidet, with the peer's weights."""
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    mapped = detect_family(state).to_native(state)
    name, arguments = mapped.description["name"], dict(mapped.description["arguments"])
    model = unidet.create_model(name, backend="torch", seed=None, **{**arguments, **changes})
    nn.load_arrays(model, mapped.arrays)
    return nn.to_device(model, "cuda")


def ours(model: Any, batch: Batch, train: bool) -> Step:
    """One step of unidet, from images on the host to detections or new weights."""
    return unidet_step(
        model,
        lambda: model.run(batch),
        list(batch.targets),
        train,
        lambda outputs: float(len(model.predict(outputs, batch)[0])),
    )


def torchvision_peer(name: str, batch: Batch, train: bool) -> tuple[Step, Any]:
    """A model of torchvision, which takes the images at the size they have."""
    from torchvision.models import detection, resnet50
    from torchvision.models.detection import backbone_utils
    from torchvision.ops import FrozenBatchNorm2d
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    for key, value in trunk.named_buffers():
        if key.endswith("bn3.weight"):
            value.fill_(0.2)  # norms that hold fresh weights' answers near 1
    height, width = batch.images.shape[2:]
    same = {"min_size": height, "max_size": width, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    extract = backbone_utils._resnet_fpn_extractor
    if name.startswith("retinanet"):
        levels: dict[str, Any] = {
            "returned_layers": [2, 3, 4],
            "extra_blocks": LastLevelP6P7(256, 256),
        }
        net: torch.nn.Module = detection.RetinaNet(extract(trunk, 5, **levels), 91, **same)
    else:
        net = detection.FasterRCNN(extract(trunk, 5), 91, **same)
    net = spread(net)
    model = twin(net, frozen_stages=-1)
    net = net.cuda()
    for one in (net, model):
        for value in one.parameters():
            value.requires_grad_(True)

    def images() -> list[torch.Tensor]:
        return list(torch.from_numpy(batch.images).cuda())

    goals = [
        {
            "boxes": torch.from_numpy(goal.boxes_xyxy).cuda(),
            "labels": torch.from_numpy(goal.labels).cuda(),
        }
        for goal in batch.targets
    ]
    return torch_step(
        net,
        lambda: float(len(net(images())[0]["boxes"].cpu())),
        lambda: sum(net(images(), goals).values()),  # type: ignore[arg-type, return-value]
        train,
    ), model


def transformers_peer(batch: Batch, train: bool) -> tuple[Step, Any]:
    """DETR of transformers, whose detections are its logits and boxes."""
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    config = DetrConfig(
        use_timm_backbone=False,
        backbone_config=ResNetConfig(out_features=["stage4"]),
        num_labels=91,
    )
    config.use_pretrained_backbone = False
    net = spread(DetrForObjectDetection(config))
    model = unidet.create_model(
        "detr_r50_huggingface", backend="torch", num_classes=91, frozen_stages=-1
    )
    model = nn.to_device(model, "cuda")
    net = net.cuda()
    for value in net.parameters():
        value.requires_grad_(True)
    height, width = batch.images.shape[2:]
    sides = np.array([width, height, width, height], np.float32)
    labels = [
        {
            "class_labels": torch.from_numpy(goal.labels).cuda(),
            "boxes": torch.from_numpy(to_centres(goal.boxes_xyxy) / sides).cuda(),
        }
        for goal in batch.targets
    ]
    return torch_step(
        net,
        lambda: float(net(torch.from_numpy(batch.images).cuda()).logits.ravel()[0]),
        lambda: net(torch.from_numpy(batch.images).cuda(), labels=labels).loss,
        train,
    ), model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=[800, 1216], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    # Both sides in full float32, as unidet computes.
    torch.backends.cudnn.allow_tf32 = False
    height, width = args.size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(args.batch, 3, height, width)).astype(np.float32)
    goals = targets(rng, args.batch, height, width)
    for goal in goals:
        goal.boxes_xyxy = np.minimum(goal.boxes_xyxy, np.float32([width, height] * 2))
        # Slot 0 is the background of the two-stage models.
        goal.labels = goal.labels + 1
    full = [(height, width)] * args.batch
    batch = Batch(images, full, full, [(1.0, 1.0)] * args.batch, goals, list(range(args.batch)))
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}, float32 without TF32")
    rows = []
    for name in ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn", "detr_resnet50"):
        for train in (False, True):
            if name.startswith("detr"):
                peer, (step, model) = "transformers", transformers_peer(batch, train)
            else:
                peer, (step, model) = "torchvision", torchvision_peer(name, batch, train)
            sides = {peer: step, "unidet torch": ours(model, batch, train)}
            if not train and peer == "torchvision":
                print(
                    f"\ndetections of the first image: {peer} {step():.0f}, unidet "
                    f"{sides['unidet torch']():.0f}"
                )
            title = (
                f"{name}, {args.batch} x 3 x {height} x {width}, "
                f"{'training step' if train else 'inference'}"
            )
            rows += report(title, measure(sides, args.rounds), peer)
            del step, model, sides
            torch.cuda.empty_cache()
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
