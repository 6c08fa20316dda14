"""Peers' tensor names and ours, for RetinaNet."""

from __future__ import annotations

import re

import numpy as np

_YHENON = [
    (r"^fpn\.P([345])_1\.", lambda m: f"neck.lateral.{int(m[1]) - 3}."),
    (r"^fpn\.P([345])_2\.", lambda m: f"neck.output.{int(m[1]) - 3}."),
    (r"^fpn\.P6\.", "neck.extra.0."),
    (r"^fpn\.P7_2\.", "neck.extra.1."),
    (r"^regressionModel\.conv(\d)\.", lambda m: f"head.box_tower.{int(m[1]) - 1}.conv."),
    (r"^classificationModel\.conv(\d)\.", lambda m: f"head.cls_tower.{int(m[1]) - 1}.conv."),
    (r"^regressionModel\.output\.", "head.box_out."),
    (r"^classificationModel\.output\.", "head.cls_out."),
    (r"^(conv1|bn1|layer\d)\.", r"backbone.\1."),
]
_TORCHVISION = [
    (r"^backbone\.body\.", "backbone."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.(0\.)?", r"neck.lateral.\1."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.(0\.)?", r"neck.output.\1."),
    (r"^backbone\.fpn\.extra_blocks\.p(\d)\.", lambda m: f"neck.extra.{int(m[1]) - 6}."),
    (r"^head\.classification_head\.conv\.(\d)\.0\.", r"head.cls_tower.\1.conv."),
    (r"^head\.regression_head\.conv\.(\d)\.0\.", r"head.box_tower.\1.conv."),
    (r"^head\.classification_head\.conv\.(\d)\.1\.", r"head.cls_tower.\1.norm."),
    (r"^head\.regression_head\.conv\.(\d)\.1\.", r"head.box_tower.\1.norm."),
    # Files from before torchvision 0.13: the ReLUs between the convolutions are counted.
    (
        r"^head\.classification_head\.conv\.(\d)\.(?=\w)",
        lambda m: f"head.cls_tower.{int(m[1]) // 2}.conv.",
    ),
    (
        r"^head\.regression_head\.conv\.(\d)\.(?=\w)",
        lambda m: f"head.box_tower.{int(m[1]) // 2}.conv.",
    ),
    (r"^head\.classification_head\.cls_logits\.", "head.cls_out."),
    (r"^head\.regression_head\.bbox_reg\.", "head.box_out."),
]
_MMDET = [
    (r"^neck\.lateral_convs\.(\d)\.conv\.", r"neck.lateral.\1."),
    (r"^neck\.fpn_convs\.([012])\.conv\.", r"neck.output.\1."),
    (r"^neck\.fpn_convs\.([34])\.conv\.", lambda m: f"neck.extra.{int(m[1]) - 3}."),
    (
        r"^bbox_head\.(cls|reg)_convs\.(\d)\.conv\.",
        lambda m: f"head.{_TOWER[m[1]]}_tower.{m[2]}.conv.",
    ),
    (r"^bbox_head\.retina_(cls|reg)\.", lambda m: f"head.{_TOWER[m[1]]}_out."),
    (r"^backbone\.", "backbone."),
]
_TOWER = {"cls": "cls", "reg": "box"}
_RULES = {"yhenon": _YHENON, "torchvision": _TORCHVISION, "mmdet": _MMDET}


def native_name(family: str, name: str) -> str:
    """Our name of a peer's tensor."""
    for pattern, replacement in _RULES[family]:
        new, count = re.subn(pattern, replacement, name)
        if count:
            return new
    raise KeyError(name)


def native_state(family: str, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A peer's tensors under our names."""
    return {native_name(family, name): value for name, value in state.items()}
