"""All families of published checkpoints, by origin."""

from __future__ import annotations

from . import clip, detectron2, detr, mmdet, torchvision, unidetector, yhenon
from .family import Family

#: All families by name, in the order in which they are tried; plugins add theirs.
FAMILIES: dict[str, Family] = {
    family.name: family
    for origin in (torchvision, mmdet, detectron2, yhenon, clip, unidetector, detr)
    for family in origin.FAMILIES
}
