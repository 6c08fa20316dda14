"""Conventions that names cannot tell and that a file states beside its weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .family import Family

_CAFFE = re.compile(r"""\bstyle['"]?\s*[=:]\s*['"]caffe['"]""")
_CONFIG_KEYS = ("config", "cfg")


@dataclass(frozen=True)
class Style:
    """How a file tells that it is of a variant of its family.

    Attributes:
        metadata: Whether what lies beside the weights says so; None where it does not tell.
        unknown: Remark then; ``{name}`` is the variant's.
        yes: Remark where it says so.
        no: Remark where it says that it is not.
    """

    metadata: Callable[[Mapping[str, Any]], bool | None]
    unknown: str
    yes: str
    no: str


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


def _is_caffe(extras: Mapping[str, Any]) -> bool | None:
    text = config_text(extras)
    return None if text is None else bool(_CAFFE.search(text))


CAFFE = Style(
    _is_caffe,
    unknown="the file does not say which style it is: taken for pytorch (RGB, divided by a "
    "standard deviation, stride in the 3x3); if it is caffe style, say {name}",
    yes="the file's config says caffe style",
    no="the file's config says pytorch style",
)


def written_config(family: Family) -> str:
    """What export writes as that config, so that the style is known again."""
    style = "caffe" if family.preset == "mmdet_caffe" else "pytorch"
    return f"model = dict(backbone=dict(type='{family.backbone}', style='{style}'))\n"


def with_style(
    family: Family, families: Mapping[str, Family], extras: Mapping[str, Any]
) -> tuple[Family, str]:
    """The variant that a file itself asks for, and a remark.

    Args:
        family: As the names tell.
        families: All of them.
        extras: What the file holds beside the weights.
    """
    for other in families.values():
        if other.variant_of != family.name or other.style is None:
            continue
        metadata = other.style.metadata(extras)
        if metadata is None:
            return family, other.style.unknown.format(name=other.name)
        return (other, other.style.yes) if metadata else (family, other.style.no)
    return family, ""


def contradiction(family: Family, families: Mapping[str, Family], extras: Mapping[str, Any]) -> str:
    """A remark where a family that was asked for is not the one that the file itself names."""
    base = families[family.variant_of] if family.variant_of else family
    styles = [other.style for other in families.values() if other.variant_of == base.name]
    if not any(style is not None and style.metadata(extras) is not None for style in styles):
        return ""
    metadata, remark = with_style(base, families, extras)
    if metadata.name == family.name:
        return ""
    return f"suspicious: {family.name} was asked for, but {remark}: {metadata.name}"
