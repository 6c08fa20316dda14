"""Conventions that names cannot tell and that a file states beside its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .family import Family

_CAFFE = re.compile(r"""\bstyle['"]?\s*[=:]\s*['"]caffe['"]""")
_CONFIG_KEYS = ("config", "cfg")


def config_text(extras: Mapping[str, Any]) -> str | None:
    """The config that mmdetection writes beside the weights, or None.

    Args:
        extras: What the file holds beside the weights.
    """
    meta = extras.get("meta")
    if not isinstance(meta, Mapping):
        return None
    for key in _CONFIG_KEYS:
        value = meta.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, Mapping) and value:
            return repr(dict(value))
    return None


def written_config(family: Family) -> str:
    """What export writes as that config, so that the style is known again."""
    style = "caffe" if family.dialect == "mmdet_caffe" else "pytorch"
    return f"model = dict(backbone=dict(type='{family.backbone}', style='{style}'))\n"


def with_style(
    family: Family, families: Mapping[str, Family], extras: Mapping[str, Any]
) -> tuple[Family, str]:
    """The variant that a file's own config asks for, and a remark.

    Args:
        family: As the names tell.
        families: All of them.
        extras: What the file holds beside the weights.
    """
    variants = [other for other in families.values() if other.variant_of == family.name]
    if not variants:
        return family, ""
    text = config_text(extras)
    if text is None:
        return family, (
            "the file does not say which style it is: taken for pytorch (RGB, divided by a "
            f"standard deviation, stride in the 3x3); if it is caffe style, say {variants[0].name}"
        )
    if _CAFFE.search(text):
        return variants[0], "the file's config says caffe style"
    return family, "the file's config says pytorch style"


def contradiction(family: Family, families: Mapping[str, Family], extras: Mapping[str, Any]) -> str:
    """A remark where a family that was asked for is not the one that the file's config names."""
    base = families[family.variant_of] if family.variant_of else family
    if config_text(extras) is None:
        return ""
    told, _ = with_style(base, families, extras)
    if told.name == family.name:
        return ""
    return f"suspicious: {family.name} was asked for, but the file's config names {told.name}"
