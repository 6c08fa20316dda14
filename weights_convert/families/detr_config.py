"""The config.json that an export to Hugging Face's DETR writes beside the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CheckpointError
from .detr_settings import HUGGINGFACE, HUGGINGFACE_FIXED
from .detr_shapes import require_dilatable

#: What transformers does by itself, and what stands for it here.
_IMPLIED: dict[str, Any] = {
    "norm_eps": 1e-5,
    "match_measure": "giou",
    "weight_ce": 1,
    "box_loss": "giou",
    "box_loss_space": "normalised",
    "box_loss_eps": 0,
    "ciou_gate": False,
}
#: Arguments that the written config tells.
METADATA = frozenset(name for _, names, _ in HUGGINGFACE for name in names)


def written_config(
    model: Mapping[str, Any], names: Sequence[str], form: str, origin: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Content of config.json, and remarks on what it cannot say.

    Args:
        model: Name and arguments of the native model, every one.
        names: Of its classes, where known.
        form: Naming of the tensors that it goes with.
        origin: The config that the model was imported with: entries without a counterpart here
            stay, the backbone's among them.
    """
    arguments = model["arguments"]
    config: dict[str, Any] = {
        "architectures": ["DetrForObjectDetection"],
        **{key: allowed[0] for key, allowed in HUGGINGFACE_FIXED.items()},
        **(origin or _backbone(str(model["name"]), "resnet" in form)),
    }
    fractions = []
    for key, targets, kind in HUGGINGFACE:
        config[key] = value = arguments[targets[0]]
        # transformers 5 checks types: these are declared as int and float.
        if kind == "weight" and value == int(value):
            config[key] = int(value)
        elif kind == "weight":
            fractions.append(f"transformers 5 wants a whole number for {key}. It is {value!r}")
        elif kind == "positive":
            config[key] = float(value)
    count = arguments["num_classes"]
    labels = list(names) if len(names) == count else [f"LABEL_{i}" for i in range(count)]
    config["id2label"] = {str(i): name for i, name in enumerate(labels)}
    config["label2id"] = {name: i for i, name in enumerate(labels)}
    implied = {
        **_IMPLIED,
        "input_dropout": arguments["dropout"],
        "auxiliary_losses": arguments["renormalise"],
    }
    remarks = [
        f"config.json cannot say {name} {arguments[name]!r}: transformers takes {value!r}"
        for name, value in implied.items()
        if arguments[name] != value
    ]
    return config, remarks + fractions


def _backbone(name: str, own: bool) -> dict[str, Any]:
    """How transformers makes the backbone, without fetching weights for it."""
    found = re.match(r"detr_r(\d+)(_dc5)?", name)
    depth, dilated = (int(found[1]), bool(found[2])) if found else (50, False)
    if dilated:
        require_dilatable(depth)
        if own:
            raise CheckpointError(
                "Invalid form for a dilated last stage (DC5). Expected one with timm's backbone "
                "(file or memory). Received one with transformers' own, which does not dilate."
            )
    if own:
        return {"use_timm_backbone": False, "backbone_config": _own_resnet(depth)}
    return {
        "use_timm_backbone": True,
        "backbone": f"resnet{depth}",
        "use_pretrained_backbone": False,
        "dilation": dilated,
    }


def _own_resnet(depth: int) -> dict[str, Any]:
    from .architecture import BLOCKS

    bottleneck = depth >= 50
    return {
        "model_type": "resnet",
        "depths": list(BLOCKS[depth]),
        "hidden_sizes": [(64 << i) * (4 if bottleneck else 1) for i in range(4)],
        "layer_type": "bottleneck" if bottleneck else "basic",
        "out_features": ["stage4"],
    }
