"""What the configs of all models share: checks of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unidet.errors import suggestion
from unidet.files.shown import cut, shown


def require(good: bool, name: str, expected: str, received: Any) -> None:
    """Refuses an argument unless ``good``.

    Raises:
        ValueError: names the argument, what was expected and what was received.
    """
    if not good:
        received = cut(str(received).rstrip("."), 300)
        raise ValueError(f"Invalid value for `{name}`. Expected {expected}. Received {received}.")


#: Arguments that count channels, layers or pixels: a model has one at least.
SIZES = (
    *("fpn_channels", "head_channels", "head_groups", "clip_width", "embedding_dim", "roi_size"),
    *("embed_dim", "vision_width", "context_length", "vocab_size", "transformer_width"),
    *("transformer_heads", "transformer_layers", "num_classes", "width", "heads"),
)
#: Arguments of which each entry is a number above 0.
_LISTS = ("anchor_sizes", "anchor_ratios", "anchor_strides", "box_std")


def check_sizes(arguments: Mapping[str, Any]) -> None:
    """Refuses channels and anchors of no size, for every model.

    Raises:
        ValueError: names the argument, what was expected and what was received.
    """
    for name in SIZES:
        value = arguments.get(name)
        if isinstance(value, int):
            require(value >= 1, name, "1 or more", shown(value))
    for name in _LISTS:
        value = arguments.get(name)
        if value is not None:
            require(bool(value) and _positive(value), name, "numbers above 0", shown(value))


def _positive(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_positive, value))
    return not isinstance(value, (int, float)) or value > 0


def require_choices(config: Any, choices: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses a config whose arguments are not among their choices.

    Args:
        config: has an attribute for each name.
        choices: allowed values by name.

    Raises:
        ValueError: as :func:`require`, with a suggestion where a value is misspelt.
    """
    for name, allowed in choices.items():
        value = getattr(config, name)
        require(
            value in allowed,
            name,
            f"one of {', '.join(map(repr, allowed))}",
            f"{shown(value)}.{suggestion(str(value), map(str, allowed))}",
        )
