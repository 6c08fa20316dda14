"""yhenon/pytorch-retinanet: names and families."""

from __future__ import annotations

from .family import Family, Form
from .networks import RetinaNetNetwork
from .rename import STEM_AND_STAGES, Table

_TABLE: Table = (
    *((part, f"backbone.{part}") for part in STEM_AND_STAGES),
    *((f"fpn.P{level}_1.", f"neck.lateral.{level - 3}.") for level in (3, 4, 5)),
    *((f"fpn.P{level}_2.", f"neck.output.{level - 3}.") for level in (3, 4, 5)),
    ("fpn.P6.", "neck.extra.0."),
    ("fpn.P7_2.", "neck.extra.1."),
    *((f"classificationModel.conv{i + 1}.", f"head.cls_tower.{i}.conv.") for i in range(4)),
    ("classificationModel.output.", "head.cls_out."),
    *((f"regressionModel.conv{i + 1}.", f"head.box_tower.{i}.conv.") for i in range(4)),
    ("regressionModel.output.", "head.box_out."),
)

FAMILIES = (
    Family(
        "yhenon_retinanet",
        "a RetinaNet of yhenon/pytorch-retinanet",
        RetinaNetNetwork(),
        (
            Form(
                "",
                _TABLE,
                ("classificationModel.output.weight", "regressionModel.output.weight"),
            ),
        ),
        preset="yhenon",
    ),
)
